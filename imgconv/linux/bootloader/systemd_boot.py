"""systemd-boot: entries in files on the EFI system partition, or one beside it (XBOOTLDR)."""

from __future__ import annotations

from fnmatch import fnmatchcase

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import esp
from imgconv.linux.bootloader import bls
from imgconv.linux.bootloader.entry import BootEntry, Places
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import lines
from imgconv.model import Change

NAME = "systemd-boot"

#: Where it may be mounted; XBOOTLDR is mostly /boot.
_ROOTS = ("/boot", "/efi", "/boot/efi")

#: What its program says of itself (the section .sdmagic).
_MAGIC = b"#### LoaderInfo: systemd-boot"
_LIMIT = 4 << 20

_LONGEST = 256


def _program(reader: Reader) -> str | None:
    for folder in esp.vendors(reader):
        if folder.rpartition("/")[2].lower() == "systemd":
            for name in reader.names(folder):
                if name.lower().startswith("systemd-boot") and name.lower().endswith(".efi"):
                    return f"{folder}/{name}"
    return None


def _fallbacks(reader: Reader) -> list[str]:
    return [f"{folder}/{name}" for folder in esp.vendors(reader)
            if folder.rpartition("/")[2].lower() == "boot" for name in reader.names(folder)
            if name.lower().startswith("boot") and name.lower().endswith(".efi")]


def _folders(reader: Reader) -> list[tuple[str, str]]:
    """(root of the partition, folder of entries)"""
    return [(root, f"{root}/loader/entries") for root in _ROOTS
            if reader.is_dir(f"{root}/loader/entries")]


def detect(reader: Reader) -> bool:
    return (_program(reader) is not None or installed(reader)) and bool(
        _folders(reader) or _unified(reader))


def installed(reader: Reader) -> bool:
    """Whether it is what a machine starts that knows no boot entries."""
    return any(_MAGIC in reader.read(path, _LIMIT) for path in _fallbacks(reader)
               if (reader.size(path) or _LIMIT + 1) <= _LIMIT)


def _unified(reader: Reader) -> list[str]:
    found = []
    for root in _ROOTS:
        folder = esp.child(reader, root, "EFI")
        folder = esp.child(reader, folder, "Linux") if folder else None
        if folder is not None:
            found += [f"{folder}/{name}" for name in reader.names(folder)
                      if name.lower().endswith(".efi")]
    return found


def entries(reader: Reader) -> tuple[BootEntry, ...]:
    """Raises CannotConvert when a unified kernel image is, or may be, what it starts."""
    wanted = _default(reader)
    found = [(entry, bls.boot_entry(entry, Places(reader, folder, (root,)), {}))
             for root, folder in _folders(reader) for entry in bls.read(reader, folder)]
    chosen = next((index for index, (entry, _) in enumerate(found)
                   if wanted and _matches(entry, wanted)), None)
    unified = _unified(reader)
    if unified and chosen is None:
        raise esp.refuse_unified(unified[0])
    made = [entry for _, entry in found]
    return (made.pop(chosen), *made) if chosen is not None else tuple(made)


def _default(reader: Reader) -> str:
    """The pattern of loader.conf's `default`. "@saved" is in a variable of the old machine."""
    for root in ("/efi", "/boot/efi", "/boot"):
        for line in lines(read_text(reader, f"{root}/loader/loader.conf") or ""):
            words = line.split()
            if len(words) > 1 and words[0] == "default" and not words[1].startswith("@"):
                return words[1][:_LONGEST]
    return ""


def _matches(entry: bls.Entry, pattern: str) -> bool:
    """Old versions leave .conf off, new ones do not."""
    names = (f"{entry.ident}.conf", entry.ident)
    return any(fnmatchcase(name.lower(), pattern.lower()) for name in names)


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    return tuple(change for _, folder in _folders(reader)
                 for change in bls.plan(reader, renamer, folder))
