"""NTFS as it lies on the disk: whether Windows shut it down, and what XP's loader wants of it.

A driver that mounts an unclean NTFS for writing empties its journal without a word (ntfs-3g does),
and one that changes a hibernated volume has the resumed session write over the change: so the state
is read from the raw device before anything is mounted. The structures are those of the
documentation of Linux-NTFS; everything takes bytes, and raises only BadNtfs.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from imgconv.errors import CannotConvert, HostileInput
from imgconv.windows.versions import WindowsVersion

#: Reads `size` bytes at `offset` of the volume: fewer at its end.
ReadAt = Callable[[int, int], bytes]

#: So much of hiberfil.sys is read: its header.
HIBERFIL_HEADER: Final = 4096

#: Where a boot sector has the number of heads, as u16.
HEADS_OFFSET: Final = 0x1A
#: The first Windows whose loader does without: Vista.
FIRST_WITHOUT_HEADS: Final = (6, 0)
BOOT_SECTOR: Final = 512

#: The journal begins with two restart pages, together of this many bytes.
LOG_PAGES: Final = 2 * 4096

_SECTOR = 512
_LOGFILE_RECORD, _VOLUME_RECORD = 2, 3
_VOLUME_INFORMATION, _DATA = 0x70, 0x80
_DIRTY = 0x0001
_NO_CLIENT, _LOG_CLEAN = 0xFFFF, 0x0002

#: First letters of hiberfil.sys: a session to resume, one whose resuming was interrupted, one that
#: is resumed again and again, one on another volume. "wake" and zeros say that there is none.
_SLEEPING = (b"HIBR", b"RSTR", b"HORM", b"LINK")

_SHUT_DOWN = ("start Windows there, run chkdsk C: /f, start it once more, and shut it down for "
              "good with: shutdown /s /t 0")


class BadNtfs(HostileInput):
    """A volume is no NTFS, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Volume:
    """What a boot sector says; `mft` is in bytes from the volume's start, the sizes in bytes."""

    sector: int
    cluster: int
    mft: int
    record: int
    heads: int


@dataclass(frozen=True, slots=True)
class State:
    """`dirty` is the mark that makes Windows run chkdsk; `log_clean` whether the journal has
    nothing that the volume lacks. `log_version` is (2, 0) while Windows 8 and later use it; `log`
    is where the journal begins, in bytes from the volume's start."""

    dirty: bool
    log_clean: bool
    log_version: tuple[int, int] | None = None
    log: int = field(default=0, compare=False)


def state(read: ReadAt) -> State:
    """The state of the volume that `read` reads. Raises BadNtfs."""
    found = volume(read(0, _SECTOR))
    records = read(found.mft, (_VOLUME_RECORD + 1) * found.record)
    log = _start(record(records, found, _LOGFILE_RECORD), found)
    dirty = bool(_flags(record(records, found, _VOLUME_RECORD)) & _DIRTY)
    clean, version = log_state(read(log, LOG_PAGES))
    return State(dirty, clean, version, log)


def check(found: State, hiberfil: bytes, *, discard_hibernation: bool,
          name: str = "drive C:") -> bool:
    """Refuse a volume that must not be written; whether there is a session to give up.

    `hiberfil` is the beginning of hiberfil.sys, b"" without one; `name` is for people. Raises
    CannotConvert.
    """
    sleeping = hibernated(hiberfil)
    if sleeping and not discard_hibernation:
        raise CannotConvert(
            "Windows is hibernated (or was shut down with Fast Startup, which is the same)",
            hint="start it there and shut it down for good, with: shutdown /s /t 0; or give up the "
                 "session and what it has not saved, with --discard-hibernation")
    if found.dirty:
        raise CannotConvert(f"{name} is marked as damaged (dirty)", hint=_SHUT_DOWN)
    if not found.log_clean and not sleeping:
        raise CannotConvert(f"{name} was not shut down cleanly: its journal holds changes "
                            "that only Windows can carry out", hint=_SHUT_DOWN)
    return sleeping


def hibernated(header: bytes) -> bool:
    """Whether hiberfil.sys, of which this is the beginning, holds a session to resume."""
    return header[:4].upper() in _SLEEPING


# --- the boot sector ----------------------------------------------------------------------------


def volume(boot_sector: bytes) -> Volume:
    """Raises BadNtfs."""
    if len(boot_sector) < _SECTOR or boot_sector[3:11] != b"NTFS    ":
        raise BadNtfs("this volume is no NTFS")
    sector, per_cluster = struct.unpack_from("<HB", boot_sector, 11)
    heads, = struct.unpack_from("<H", boot_sector, HEADS_OFFSET)
    mft, = struct.unpack_from("<Q", boot_sector, 48)
    per_record, = struct.unpack_from("<b", boot_sector, 64)
    # Above 128 the number of sectors is a power of two: clusters of up to 2 MiB.
    cluster = sector * (per_cluster if per_cluster <= 128 else 1 << min(256 - per_cluster, 31))
    record_size = per_record * cluster if per_record > 0 else 1 << min(-per_record, 31)
    if (sector not in (512, 1024, 2048, 4096) or not 512 <= cluster <= 2 << 20
            or record_size not in (512, 1024, 2048, 4096) or mft * cluster >= 1 << 62):
        raise BadNtfs("the boot sector of this NTFS is damaged")
    return Volume(sector, cluster, mft * cluster, record_size, heads)


