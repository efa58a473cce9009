"""Which firmware starts a system, and from which partition, by what blkid says of all disks."""

from __future__ import annotations

import pytest

from imgconv.guest import inspection
from imgconv.model import Filesystem, Firmware, WindowsOs

ESP = {"TYPE": "vfat", "PART_ENTRY_SCHEME": "gpt",
       "PART_ENTRY_TYPE": "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"}
BIOS_BOOT = {"PART_ENTRY_SCHEME": "gpt", "PART_ENTRY_TYPE": "21686148-6449-6e6f-744e-656564454649"}
NTFS = {"TYPE": "ntfs", "PART_ENTRY_SCHEME": "gpt"}
OLD = {"TYPE": "ntfs", "PART_ENTRY_SCHEME": "dos"}
ACTIVE = {"TYPE": "ntfs", "PART_ENTRY_SCHEME": "dos", "PART_ENTRY_FLAGS": "0x80"}
ACTIVE_LINUX = ACTIVE | {"TYPE": "ext4"}


@pytest.mark.parametrize(("tags", "root", "firmware", "start"), [
    ({"/dev/sda1": ESP, "/dev/sda2": NTFS}, "/dev/sda2", Firmware.UEFI, "/dev/sda1"),
    ({"/dev/sda1": ACTIVE, "/dev/sda2": OLD}, "/dev/sda2", Firmware.BIOS, "/dev/sda1"),
    ({"/dev/sda1": ACTIVE}, "/dev/sda1", Firmware.BIOS, "/dev/sda1"),
    # A data disk with an active partition, before and behind.
    ({"/dev/sda1": ESP, "/dev/sda2": NTFS, "/dev/sdb1": ACTIVE}, "/dev/sda2", Firmware.UEFI,
     "/dev/sda1"),
    ({"/dev/sda1": ACTIVE, "/dev/sdb1": ESP, "/dev/sdb2": NTFS}, "/dev/sdb2", Firmware.UEFI,
     "/dev/sdb1"),
    # Another system's start.
    ({"/dev/sda1": ESP, "/dev/sdb1": ESP, "/dev/sdb2": NTFS}, "/dev/sdb2", Firmware.UEFI,
     "/dev/sdb1"),
    ({"/dev/sda1": ACTIVE, "/dev/sdb1": ACTIVE, "/dev/sdb2": OLD}, "/dev/sdb2", Firmware.BIOS,
     "/dev/sdb1"),
    ({"/dev/sda1": ESP, "/dev/sdb1": ACTIVE}, "/dev/sdb1", Firmware.BIOS, "/dev/sdb1"),
    ({"/dev/sda1": ACTIVE_LINUX, "/dev/sda2": OLD, "/dev/sdb1": ACTIVE}, "/dev/sda2",
     Firmware.BIOS, "/dev/sda2"),
    # The start is on another disk, because there is none on this one.
    ({"/dev/sda1": ACTIVE, "/dev/sdb1": OLD}, "/dev/sdb1", Firmware.BIOS, "/dev/sda1"),
    ({"/dev/sda1": NTFS, "/dev/sdb1": ESP}, "/dev/sda1", Firmware.UEFI, "/dev/sdb1"),
    # The first of several; both kinds of start; disks beyond the 26th.
    ({"/dev/sda1": ESP, "/dev/sda2": ESP, "/dev/sda3": NTFS}, "/dev/sda3", Firmware.UEFI,
     "/dev/sda1"),
    ({"/dev/sda1": ESP, "/dev/sda2": BIOS_BOOT, "/dev/sda3": NTFS}, "/dev/sda3", Firmware.BIOS,
     "/dev/sda3"),
    ({"/dev/sda1": ACTIVE, "/dev/sdaa1": ESP, "/dev/sdaa2": NTFS}, "/dev/sdaa2", Firmware.UEFI,
     "/dev/sdaa1"),
    ({"/dev/sda": {"TYPE": "ntfs"}}, "/dev/sda", Firmware.BIOS, "/dev/sda"),
])
def test_start(tags: inspection.Tags, root: str, firmware: Firmware, start: str) -> None:
    assert inspection._firmware(tags, root) is firmware
    found = inspection._windows(root, "x86_64", WindowsOs("Windows", "10.0.16299", "/Windows"),
                                (Filesystem(root, "ntfs"),), tags)
    assert found.firmware is firmware
    assert {mount.path: mount.device for mount in found.mounts} == (
        {"/c": root} | ({"/system": start} if start != root else {}))


@pytest.mark.parametrize(("tags", "firmware"), [
    ({"/dev/sda1": ESP, "/dev/sdb1": {"TYPE": "LVM2_member"}}, Firmware.UEFI),
    ({"/dev/sda1": ESP, "/dev/sda2": BIOS_BOOT}, Firmware.BIOS),
    ({"/dev/sda1": ACTIVE_LINUX, "/dev/sdb1": ESP}, Firmware.BIOS)])
@pytest.mark.parametrize("root", ["/dev/vg0/root", "/dev/md127"])
def test_a_root_on_no_one_disk(tags: inspection.Tags, firmware: Firmware, root: str) -> None:
    assert inspection._firmware(tags | {root: {"TYPE": "ext4"}}, root) is firmware
