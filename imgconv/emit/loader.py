"""Platforms that start what is on the disk, and nothing else."""

from __future__ import annotations

from imgconv.errors import CannotConvert
from imgconv.model import Machine


def require(machine: Machine, platform: str) -> None:
    """Raise CannotConvert for a machine that is given its kernel from outside."""
    if machine.direct is not None:
        raise CannotConvert(
            f"{platform} starts a guest by its boot loader, and this one has none",
            hint="install one in the guest, or use an output that starts its kernel: qemu, libvirt")
