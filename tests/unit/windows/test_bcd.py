from __future__ import annotations

import struct
from uuid import UUID

import pytest

from imgconv.model import DeleteRegistryKey, Filesystem, Firmware, Inspection, Mount, WindowsOs
from imgconv.windows import bcd
from imgconv.windows.edits import Edits
from imgconv.windows.registry import Hive
from tests.fake_guest import FakeGuest
from tests.hives import Value, make_hive
from tests.windows_data import hive, needs_data

BOOTMGR = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
WINDOWS = "{733b62e5-f608-11eb-825c-c112f60133ab}"
MEMTEST = "{b2721d73-1db4-4c62-bf78-c548a880142d}"
PART = "8e0f2c38-e4ea-47ba-b7fc-9d8c74dccf0b"
PATH = "/system/EFI/Microsoft/Boot/BCD"


def inspection(firmware: Firmware = Firmware.UEFI, partuuid: str = PART) -> Inspection:
    return Inspection("/dev/sda3", "x86_64", firmware,
                      (Filesystem("/dev/sda3", "ntfs", partuuid=partuuid),),
                      (Mount("/dev/sda3", "/c"), Mount("/dev/sda1", "/system")),
                      WindowsOs("Windows", systemroot="/c/Windows"))


def device(partition: bytes, table: int, disk: bytes) -> bytes:
    return bytes(16) + struct.pack("<IIII", 6, 0, 72, 0) + partition.ljust(16, b"\0") + struct.pack(
        "<II", 0, table) + disk.ljust(32, b"\0")


GPT = device(UUID(PART).bytes_le, 0, UUID(int=5).bytes_le)
MBR = device((1 << 20).to_bytes(8, "little"), 1, bytes.fromhex("498663c9"))


def store(more: dict[str, bytes] | None = None, *, loader: str = r"\Windows\system32\winload.efi",
          os_device: bytes = GPT, default: str = WINDOWS) -> bytes:
    """A BCD with a boot manager, a Windows, and `more` elements ("object\\number")."""
    tree: dict[str, dict[str, Value]] = {
        rf"Objects\{BOOTMGR}\Description": {"Type": 0x10100002},
        rf"Objects\{BOOTMGR}\Elements\23000003": {"Element": default},
        rf"Objects\{WINDOWS}\Description": {"Type": 0x10200003},
        rf"Objects\{WINDOWS}\Elements\12000002": {"Element": loader},
        rf"Objects\{WINDOWS}\Elements\12000004": {"Element": "Windows 10"},
        rf"Objects\{WINDOWS}\Elements\21000001": {"Element": os_device},
        rf"Objects\{WINDOWS}\Elements\22000002": {"Element": r"\Windows"},
        rf"Objects\{MEMTEST}\Description": {"Type": 0x10200005},
    }
    for path, data in (more or {}).items():
        identifier, number = path.split("\\")
        tree[rf"Objects\{identifier}\Elements\{number}"] = {"Element": data}
    return make_hive(tree)


@pytest.mark.parametrize(("firmware", "path"), [
    (Firmware.UEFI, "/system/EFI/Microsoft/boot/bcd"), (Firmware.BIOS, "/system/Boot/BCD")])
def test_path(firmware: Firmware, path: str) -> None:
    assert bcd.path(FakeGuest({path: b""}), inspection(firmware)) == path
    assert bcd.path(FakeGuest({}), inspection(firmware)) is None


def test_path_on_one_partition() -> None:
    where = Inspection("/dev/sda1", "x86_64", Firmware.BIOS, (), (Mount("/dev/sda1", "/c"),),
                       WindowsOs("Windows"))
    assert bcd.path(FakeGuest({"/c/Boot/BCD": b""}), where) == "/c/Boot/BCD"


@pytest.mark.parametrize(("os_device", "partition"), [
    (GPT, PART), (MBR, "c9638649"), (b"", ""), (bytes(72), ""), (GPT[:60], ""),
    (device(bytes(16), 7, b""), "")])
