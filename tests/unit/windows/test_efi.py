from __future__ import annotations

import pytest

from imgconv.errors import CannotConvert
from imgconv.model import Filesystem, Firmware, Inspection, Mount, WindowsOs, WriteFile
from imgconv.windows import efi
from tests.fake_guest import FakeGuest

LOADER = b"MZ" + b"loader" * 100
BOOTMGFW = "/system/EFI/Microsoft/Boot/bootmgfw.efi"


def inspection(arch: str = "x86_64", firmware: Firmware = Firmware.UEFI) -> Inspection:
    return Inspection("/dev/sda3", arch, firmware, (Filesystem("/dev/sda3", "ntfs"),),
                      (Mount("/dev/sda3", "/c"), Mount("/dev/sda1", "/system")),
                      WindowsOs("Windows", systemroot="/c/Windows"))


@pytest.mark.parametrize(("arch", "name"), [
    ("x86_64", "BOOTX64.EFI"), ("i386", "BOOTIA32.EFI"), ("aarch64", "BOOTAA64.EFI")])
def test_copy(arch: str, name: str) -> None:
    guest = FakeGuest({BOOTMGFW: LOADER})
    change, = efi.plan(guest, inspection(arch))
    assert isinstance(change, WriteFile)
    assert (change.path, change.content) == (f"/system/EFI/BOOT/{name}", LOADER)
    assert change.before is None
    guest.write(change.path, change.content, change.mode)
    assert efi.plan(guest, inspection(arch)) == ()


def test_spelling() -> None:
    guest = FakeGuest({"/system/efi/microsoft/BOOT/BOOTMGFW.EFI": LOADER,
                       "/system/efi/Boot/grub.efi": b"MZ"})
    change, = efi.plan(guest, inspection())
    assert change.path == "/system/efi/Boot/BOOTX64.EFI"


def test_nothing_to_do() -> None:
    assert efi.plan(FakeGuest({"/system/efi/boot/bootx64.efi": b"MZ other", BOOTMGFW: LOADER}),
                    inspection()) == ()
    assert efi.plan(FakeGuest({}), inspection(firmware=Firmware.BIOS)) == ()


@pytest.mark.parametrize("files", [{}, {BOOTMGFW: b""}, {BOOTMGFW: b"\x7fELF"}])
def test_no_loader(files: dict[str, bytes]) -> None:
    with pytest.raises(CannotConvert, match="no loader") as caught:
        efi.plan(FakeGuest(files), inspection())
    assert "bcdboot" in caught.value.hint
