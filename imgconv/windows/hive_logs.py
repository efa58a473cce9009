"""Transaction logs of registry hives: completing a hive that Windows had no time to write.

Windows writes changed pages to a log first. Since 8.1 it may leave them there for an hour, so the
hive of a guest that was not shut down lacks what its logs hold. Two formats of logs exist:

- old: a bitmap of dirty pages ("DIRT") and those pages, all of one write;
- new (8.1 and later): a chain of entries ("HvLE"), each with a sequence number, the pages of one
  write, and hashes. The chain goes on from one log to the other.

Facts about both are from Maxim Suhanov's "Windows registry file format specification". That entries
may begin later than the hive's own sequence number is from his "Missing log entries for a dirty
primary file": when both logs are full, Windows writes the pages but not the header. The replay of
regipy was not taken: it applies every entry, old ones and damaged ones too, the second log first,
and refuses logs that make the hive larger.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from imgconv.windows.registry import (
    HEADER,
    HIVE_LIMIT,
    REMEDY,
    CorruptHive,
    checksum,
    checksum_right,
)

#: A log holds at most what was written since the last time the hive itself was: some MiB.
LOG_LIMIT: Final = 128 << 20

_SEED: Final = 0x82EF4D887A4E55C5
_SECTOR: Final = 512
_ENTRY = struct.Struct("<4sIIIIIQQ")
_REFERENCE = struct.Struct("<II")


@dataclass(frozen=True, slots=True)
class Replayed:
    """A hive, clean now, with what `logs` held; `writes` is how many of Windows' writes that was.

    `gap` tells that a log holds more, but not what comes next.
    """

    data: bytes
    writes: int
    gap: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    """A write in a log of the new format; `references` are (offset, size) of the pages."""

    sequence: int
    flags: int
    bins_size: int
    references: tuple[tuple[int, int], ...]
    pages: memoryview


@dataclass(frozen=True, slots=True)
class _Run:
    """The entries of one log, without a gap, and the copy of the hive's header in that log."""

    header: bytes
    entries: tuple[_Entry, ...]


def replay(hive: bytes, logs: Sequence[bytes]) -> Replayed | None:
    """Complete a dirty hive from its logs; None when they hold nothing that belongs to it.

    Raises CorruptHive when the hive's own header is damaged and no log has a copy that fits.
    """
    sound = hive[:4] == b"regf" and len(hive) >= HEADER and checksum_right(hive)
    usable = [log for log in logs if _is_log(log)]
    # All numbers there are, so that none in a log is ever again newer than the hive.
    newest = max((number for data in (*([hive] if sound else []), *usable)
                  for number in struct.unpack_from("<II", data, 4)), default=0)
    since = struct.unpack_from("<I", hive, 8)[0] if sound else None
    runs = [run for run in (_run(log, since) for log in usable) if run.entries]
    if runs:
        return _replay_new(hive, sound, sorted(runs, key=lambda run: run.entries[0].sequence),
                           newest)
    for log in usable:
        replayed = _replay_old(hive, sound, log, newest)
        if replayed is not None:
            return replayed
    if not sound:
        raise CorruptHive("the header of the hive is damaged, and no log has a copy of it",
                          hint=REMEDY)
    return None


def _is_log(log: bytes) -> bool:
    """Whether the header is that of a log that Windows has finished writing."""
    return (len(log) > _SECTOR and log[:4] == b"regf" and checksum_right(log)
            and struct.unpack_from("<I", log, 28)[0] in (1, 2, 6) and log[4:8] == log[8:12])


# --- the new format -----------------------------------------------------------------------------


def _run(log: bytes, since: int | None) -> _Run:
    """The entries from number `since` on, up to the first that is damaged or out of order."""
    entries: list[_Entry] = []
    position, last = _SECTOR, None
    view = memoryview(log)
    while (head := _head(view, position)) is not None:
        size, sequence = head
        if last is not None and sequence != last + 1:
            break
        last = sequence
        if since is None or sequence >= since:
            entry = _entry(view[position:position + size])
            if entry is None:
                break
            entries.append(entry)
        position += size
    return _Run(log[:_SECTOR], tuple(entries))


def _head(log: memoryview, position: int) -> tuple[int, int] | None:
    """Size and sequence number of the entry at `position`, None when none is there."""
    if position + _ENTRY.size > len(log):
        return None
    magic, size, _, sequence, _, _, _, hash2 = _ENTRY.unpack_from(log, position)
    if (magic != b"HvLE" or size < _SECTOR or size % _SECTOR or position + size > len(log)
            or marvin32(log[position:position + 32]) != hash2):
        return None
    return size, sequence


