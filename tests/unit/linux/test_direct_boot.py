"""What the machine of a guest without boot loader starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imgconv import machine
from imgconv.linux import direct_boot
from imgconv.model import (
    Bus,
    Capabilities,
    DirectBoot,
    Disk,
    Filesystem,
    Firmware,
    Inspection,
    LinuxOs,
    Machine,
)
from tests.fake_guest import FakeGuest
from tests.guests import RELEASE, ROOT_UUID, Legacy

BARE = Inspection("/dev/sda", "x86_64", Firmware.BIOS,
                  (Filesystem("/dev/sda", "ext4", "1234-abcd"),), (), LinuxOs("alpine", "A", "3"))


def chosen(folder: Path) -> Machine:
    return machine.choose(BARE, Capabilities(Bus.VIRTIO_BLK), (Disk(folder / "a.raw", "raw"),),
                          name="a")


def bare(legacy: Legacy) -> tuple[FakeGuest, Inspection]:
    """`legacy` without boot loader."""
    guest, inspection = legacy.build()
    return FakeGuest({path: content for path, content in guest.files.items()
                      if "grub" not in path}), inspection


def test_a_boot_loader_starts_the_kernel_itself() -> None:
    guest, inspection = Legacy().build()
    assert direct_boot.read(guest, inspection, Bus.VIRTIO_BLK) is None


def test_kernel_and_initramfs_come_from_the_guest() -> None:
    guest, inspection = bare(Legacy())
    files = direct_boot.read(guest, inspection, Bus.VIRTIO_BLK)
    assert files is not None
    assert files.kernel == guest.read(f"/boot/vmlinuz-{RELEASE}")
    assert files.initrd == guest.read(f"/boot/initrd.img-{RELEASE}", 1 << 30)
    assert files.cmdline == (
        f"root=UUID={ROOT_UUID} rootfstype=ext4 ro console=tty0 console=ttyS0")


@pytest.mark.parametrize(("change", "bus", "initrd", "words"), [
    ({}, Bus.VIRTIO_BLK, True, "root=UUID=1234-abcd rootfstype=ext4 ro "),
    # Only an initramfs knows filesystems' UUIDs.
    ({}, Bus.VIRTIO_BLK, False, "root=/dev/vda rootfstype=ext4 ro "),
    ({}, Bus.SATA, False, "root=/dev/sda rootfstype=ext4 ro "),
    ({"partuuid": "77-01"}, Bus.VIRTIO_BLK, False, "root=PARTUUID=77-01 rootfstype=ext4 ro "),
    ({"uuid": ""}, Bus.VIRTIO_SCSI, True, "root=/dev/sda rootfstype=ext4 ro "),
])
def test_the_root_is_named_as_it_is_found(change: dict[str, str], bus: Bus, initrd: bool,
                                          words: str) -> None:
    inspection = replace(BARE, filesystems=(
        Filesystem(**{"device": "/dev/sda", "type": "ext4", "uuid": "1234-abcd"} | change),))
    assert direct_boot.command_line(inspection, bus, initrd=initrd).startswith(words)


def test_a_root_that_nobody_makes_writable_later() -> None:
    line = direct_boot.command_line(BARE, Bus.VIRTIO_BLK, initrd=True, writable=True)
    assert " rw rootflags=rw " in line
    line = direct_boot.command_line(BARE, Bus.VIRTIO_BLK, initrd=False, writable=True)
    assert " rw console" in line


def test_arm_has_another_serial_port() -> None:
    line = direct_boot.command_line(replace(BARE, arch="aarch64"), Bus.VIRTIO_BLK, initrd=True)
    assert line.endswith(" console=ttyAMA0")


def test_the_files_are_beside_the_disk_or_where_they_shall_be(tmp_path: Path) -> None:
    files = direct_boot.Files(b"kernel", b"initrd", "root=/dev/vda")
    there = chosen(tmp_path)
    named = direct_boot.beside(there, files)
    assert named.direct == DirectBoot(tmp_path / "a.raw.vmlinuz", tmp_path / "a.raw.initrd",
                                      "root=/dev/vda")
    assert list(tmp_path.iterdir()) == []
    assert direct_boot.write(there, files) == named
    assert [path.read_bytes() for path in direct_boot.outputs(named)] == [b"kernel", b"initrd"]
    other = tmp_path / "other"
    other.mkdir()
    moved = direct_boot.write(there, replace(files, initrd=b""), other)
    assert moved.direct == DirectBoot(other / "guest.vmlinuz", None, "root=/dev/vda")
    assert direct_boot.outputs(moved) == (other / "guest.vmlinuz",)
    assert [path.name for path in other.iterdir()] == ["guest.vmlinuz"]


def test_nothing_is_written_for_a_guest_with_a_boot_loader(tmp_path: Path) -> None:
    there = chosen(tmp_path)
    assert direct_boot.write(there, None) == direct_boot.beside(there, None) == there
    assert direct_boot.outputs(there) == ()
    assert list(tmp_path.iterdir()) == []
