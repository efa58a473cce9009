from __future__ import annotations

import pytest

from imgconv.errors import CannotConvert
from imgconv.model import Filesystem, Firmware, Inspection, Mount, WindowsOs
from imgconv.windows import volumes

NTFS = {"TYPE": "ntfs", "PART_ENTRY_TYPE": "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7"}


@pytest.mark.parametrize("tag", [
    {"TYPE": "ntfs", "PART_ENTRY_TYPE": "0x42"},
    {"PART_ENTRY_TYPE": "5808C8AA-7E8F-42E0-85D2-E1E90434CFB3"},
    {"TYPE": "ntfs", "PART_ENTRY_TYPE": "af9b60a0-1431-4f62-bc68-3311714a69ad"}])
@pytest.mark.parametrize("root", [None, "/dev/sda1"])
def test_dynamic_disk(tag: dict[str, str], root: str | None) -> None:
    with pytest.raises(CannotConvert, match=r"dynamic disk .*/dev/sda2") as caught:
        volumes.check({"/dev/sda1": NTFS, "/dev/sda2": tag}, root)
    assert "basic" in caught.value.hint


def test_storage_spaces() -> None:
    pool = {"PART_ENTRY_TYPE": "e75caf8f-f680-4cee-afa3-b001e56efc2d"}
    with pytest.raises(CannotConvert, match=r"Storage Spaces .*/dev/sdb1"):
        volumes.check({"/dev/sda1": NTFS, "/dev/sdb1": pool}, "/dev/sda1")


@pytest.mark.parametrize("root", [None, "/dev/sda2"])
def test_bitlocker_on_c(root: str | None) -> None:
    with pytest.raises(CannotConvert, match="BitLocker") as caught:
        volumes.check({"/dev/sda1": NTFS, "/dev/sda2": {"TYPE": "BitLocker"}}, root)
    assert "manage-bde -off" in caught.value.hint


def test_bitlocker_on_a_data_volume() -> None:
    volumes.check({"/dev/sda1": NTFS, "/dev/sda2": {"TYPE": "BitLocker"}}, "/dev/sda1")
    inspection = Inspection(
        "/dev/sda1", "x86_64", Firmware.BIOS,
        (Filesystem("/dev/sda1", "ntfs"), Filesystem("/dev/sda2", "BitLocker")),
        (Mount("/dev/sda1", "/c"),), WindowsOs("Windows"))
    said, = volumes.warnings(inspection)
    assert said.startswith("/dev/sda2 is encrypted")


def test_plain_disk() -> None:
    volumes.check({"/dev/sda1": {"TYPE": "vfat", "PART_ENTRY_TYPE": "0x7"}, "/dev/sda2": {}}, None)