def head_count(boot_sector: bytes, disk_size: int, windows: WindowsVersion) -> int | None:
    """The number of heads that the boot sector ought to have, None when it is right as it is.

    The loaders of Windows 2000, XP and 2003 read by cylinder, head and sector, with this number
    instead of the BIOS'; which one a BIOS takes follows from the size of the disk (in bytes), as
    SeaBIOS and Bochs count: whatever fits 1024 cylinders of 63 sectors. Raises BadNtfs.
    """
    if windows.release >= FIRST_WITHOUT_HEADS:
        return None
    right = 0x40 if disk_size < 2_114_445_312 else 0x80 if disk_size < 4_228_374_780 else 0xFF
    return right if volume(boot_sector).heads != right else None


# --- records of the master file table -----------------------------------------------------------


def record(records: bytes, volume: Volume, number: int) -> bytes:
    """The record `number` of the table that begins with `records`, made whole. Raises BadNtfs."""
    data = bytearray(records[number * volume.record:(number + 1) * volume.record])
    if len(data) < volume.record or data[:4] != b"FILE":
        raise BadNtfs("the master file table of this NTFS is damaged")
    at, count = struct.unpack_from("<HH", data, 4)
    if not 0 < count - 1 == len(data) // _SECTOR or at + 2 * count > len(data):
        raise BadNtfs("a record of this NTFS has no valid update sequence")
    # The last two bytes of each sector were replaced by a number, against torn writes.
    sequence = bytes(data[at:at + 2])
    for index in range(1, count):
        end = index * _SECTOR
        if data[end - 2:end] != sequence:
            raise BadNtfs("a record of this NTFS was written only in part")
        data[end - 2:end] = data[at + 2 * index:at + 2 * index + 2]
    return bytes(data)


def _attribute(data: bytes, kind: int) -> bytes:
    """The first attribute of a record that is of this kind, with its header."""
    at, = struct.unpack_from("<H", data, 20)
    while at + 16 <= len(data):
        found, size = struct.unpack_from("<II", data, at)
        if found == kind and 24 <= size <= len(data) - at:
            return data[at:at + size]
        if found == 0xFFFFFFFF or size < 16:
            break
        at += size
    raise BadNtfs("a record of this NTFS lacks what every volume has")


def _flags(data: bytes) -> int:
    """The volume's flags, from the record of $Volume."""
    attribute = _attribute(data, _VOLUME_INFORMATION)
    if attribute[8]:
        raise BadNtfs("the record of $Volume is damaged")
    at, = struct.unpack_from("<H", attribute, 20)
    if at + 12 > len(attribute):
        raise BadNtfs("the record of $Volume is damaged")
    return int.from_bytes(attribute[at + 10:at + 12], "little")


def _start(data: bytes, volume: Volume) -> int:
    """Where the content of a record's file begins, in bytes from the volume's start."""
    attribute = _attribute(data, _DATA)
    if not attribute[8] or len(attribute) < 64:
        raise BadNtfs("the record of $LogFile is damaged")
    at, = struct.unpack_from("<H", attribute, 32)
    sizes = attribute[at] if at < len(attribute) else 0
    length, offset = sizes & 15, sizes >> 4
    run = attribute[at + 1 + length:at + 1 + length + offset]
    if not 0 < length <= 8 or not 0 < offset <= 8 or len(run) < offset:
        raise BadNtfs("the record of $LogFile is damaged")
    cluster = int.from_bytes(run, "little", signed=True)
    if not 0 <= cluster * volume.cluster < 1 << 62:
        raise BadNtfs("the record of $LogFile is damaged")
    return cluster * volume.cluster


# --- the journal --------------------------------------------------------------------------------


def log_state(pages: bytes) -> tuple[bool, tuple[int, int] | None]:
    """Whether the journal is clean, and its version, from the beginning of $LogFile.

    The newer of its two restart pages counts; one filled with 0xff is an emptied journal. What
    cannot be read as a journal (one that chkdsk is working on) is not clean.
    """
    if pages and pages.count(0xFF) == len(pages):
        return True, None
    found = [page for page in map(_restart, (pages[:4096], pages[4096:])) if page is not None]
    if not found:
        return False, None
    _, clean, version = max(found)
    return clean, version


def _restart(page: bytes) -> tuple[int, bool, tuple[int, int]] | None:
    """A restart page: how new it is, whether it says clean, the journal's version."""
    if len(page) < 512 or page[:4] != b"RSTR":
        return None
    at, minor, major = struct.unpack_from("<Hhh", page, 24)
    if at + 16 > 510:  # its first sector holds all that is looked at
        return None
    newest, _, _, in_use, flags = struct.unpack_from("<QHHHH", page, at)
    return newest, in_use == _NO_CLIENT or bool(flags & _LOG_CLEAN), (major, minor)
