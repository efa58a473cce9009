"""Prove what comes between the firmware and Windows' kernel: boot manager, configuration, loader.

The code in the boot sectors, before the boot manager of a BIOS, is not looked at: no conversion
touches it, and it starts from any disk of the BIOS.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from imgconv.errors import ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.model import Finding, Firmware, Inspection, Level, WindowsOs
from imgconv.windows import bcd, boot_files, efi, hives
from imgconv.windows.versions import of

#: The first with bootmgr and the BCD: Windows Vista.
_FIRST_BOOTMGR: Final = (6, 0)

#: What Windows XP and older need beside each other.
_NTLDR_FILES: Final = ("ntldr", "boot.ini", "NTDETECT.COM")


def findings(reader: Reader, inspection: Inspection) -> Iterator[Finding]:
    """Raises HostileInput for what exceeds a limit."""
    system = efi.system_partition(inspection)
    if of(inspection).release < _FIRST_BOOTMGR:
        for name in _NTLDR_FILES:
            yield _there(reader, f"start: {name}", f"{system}/{name}")
        return
    if inspection.firmware is Firmware.UEFI:
        yield from _uefi(reader, inspection, system)
    else:
        yield _there(reader, "start: bootmgr", f"{system}/bootmgr")
    yield from _configuration(reader, inspection)


def _uefi(reader: Reader, inspection: Inspection, system: str) -> Iterator[Finding]:
    name = efi.fallback_name(inspection)
    if name is None:
        yield Finding(Level.FAILED, "start: firmware",
                      f"it is not known what UEFI firmware starts on {inspection.arch}")
    else:
        yield _program(reader, inspection, f"start: {name}", f"{system}/EFI/BOOT/{name}")
    yield _program(reader, inspection, "start: bootmgfw.efi", f"{system}/{efi.LOADER}")


def _configuration(reader: Reader, inspection: Inspection) -> Iterator[Finding]:
    path = bcd.path(reader, inspection)
    if path is None:
        yield Finding(Level.FAILED, "start: BCD", "there is no boot configuration")
        return
    try:
        entry = bcd.default(hives.load(reader, path).hive)
    except ImgconvError as error:
        yield Finding(Level.FAILED, "start: BCD", error.message, path)
        return
    if entry is None:
        yield Finding(Level.FAILED, "start: BCD", "it names no Windows to start", path)
        return
    yield Finding(Level.PROVEN, "start: BCD", f"it starts {entry.description or 'a Windows'}", path)
    yield _loader(reader, inspection, entry)


def _loader(reader: Reader, inspection: Inspection, entry: bcd.Entry) -> Finding:
    subject = "start: loader"
    if bcd.elsewhere(entry, inspection):
        return Finding(Level.WARNING, subject, "it is on another partition than this Windows",
                       entry.partition)
    parts = [part for part in entry.loader.split("\\") if part]
    if not parts or ".." in parts:
        return Finding(Level.FAILED, subject, "the boot configuration names none", entry.loader)
    if not bcd.fits(entry, inspection):
        return Finding(Level.FAILED, subject,
                       f"{entry.loader} is none of {inspection.firmware.name}'s loaders")
    assert isinstance(inspection.os, WindowsOs)
    drive = boot_files.own_drive(inspection.os.systemroot)
    return _program(reader, inspection, subject, "/".join((drive, *parts)))


def _there(reader: Reader, subject: str, path: str) -> Finding:
    """About a file that says nothing of itself."""
    found = reader.find(path)
    if found is None or not reader.size(found):
        return Finding(Level.FAILED, subject, f"{path} does not exist, or is empty")
    return Finding(Level.PROVEN, subject, "it is there", found)


def _program(reader: Reader, inspection: Inspection, subject: str, path: str) -> Finding:
    problem = boot_files.program_problem(reader, path, of(inspection).arch)
    return Finding(Level.FAILED, subject, problem, path) if problem else Finding(
        Level.PROVEN, subject, f"it is there, for {of(inspection).arch}", path)
