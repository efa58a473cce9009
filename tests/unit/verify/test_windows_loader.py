"""From the firmware to Windows' loader: each file broken once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgconv.model import Finding, Firmware, Inspection, Level
from imgconv.verify import windows_loader
from tests import windows_hives, windows_pe
from tests.fake_guest import FakeGuest
from tests.hives import make_hive
from tests.windows_data import needs_data
from tests.windows_guests import RELEASES, WindowsTree

_FALLBACK = "/system/EFI/BOOT/BOOTX64.EFI"
_LOADER = "/system/EFI/Microsoft/Boot/bootmgfw.efi"
_UEFI_BCD = "/system/EFI/Microsoft/Boot/BCD"
_BIOS_BCD = "/system/Boot/BCD"
_TREES = {"11": WindowsTree(RELEASES["11"], Firmware.UEFI), "7": WindowsTree(RELEASES["7"]),
          "xp": WindowsTree(RELEASES["xp"])}


def _guest(name: str) -> tuple[FakeGuest, Inspection]:
    guest, inspection = _TREES[name].build()
    if inspection.firmware is Firmware.UEFI:
        guest.files[_FALLBACK] = guest.files[_LOADER]
    return guest, inspection


def _found(guest: FakeGuest, inspection: Inspection) -> list[Finding]:
    return list(windows_loader.findings(guest, inspection))


@pytest.mark.parametrize(("name", "subjects"), [
    ("11", ["BOOTX64.EFI", "bootmgfw.efi", "BCD", "loader"]), ("7", ["bootmgr", "BCD", "loader"]),
    ("xp", ["ntldr", "boot.ini", "NTDETECT.COM"])])
def test_unbroken(name: str, subjects: list[str]) -> None:
    found = _found(*_guest(name))
    assert [finding.subject for finding in found] == [f"start: {one}" for one in subjects]
    assert {finding.level for finding in found} == {Level.PROVEN}


def _bcd(*, efi: bool, without: str = "", loader: str = "") -> bytes:
    where = windows_hives.device(1 << 20, 5)
    keys = windows_hives.bcd(RELEASES["7"], efi=efi, boot=where, root=where)
    keys = {key: values for key, values in keys.items()
            if not without or not key.endswith(without)}
    return make_hive({key: {"Element": loader} if loader and key.endswith("12000002") else values
                      for key, values in keys.items()})


@pytest.mark.parametrize(("name", "path", "content", "subject"), [
    *(("11", path, content, f"start: {path.rpartition('/')[2]}") for path in (_FALLBACK, _LOADER)
      for content in (None, b"", b"MZ", windows_pe.loader("x86"), windows_pe.loader("amd64")[:900],
                      bytes(5000))),
    *(("11", _UEFI_BCD, content, "start: BCD") for content in (
        None, b"", bytes(8192), _bcd(efi=True, without="23000003"), make_hive({}))),
    *(("11", _UEFI_BCD, content, "start: loader") for content in (
        _bcd(efi=False), _bcd(efi=True, without="12000002"),
        _bcd(efi=True, loader="\\..\\x.efi"))),
    ("11", "/c/Windows/System32/winload.efi", None, "start: loader"),
    ("11", "/c/Windows/System32/winload.efi", b"", "start: loader"),
    ("7", "/system/bootmgr", None, "start: bootmgr"),
    ("7", "/system/bootmgr", b"", "start: bootmgr"),
    ("7", _BIOS_BCD, None, "start: BCD"),
    ("7", _BIOS_BCD, _bcd(efi=False, without="23000003"), "start: BCD"),
    ("7", _BIOS_BCD, _bcd(efi=True), "start: loader"),
    ("7", "/c/Windows/System32/winload.exe", None, "start: loader"),
    ("7", "/c/Windows/System32/winload.exe", windows_pe.driver("x86"), "start: loader"),
    *(("xp", f"/c/{name}", content, f"start: {name}")
      for name in ("ntldr", "boot.ini", "NTDETECT.COM") for content in (None, b"")),
])
def test_broken(name: str, path: str, content: bytes | None, subject: str) -> None:
    guest, inspection = _guest(name)
    del guest.files[path]
    if content is not None:
        guest.files[path] = content
    assert [f.subject for f in _found(guest, inspection) if f.level is Level.FAILED] == [subject]


def test_the_windows_of_another_partition_is_not_looked_for() -> None:
    guest, inspection = _guest("11")
    del guest.files["/c/Windows/System32/winload.efi"]
    elsewhere = replace(inspection, filesystems=tuple(
        replace(one, partuuid="00000000-0000-0000-0000-000000000001")
        for one in inspection.filesystems))
    *_, loader = _found(guest, elsewhere)
    assert (loader.subject, loader.level) == ("start: loader", Level.WARNING)


@needs_data
def test_a_real_configuration() -> None:
    tree = WindowsTree(RELEASES["10"], Firmware.UEFI, real=True)
    guest, inspection = tree.build()
    guest.files[_FALLBACK] = guest.files[_LOADER]
    assert {finding.level for finding in _found(guest, inspection)} == {Level.PROVEN}
