from __future__ import annotations

import pytest

from imgconv.errors import CannotConvert
from imgconv.model import Filesystem, Firmware, Inspection, Mount, WindowsOs, WriteFile
from imgconv.windows import efi
from imgconv.windows.versions import ARCHES
from tests import windows_pe
from tests.fake_guest import FakeGuest

LOADER = windows_pe.loader("amd64")
OTHER = windows_pe.program("amd64")
BOOTMGFW = "/system/EFI/Microsoft/Boot/bootmgfw.efi"


def inspection(arch: str = "x86_64", firmware: Firmware = Firmware.UEFI) -> Inspection:
    return Inspection("/dev/sda3", arch, firmware, (Filesystem("/dev/sda3", "ntfs"),),
                      (Mount("/dev/sda3", "/c"), Mount("/dev/sda1", "/system")),
                      WindowsOs("Windows", systemroot="/c/Windows"))


@pytest.mark.parametrize(("arch", "name"), [
    ("x86_64", "BOOTX64.EFI"), ("i386", "BOOTIA32.EFI"), ("aarch64", "BOOTAA64.EFI")])
def test_copy(arch: str, name: str) -> None:
    loader = windows_pe.loader(ARCHES[arch])
    guest = FakeGuest({BOOTMGFW: loader})
    change, = efi.plan(guest, inspection(arch))
    assert isinstance(change, WriteFile)
    assert (change.path, change.content) == (f"/system/EFI/BOOT/{name}", loader)
    assert change.before is None
    guest.write(change.path, change.content, change.mode)
    assert efi.plan(guest, inspection(arch)) == ()


def test_spelling() -> None:
    guest = FakeGuest({"/system/efi/microsoft/BOOT/BOOTMGFW.EFI": LOADER,
                       "/system/efi/Boot/grub.efi": b"MZ"})
    change, = efi.plan(guest, inspection())
    assert change.path == "/system/efi/Boot/BOOTX64.EFI"


def test_nothing_to_do() -> None:
    assert efi.plan(FakeGuest({"/system/efi/boot/bootx64.efi": OTHER, BOOTMGFW: LOADER}),
                    inspection()) == ()
    assert efi.plan(FakeGuest({}), inspection(firmware=Firmware.BIOS)) == ()


@pytest.mark.parametrize("unusable", [
    b"", b"MZ", LOADER[:700], bytes(4096), windows_pe.loader("x86"), windows_pe.loader("arm64")])
def test_a_loader_that_cannot_be_started_is_replaced(unusable: bytes) -> None:
    guest = FakeGuest({"/system/efi/boot/bootx64.efi": unusable, BOOTMGFW: LOADER})
    change, = efi.plan(guest, inspection())
    assert (change.path, change.content, change.before) == (
        "/system/efi/boot/bootx64.efi", LOADER, unusable)


@pytest.mark.parametrize("files", [
    {}, {BOOTMGFW: b""}, {BOOTMGFW: b"\x7fELF"}, {BOOTMGFW: windows_pe.loader("x86")}])
def test_no_loader(files: dict[str, bytes]) -> None:
    with pytest.raises(CannotConvert, match="no loader") as caught:
        efi.plan(FakeGuest(files), inspection())
    assert "bcdboot" in caught.value.hint
