"""An arm64 guest on QEMU's virt machine, by UEFI: judged right, with the disk's driver and without.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgconv import machine
from imgconv.boot import Verdict, here
from imgconv.model import Bus, Capabilities, Disk, Firmware, Inspection, LinuxOs
from tests.boot import arm_guest


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    tar = tmp_path_factory.mktemp("arm64") / "packages.tar"
    arm_guest.fetch(tar)
    yield tar
    tar.unlink()


@pytest.mark.parametrize("virtio", [True, False])
def test_both_ways(packages: Path, tmp_path: Path, virtio: bool) -> None:
    disk = arm_guest.build(tmp_path, packages, virtio=virtio)
    virtual = machine.choose(
        Inspection("/dev/sda2", "aarch64", Firmware.UEFI, (), (), LinuxOs("debian", "D", "12")),
        Capabilities(Bus.VIRTIO_BLK), (Disk(disk, "raw"),), name="arm", memory=1024, cpus=1)
    assert virtual.machine_type == "virt"
    evidence = here.boot(virtual, workspace=tmp_path)
    print(evidence.serial[-4000:])
    assert "EFI v2" in evidence.serial
    if virtio:
        assert evidence.verdict is Verdict.BOOTED, evidence.reason
        assert evidence.root_device == "/dev/vda2"
        assert evidence.swap_devices == ("/dev/vda3",)
        assert "virtio_blk" in evidence.drivers
    else:
        assert evidence.verdict is Verdict.NOT_BOOTED, evidence.reason
        assert "Kernel panic" in evidence.reason
