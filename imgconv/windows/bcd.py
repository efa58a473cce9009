"""The boot configuration (BCD): which Windows is started, from where, and how.

It is a hive: Objects\\{guid}\\Description has the type, Objects\\{guid}\\Elements\\<number> the
settings, whose numbers Microsoft's documentation of the BCD lists. Partitions are named in it by
their GUID or by the disk's signature and an offset, not by what they hang on, so a new bus changes
nothing here. Recovery settings, and whether Windows restarts after a stop error, are the owner's.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from imgconv.guest.protocols import Reader
from imgconv.model import Firmware, Inspection, WindowsOs
from imgconv.windows.edits import Edits
from imgconv.windows.efi import system_partition
from imgconv.windows.registry import Hive, Key

#: The boot manager's object, and the types of objects that start a Windows.
_BOOTMGR: Final = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
_OS_LOADER: Final = 0x10200003

_DEVICE, _PATH, _DESCRIPTION = "11000001", "12000002", "12000004"
_OS_DEVICE, _SYSTEM_ROOT = "21000001", "22000002"
_DEFAULT, _ATTEMPT_RESUME = "23000003", "26000005"
_NO_GRAPHICS, _TEST_SIGNING = "16000046", "16000049"

#: A device element: 16 bytes, then type, flags, size; of a partition what the disk calls it.
_PARTITION: Final = 6
_GPT: Final = 0


@dataclass(frozen=True, slots=True)
class Entry:
    """A Windows in the boot menu. `partition` is where its files are: a GPT partition's UUID, in
    small letters, or an MBR disk's signature as eight hexadecimal digits; "" when it says neither.
    """

    identifier: str
    description: str
    loader: str
    system_root: str
    partition: str
    test_signing: bool = False


def path(reader: Reader, inspection: Inspection) -> str | None:
    """The path of the hive, None without one: before Windows Vista there is none."""
    folder = "EFI/Microsoft/Boot" if inspection.firmware is Firmware.UEFI else "Boot"
    return reader.find(f"{system_partition(inspection)}/{folder}/BCD")


def default(bcd: Hive) -> Entry | None:
    """The Windows that is started when nobody chooses, None when the boot manager names none."""
    identifier = _text(bcd, _BOOTMGR, _DEFAULT)
    return next((entry for entry in entries(bcd) if entry.identifier.lower() == identifier.lower()),
                None)


def entries(bcd: Hive) -> tuple[Entry, ...]:
    """Every Windows that can be started."""
    return tuple(Entry(identifier, _text(bcd, identifier, _DESCRIPTION),
                       _text(bcd, identifier, _PATH), _text(bcd, identifier, _SYSTEM_ROOT),
                       _partition(_data(bcd, identifier, _OS_DEVICE)),
                       _is_true(bcd, identifier, _TEST_SIGNING))
                 for identifier in _loaders(bcd))


def plan(edits: Edits, reader: Reader, inspection: Inspection) -> None:
    """Edit the BCD hive."""
    if inspection.firmware is Firmware.UEFI:
        for identifier in (_BOOTMGR, *_loaders(edits.hive)):
            if _is_true(edits.hive, identifier, _NO_GRAPHICS):
                edits.delete(_element(identifier, _NO_GRAPHICS),
                             "without graphics mode (graphicsmodedisabled) Windows shows nothing, "
                             "or stops, on a virtual machine with UEFI")
    if _is_true(edits.hive, _BOOTMGR, _ATTEMPT_RESUME) and not _has_session(reader, inspection):
        edits.delete(_element(_BOOTMGR, _ATTEMPT_RESUME),
                     "there is no hibernated session to resume any more")


def _has_session(reader: Reader, inspection: Inspection) -> bool:
    """Whether Windows' drive has a file that a session would be resumed from. Giving one up removes
    it; nothing but the file says so, also when the guest is planned again later."""
    assert isinstance(inspection.os, WindowsOs)
    drive = inspection.os.systemroot.rstrip("/").rpartition("/")[0]
    return reader.find(f"{drive}/hiberfil.sys") is not None


def warnings(bcd: Hive, inspection: Inspection) -> tuple[str, ...]:
    """What does not fit the machine in the entry that is started."""
    entry = default(bcd)
    if entry is None:
        return ("the boot configuration names no Windows to start: mend it with "
                "bootrec /rebuildbcd, from Windows' setup medium",)
    said = []
    if entry.loader and not fits(entry, inspection):
        said.append(f"the boot configuration starts {entry.loader}, which is none of "
                    f"{inspection.firmware.name}'s loaders: mend it with bcdboot C:\\Windows, from "
                    "Windows' setup medium")
    if elsewhere(entry, inspection):
        said.append(f"the boot configuration starts the Windows on another partition "
                    f"({entry.partition}) than {inspection.root} ({_own(inspection)})")
    return tuple(said)


def fits(entry: Entry, inspection: Inspection) -> bool:
    """Whether the entry's loader is one for this firmware."""
    ending = ".efi" if inspection.firmware is Firmware.UEFI else ".exe"
    return entry.loader.lower().endswith(ending)


def elsewhere(entry: Entry, inspection: Inspection) -> bool:
    """Whether the entry evidently starts the Windows of another partition, or disk, than root."""
    own = _own(inspection)
    return bool(entry.partition and own and entry.partition not in (own, own.rpartition("-")[0]))


def _own(inspection: Inspection) -> str:
    return next((f.partuuid.lower() for f in inspection.filesystems
                 if f.device == inspection.root), "")


def _loaders(bcd: Hive) -> list[str]:
    objects = bcd.key("Objects")
    found = []
    for key in objects.subkeys() if objects is not None else ():
        description = key.key("Description")
        if description is not None and description.number("Type") == _OS_LOADER:
            found.append(key.name)
    return found


def _element(identifier: str, number: str) -> str:
    return rf"Objects\{identifier}\Elements\{number}"


def _key(bcd: Hive, identifier: str, number: str) -> Key | None:
    return bcd.key(_element(identifier, number))


def _text(bcd: Hive, identifier: str, number: str) -> str:
    key = _key(bcd, identifier, number)
    return (key.text("Element") or "") if key is not None else ""


def _data(bcd: Hive, identifier: str, number: str) -> bytes:
    key = _key(bcd, identifier, number)
    value = key.value("Element") if key is not None else None
    return value.data if value is not None else b""


def _is_true(bcd: Hive, identifier: str, number: str) -> bool:
    return any(_data(bcd, identifier, number))


def _partition(element: bytes) -> str:
    """What a device element calls a partition, as measured on real hives: behind the 32 bytes of
    headers the partition (GUID, or offset), 4 bytes, the kind of table, the disk."""
    if len(element) < 72 or struct.unpack_from("<I", element, 16)[0] != _PARTITION:
        return ""
    table, = struct.unpack_from("<I", element, 52)
    if table == _GPT:
        return str(UUID(bytes_le=element[32:48]))
    return f"{struct.unpack_from('<I', element, 56)[0]:08x}" if table == 1 else ""
