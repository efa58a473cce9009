"""Prove that a converted guest still boots where it comes from."""

from __future__ import annotations

from dataclasses import replace

from imgconv import linux
from imgconv.guest.protocols import Reader
from imgconv.model import Bus, Finding, Firmware, Inspection, Plan, WindowsOs
from imgconv.verify import linux as verify_linux


def bus(reader: Reader, inspection: Inspection) -> Bus | None:
    """What the guest's disks hang on where it comes from, as far as the guest tells; None on
    machines that never had anything but virtio."""
    if inspection.arch == "aarch64":
        return None
    if isinstance(inspection.os, WindowsOs):
        return Bus.SATA if inspection.firmware is Firmware.UEFI else Bus.IDE
    return linux.old_bus(reader)


def verify(reader: Reader, inspection: Inspection, plan: Plan, old: Bus) -> tuple[Finding, ...]:
    """What is proven, or not, of the converted guest on its old bus.

    What is proven of every Windows covers the way back already.
    """
    if isinstance(inspection.os, WindowsOs):
        return ()
    there = replace(plan, capabilities=replace(plan.capabilities, block=old))
    return tuple(replace(finding, subject=f"{finding.subject} (on {old})")
                 for finding in verify_linux.verify(reader, inspection, there))