def test_default(os_device: bytes, partition: str) -> None:
    entry = bcd.default(Hive(store(os_device=os_device)))
    assert entry == bcd.Entry(WINDOWS, "Windows 10", r"\Windows\system32\winload.efi", r"\Windows",
                              partition)


def test_test_signing() -> None:
    entry = bcd.default(Hive(store({rf"{WINDOWS}\16000049": b"\1"})))
    assert entry is not None
    assert entry.test_signing


def test_graphics_mode() -> None:
    content = store({rf"{WINDOWS}\16000046": b"\1", rf"{BOOTMGR}\16000046": b"\0",
                     rf"{MEMTEST}\16000046": b"\1"})
    edits = Edits(Hive(content), PATH)
    bcd.plan(edits, FakeGuest({}), inspection())
    change, = edits.changes()
    assert isinstance(change, DeleteRegistryKey)
    assert change.key == rf"Objects\{WINDOWS}\Elements\16000046"
    assert "graphicsmodedisabled" in change.why
    guest = FakeGuest({PATH: content})
    guest.edit_registry(PATH, edits.changes())
    again = Edits(Hive(guest.files[PATH]), PATH)
    bcd.plan(again, guest, inspection())
    assert again.changes() == ()
    assert bcd.default(again.hive) == bcd.default(edits.hive)


def test_graphics_mode_is_uefis() -> None:
    edits = Edits(Hive(store({rf"{WINDOWS}\16000046": b"\1"})), PATH)
    bcd.plan(edits, FakeGuest({}), inspection(Firmware.BIOS))
    assert edits.changes() == ()


@pytest.mark.parametrize(("file", "gone"), [
    ("/c/Hiberfil.sys", False), ("/c/pagefile.sys", True), ("/system/hiberfil.sys", True)])
def test_a_session_that_is_gone_is_not_resumed(file: str, gone: bool) -> None:
    edits = Edits(Hive(store({rf"{BOOTMGR}\26000005": b"\1"})), PATH)
    bcd.plan(edits, FakeGuest({file: b""}), inspection(Firmware.BIOS))
    assert [c.key for c in edits.changes()] == (
        [rf"Objects\{BOOTMGR}\Elements\26000005"] if gone else [])


@pytest.mark.parametrize(("content", "where", "message"), [
    (store(default="{none}"), inspection(), "names no Windows"),
    (make_hive({"Objects": {}}), inspection(), "names no Windows"),
    (make_hive({}), inspection(), "names no Windows"),
    (store(), inspection(Firmware.BIOS), "winload.efi, which is none of BIOS"),
    (store(loader=r"\Windows\system32\winload.exe"), inspection(), "none of UEFI"),
    (store(), inspection(partuuid="00000000-0000-0000-0000-000000000001"), "another partition"),
    (store(loader=r"\w\winload.exe", os_device=MBR), inspection(Firmware.BIOS, "deadbeef-03"),
     "another partition"),
])
def test_warnings(content: bytes, where: Inspection, message: str) -> None:
    said, = bcd.warnings(Hive(content), where)
    assert message in said


@pytest.mark.parametrize(("content", "where"), [
    (store(), inspection()), (store(), inspection(partuuid="")),
    (store(loader=r"\w\winload.exe", os_device=MBR), inspection(Firmware.BIOS, "c9638649-03"))])
def test_no_warnings(content: bytes, where: Inspection) -> None:
    assert bcd.warnings(Hive(content), where) == ()


@needs_data
def test_real() -> None:
    real = Hive(hive("BCD"))
    assert bcd.default(real) == bcd.Entry(WINDOWS, "Windows 10", r"\Windows\system32\winload.efi",
                                          r"\Windows", PART)
    assert len(bcd.entries(real)) == 2
    assert bcd.warnings(real, inspection()) == ()
    edits = Edits(real, PATH)
    bcd.plan(edits, FakeGuest({"/c/hiberfil.sys": b""}), inspection())
    assert edits.changes() == ()