def _entry(entry: memoryview) -> _Entry | None:
    """The entry, None for a damaged one."""
    _, _, flags, sequence, bins_size, count, hash1, _ = _ENTRY.unpack_from(entry)
    start = _ENTRY.size + _REFERENCE.size * count
    if start > len(entry) or bins_size % HEADER or not 0 < bins_size <= HIVE_LIMIT:
        return None
    references = tuple(_REFERENCE.iter_unpack(entry[_ENTRY.size:start]))
    if (any(offset + size > bins_size for offset, size in references)
            or start + sum(size for _, size in references) > len(entry)
            or marvin32(entry[_ENTRY.size:]) != hash1):
        return None
    return _Entry(sequence, flags, bins_size, references, entry[start:])


def _replay_new(hive: bytes, sound: bool, runs: list[_Run], newest: int) -> Replayed:
    """`runs` are sorted by their first numbers."""
    gap = False
    if not sound and len(runs) > 1:
        # Which entries are missing is not known then; only those up to the newest are sure.
        joined = runs[0].entries[-1].sequence + 1 == runs[-1].entries[0].sequence
        runs = runs if joined else runs[-1:]
    data = bytearray(hive)
    if not sound:
        data[:_SECTOR] = runs[-1].header
    following: int | None = None
    writes, bins_size, flags = 0, 0, 0
    for entry in (entry for run in runs for entry in run.entries):
        if following is not None and entry.sequence != following:
            gap = gap or entry.sequence > following
            continue
        _write_pages(data, entry)
        following, bins_size, flags = entry.sequence + 1, entry.bins_size, entry.flags
        writes += 1
        newest = max(newest, entry.sequence)
    struct.pack_into("<I", data, 144, flags)
    return Replayed(_finished(data, newest, bins_size), writes, gap)


def _write_pages(data: bytearray, entry: _Entry) -> None:
    _grow(data, entry.bins_size)
    position = 0
    for offset, size in entry.references:
        data[HEADER + offset:HEADER + offset + size] = entry.pages[position:position + size]
        position += size


def marvin32(data: bytes | memoryview) -> int:
    """The Marvin32 hash that log entries carry, with the seed that Windows takes for them."""
    low, high = _SEED & 0xFFFFFFFF, _SEED >> 32
    whole = len(data) & ~3
    last = int.from_bytes(bytes(data[whole:]) + b"\x80", "little")
    for word in (*struct.unpack(f"<{whole // 4}I", data[:whole]), last, 0):
        low = (low + word) & 0xFFFFFFFF
        high ^= low
        low = ((low << 20 | low >> 12) + high) & 0xFFFFFFFF
        high = (high << 9 & 0xFFFFFFFF | high >> 23) ^ low
        low = ((low << 27 | low >> 5) + high) & 0xFFFFFFFF
        high = high << 19 & 0xFFFFFFFF | high >> 13
    return high << 32 | low


# --- the old format -----------------------------------------------------------------------------


def _replay_old(hive: bytes, sound: bool, log: bytes, newest: int) -> Replayed | None:
    bins_size, = struct.unpack_from("<I", log, 40)
    bitmap_size = bins_size // _SECTOR // 8
    position = -(-(_SECTOR + 4 + bitmap_size) // _SECTOR) * _SECTOR
    # The times are equal when the log was written for just what the hive lacks.
    time = hive[12:20] if sound else hive[HEADER + 20:HEADER + 28]
    if (log[_SECTOR:_SECTOR + 4] != b"DIRT" or bins_size % HEADER or log[12:20] != time
            or not 0 < bins_size <= HIVE_LIMIT or position > len(log)):
        return None
    bitmap = int.from_bytes(log[_SECTOR + 4:_SECTOR + 4 + bitmap_size], "little")
    if position + bitmap.bit_count() * _SECTOR > len(log):
        return None
    data = bytearray(hive)
    if not sound:
        data[:_SECTOR] = log[:_SECTOR]
    _grow(data, bins_size)
    # Least significant bit first. Digits, because shifting a large number is slow.
    for page, digit in enumerate(reversed(f"{bitmap:b}")):
        if digit == "1":
            start = HEADER + page * _SECTOR
            data[start:start + _SECTOR] = log[position:position + _SECTOR]
            position += _SECTOR
    return Replayed(_finished(data, newest, bins_size), 1)


# --- both ---------------------------------------------------------------------------------------


def _grow(data: bytearray, bins_size: int) -> None:
    data.extend(bytes(max(0, HEADER + bins_size - len(data))))


def _finished(data: bytearray, sequence: int, bins_size: int) -> bytes:
    """`data` with the header of a clean hive; the numbers wrap as they do in Windows."""
    struct.pack_into("<II", data, 4, sequence & 0xFFFFFFFF, sequence & 0xFFFFFFFF)
    struct.pack_into("<I", data, 28, 0)  # a hive, not a log
    struct.pack_into("<I", data, 40, bins_size)
    struct.pack_into("<I", data, 508, checksum(data))
    return bytes(data)
