"""The promise itself, on a real Debian guest: it did not boot from virtio, and now it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imgconv import machine as machines
from imgconv import pipeline
from imgconv.boot import BootEvidence, Verdict, activity, here
from imgconv.model import (
    AppendFile,
    Bus,
    Disk,
    Firmware,
    InitramfsMode,
    Machine,
    Names,
    Nic,
    Options,
    RunInGuest,
)

MACHINE = Machine(
    name="legacy", arch="x86_64", machine_type="q35", firmware=Firmware.BIOS, cpu="max", cpus=1,
    memory=1024, bus=Bus.VIRTIO_BLK, disks=(), nics=(Nic("virtio-net-pci"),), rng=True)


def boots(machine: Machine, workspace: Path) -> BootEvidence:
    evidence = here.boot(machine, workspace=workspace, screenshot=workspace / "screen.png")
    print(evidence.serial[-4000:])
    return evidence


def test_unconverted_guest_does_not_boot_from_virtio(legacy_guest: Path, tmp_path: Path) -> None:
    """The negative control, without which the other tests would prove nothing."""
    evidence = boots(replace(MACHINE, disks=(Disk(legacy_guest, "qcow2"),)), tmp_path)
    assert evidence.verdict is Verdict.NOT_BOOTED
    assert "/dev/sda1 does not exist" in evidence.reason
    assert evidence.disk.writes == 0
    assert "virtio_blk" not in evidence.drivers


@pytest.mark.parametrize("names", Names)
@pytest.mark.parametrize("mode", [InitramfsMode.SPLICE, InitramfsMode.REBUILD])
def test_converted_guest_boots(legacy_guest: Path, tmp_path: Path, names: Names,
                               mode: InitramfsMode, copy_of: Callable[[Path], Path]) -> None:
    disk = copy_of(legacy_guest)
    job = pipeline.Job((disk,), Options(names=names, initramfs=mode), memory=1024, cpus=1)
    report = pipeline.virtio_ize(job)
    assert report.committed, report.findings
    assert report.plan is not None
    kinds = {type(change) for change in report.plan.changes}
    assert ({AppendFile, RunInGuest} & kinds
            == {AppendFile if mode is InitramfsMode.SPLICE else RunInGuest})

    assert report.machine is not None
    evidence = boots(report.machine, tmp_path)
    assert evidence.verdict is Verdict.BOOTED, evidence.reason
    assert evidence.root_device == "/dev/vda1"
    assert evidence.swap_devices == ("/dev/vda2",)
    assert "virtio_blk" in evidence.drivers
    assert activity.by_kernel(evidence.disk)

    if names is Names.UUID:
        evidence = boots(machines.on_bus(report.machine, Bus.IDE), tmp_path)
        assert evidence.verdict is Verdict.BOOTED, evidence.reason
        assert evidence.root_device == "/dev/sda1"
        assert evidence.swap_devices == ("/dev/sda2",)


def test_virtio_scsi(legacy_guest: Path, tmp_path: Path, copy_of: Callable[[Path], Path]) -> None:
    """On virtio-scsi a disk is called sda again, so only the initramfs needs to change."""
    job = pipeline.Job((copy_of(legacy_guest),),
                       Options(names=Names.DEVICE, block=Bus.VIRTIO_SCSI), memory=1024, cpus=1)
    report = pipeline.virtio_ize(job)
    assert report.committed, report.findings
    assert report.machine is not None
    assert report.machine.bus is Bus.VIRTIO_SCSI
    evidence = boots(report.machine, tmp_path)
    assert evidence.verdict is Verdict.BOOTED, evidence.reason
    assert evidence.root_device == "/dev/sda1"
    assert evidence.swap_devices == ("/dev/sda2",)
    assert "virtio_scsi" in evidence.serial or "Virtio SCSI HBA" in evidence.serial
