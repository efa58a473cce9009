"""Registry hives, read in memory: keys, values, and what they hold.

A `Hive` reads lazily, straight from the bytes of the file, so looking something up in a SYSTEM hive
of 20 MiB takes milliseconds. It never writes: a plan's `SetRegistry` and `DeleteRegistryKey` are
carried out by hivex in the appliance. The format is the one that Maxim Suhanov's "Windows registry
file format specification" describes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import reduce
from operator import xor
from typing import Final
from unicodedata import ucd_3_2_0

from imgconv.errors import HostileInput
from imgconv.model import RegistryValue

NONE: Final = 0
SZ: Final = 1
EXPAND_SZ: Final = 2
BINARY: Final = 3
DWORD: Final = 4
MULTI_SZ: Final = 7
QWORD: Final = 11

#: What to do about a damaged hive; Windows keeps copies in RegBack until 10 1803.
REMEDY: Final = ("let Windows repair it (start it where it ran), or put back a sound copy of the "
                 "hive: System32\\config\\RegBack, a restore point or a backup has one")

#: No hive is larger: Windows before 10 could not even load one of more than 2 GiB / 4, and real
#: SYSTEM hives have 5 to 40 MiB, SOFTWARE up to some 150.
HIVE_LIMIT: Final = 512 << 20

#: The size of the header, in bytes; the offsets in a hive count from behind it.
HEADER: Final = 4096

#: From version 1.4 on, data of more bytes is stored in segments of this size.
BIG_SEGMENT: Final = 16344

#: The longest name of a key, in bytes: Windows' limit is 255 characters.
LONGEST_NAME: Final = 512

#: The offset of what is not there.
NOWHERE: Final = 0xFFFFFFFF

#: Real keys have at most some ten thousand subkeys (DeviceIds, Uninstall) or values.
_MANY = 200_000
_LONGEST_VALUE = 64 << 20
#: Windows' own limit.
_DEEPEST = 512


class CorruptHive(HostileInput):
    """A file is no registry hive, or a damaged one."""


def checksum(header: bytes | bytearray) -> int:
    """What the checksum of the header (at 508) has to be."""
    found: int = reduce(xor, struct.unpack_from("<127I", header))
    return {0: 1, NOWHERE: NOWHERE - 1}.get(found, found)


def checksum_right(header: bytes | bytearray) -> bool:
    return bool(checksum(header) == struct.unpack_from("<I", header, 508)[0])


def fold(name: str) -> str:
    """`name` as Windows compares it: in capitals, but one character stays one.

    Windows' own table is older than Python's and knows fewer capitals, and none for a dotless i, a
    long s, a final sigma and a micro sign, whose capitals have another small letter. Here a capital
    counts when its small letter is the character itself and both were in Unicode 3.2: names that
    are equal here are equal to Windows. What it takes for equal beyond that (some Greek and Latin
    letters of Unicode 5.0) is only found in its own letter case.
    """
    return name.upper() if name.isascii() else "".join(map(_capital, name))


def _capital(char: str) -> str:
    capital = char.upper()
    safe = len(capital) == 1 and char <= "\uffff" and capital.lower() == char and (
        "Cn" not in (ucd_3_2_0.category(char), ucd_3_2_0.category(capital)))
    return capital if safe else char


class Hive:
    """A hive as it stands in its file: a dirty one without what its logs would add.

    What it reads in all is limited, in proportion to its size: far more than anybody needs, but a
    hive made to keep its reader busy (lists that many keys share) ends in a CorruptHive.
    """

    def __init__(self, data: bytes) -> None:
        """Raises CorruptHive when the header is none."""
        if len(data) < 2 * HEADER or data[:4] != b"regf":
            raise CorruptHive("this is no registry hive", hint=REMEDY)
        self._data = data
        self._cells_left = 100_000 + 2 * len(data)
        self._bytes_left = _LONGEST_VALUE + 64 * len(data)
        self.sequences: tuple[int, int] = struct.unpack_from("<II", data, 4)
        self.version: tuple[int, int] = struct.unpack_from("<II", data, 20)
        self._keys: dict[int, Key] = {}
        self.root = Key(self, struct.unpack_from("<I", data, 36)[0])

    @property
    def dirty(self) -> bool:
        """Whether the last write was not finished, so that logs may hold what is missing here."""
        return self.sequences[0] != self.sequences[1] or not self.checksum_right

    @property
    def checksum_right(self) -> bool:
        return checksum_right(self._data)

    @property
    def segments_large_values(self) -> bool:
        """Whether data of more than BIG_SEGMENT bytes is stored in segments."""
        return self.version >= (1, 4)

    def key(self, path: str) -> Key | None:
        """The key at `path` below the root (backslashes, any letter case), None without one."""
        return self.root.key(path)

    def key_at(self, offset: int) -> Key:
        """The key whose cell is at `offset`, which is remembered with its list of subkeys."""
        if offset not in self._keys:
            self._keys[offset] = Key(self, offset)
        return self._keys[offset]

    def cell(self, offset: int) -> memoryview:
        """The content of the cell at `offset`, at least 4 bytes. Raises CorruptHive."""
        self._cells_left -= 1
        if self._cells_left < 0:
            raise _corrupt("the hive refers to the same cells over and over")
        start = offset + HEADER
        if start + 4 > len(self._data):
            raise _corrupt("a cell of the hive lies outside of its file")
        size = -struct.unpack_from("<i", self._data, start)[0]
        if size < 8 or start + size > len(self._data):
            raise _corrupt("a cell of the hive is free or too large, but something refers to it")
        return memoryview(self._data)[start + 4:start + size]

    def value_data(self, size: int, offset: int, inline: bytes) -> bytes:
        """A value's data. Raises CorruptHive."""
        if size & 0x80000000:
            return inline[:min(size & 0x7FFFFFFF, 4)]
        if size == 0:
            return b""
        self._bytes_left -= size
        if size > _LONGEST_VALUE or self._bytes_left < 0:
            raise _corrupt("the values of the hive claim to be too large")
        cell = self.cell(offset)
        if size > BIG_SEGMENT and self.segments_large_values and bytes(cell[:2]) == b"db":
            whole = self._joined(cell, -(-size // BIG_SEGMENT))
        else:
            whole = bytes(cell[:size])
        if len(whole) < size:
            raise _corrupt("a value of the hive is cut off")
        return whole[:size]

    def _joined(self, cell: memoryview, count: int) -> bytes:
        """The content of `count` segments."""
        if len(cell) < 8:
            raise _corrupt("a value of the hive is cut off")
        listed, = struct.unpack_from("<I", cell, 4)
        return b"".join(bytes(self.cell(segment)[:BIG_SEGMENT])
                        for segment in _offsets(self.cell(listed), 0, count))


class Key:
    """One key. Everything it gives may raise CorruptHive."""

    def __init__(self, hive: Hive, offset: int) -> None:
        self._hive = hive
        self._cell = cell = hive.cell(offset)
        if len(cell) < 76 or bytes(cell[:2]) != b"nk":
            raise _corrupt("a key of the hive is none")
        self.offset = offset
        flags, = struct.unpack_from("<H", cell, 2)
        length, = struct.unpack_from("<H", cell, 72)
        if length > LONGEST_NAME:
            raise _corrupt("the name of a key of the hive is too long")
        self.name = _name(cell[76:], length, compressed=bool(flags & 0x20))
        self._children: dict[str, int] | None = None

    def key(self, path: str) -> Key | None:
        """The key at `path` below this one, None without one."""
        found: Key | None = self
        for name in filter(None, path.split("\\")):
            offset = found._index().get(fold(name)) if found is not None else None
            if offset is None:
                return None
            found = self._hive.key_at(offset)
        return found

    def subkeys(self) -> Iterator[Key]:
        """The subkeys, in the hive's order."""
        for offset in self._listed():
            yield Key(self._hive, offset)

    def values(self) -> tuple[RegistryValue, ...]:
        """The values, in the hive's order; the default value has the name ""."""
        count, listed = struct.unpack_from("<II", self._cell, 36)
        if count == 0:
            return ()
        return tuple(self._value(offset)
                     for offset in _offsets(self._hive.cell(listed), 0, count))

    def value(self, name: str) -> RegistryValue | None:
        """The value called `name` (any letter case)."""
        return next((v for v in self.values() if fold(v.name) == fold(name)), None)

    def text(self, name: str) -> str | None:
        """The string in the value `name`, None without one."""
        value = self.value(name)
        return string(value.data) if value is not None and value.type in (SZ, EXPAND_SZ) else None

    def number(self, name: str) -> int | None:
        """The number in the value `name`, None without one."""
        value = self.value(name)
        return integer(value.data) if value is not None and value.type in (DWORD, QWORD) else None

    def strings(self, name: str) -> tuple[str, ...]:
        """The strings in the REG_MULTI_SZ value `name`, () without one."""
        value = self.value(name)
        return multi_string(value.data) if value is not None and value.type == MULTI_SZ else ()

    def walk(self) -> Iterator[tuple[str, Key]]:
        """This key and all below it, each with its path from here ("" is this one).

        Raises CorruptHive where a key is listed twice, or in itself, or too deep.
        """
        seen: set[int] = {self.offset}
        yield "", self
        levels = [("", self.subkeys())]
        while levels:
            above, keys = levels[-1]
            key = next(keys, None)
            if key is None:
                levels.pop()
                continue
            if key.offset in seen or len(levels) > _DEEPEST:
                raise _corrupt("a key of the hive is listed twice, or in itself, or too deep")
            seen.add(key.offset)
            yield above + key.name, key
            levels.append((f"{above}{key.name}\\", key.subkeys()))

    def _value(self, offset: int) -> RegistryValue:
        cell = self._hive.cell(offset)
        if len(cell) < 20 or bytes(cell[:2]) != b"vk":
            raise _corrupt("a value of the hive is none")
        length, size, data, kind, flags = struct.unpack_from("<HIIIH", cell, 2)
        return RegistryValue(_name(cell[20:], length, compressed=bool(flags & 1)), kind,
                             self._hive.value_data(size, data, bytes(cell[8:12])))

    def _listed(self) -> Iterator[int]:
        """Where the subkeys lie, in the hive's order."""
        count, = struct.unpack_from("<I", self._cell, 20)
        listed, = struct.unpack_from("<I", self._cell, 28)
        return _subkeys(self._hive, listed) if count else iter(())

    def _index(self) -> dict[str, int]:
        """Where the subkeys lie, by name in capitals."""
        if self._children is None:
            found: dict[str, int] = {}
            for offset in self._listed():
                found.setdefault(fold(Key(self._hive, offset).name), offset)
            self._children = found
        return self._children


def _corrupt(problem: str) -> CorruptHive:
    return CorruptHive(problem, hint=REMEDY)


def _subkeys(hive: Hive, listed: int) -> Iterator[int]:
    cell = hive.cell(listed)
    if bytes(cell[:2]) != b"ri":
        yield from _leaf(cell)
        return
    count = 0
    for leaf in _offsets(cell, 4, struct.unpack_from("<H", cell, 2)[0]):
        offsets = _leaf(hive.cell(leaf))
        count += len(offsets)
        if count > _MANY:
            raise _corrupt("a key of the hive has too many subkeys")
        yield from offsets


def _leaf(cell: memoryview) -> tuple[int, ...]:
    kind, count = bytes(cell[:2]), struct.unpack_from("<H", cell, 2)[0]
    if kind in (b"lf", b"lh"):
        return _offsets(cell, 4, 2 * count)[::2]
    if kind == b"li":
        return _offsets(cell, 4, count)
    raise _corrupt("a list of subkeys of the hive is none")


def _offsets(cell: memoryview, start: int, count: int) -> tuple[int, ...]:
    if count > _MANY or start + 4 * count > len(cell):
        raise _corrupt("a list of the hive is longer than its cell")
    return struct.unpack_from(f"<{count}I", cell, start)


def _name(content: memoryview, length: int, *, compressed: bool) -> str:
    if length > len(content) or (length % 2 and not compressed):
        raise _corrupt("a name in the hive is cut off")
    raw = bytes(content[:length])
    return raw.decode("latin-1") if compressed else raw.decode("utf-16-le", "surrogatepass")


# --- what values hold ---------------------------------------------------------------------------


def string(data: bytes) -> str:
    """A REG_SZ's or REG_EXPAND_SZ's text, up to the first NUL."""
    return data[:len(data) & ~1].decode("utf-16-le", "replace").partition("\0")[0]


def multi_string(data: bytes) -> tuple[str, ...]:
    """A REG_MULTI_SZ's texts, up to the empty one."""
    texts = data[:len(data) & ~1].decode("utf-16-le", "replace").split("\0")
    return tuple(texts[:texts.index("")] if "" in texts else texts)


def integer(data: bytes) -> int:
    """A REG_DWORD's or REG_QWORD's number; bytes beyond the eighth do not count."""
    return int.from_bytes(data[:8], "little")


def sz(name: str, text: str) -> RegistryValue:
    return RegistryValue(name, SZ, _utf16(text))


def expand_sz(name: str, text: str) -> RegistryValue:
    return RegistryValue(name, EXPAND_SZ, _utf16(text))


def multi_sz(name: str, texts: tuple[str, ...]) -> RegistryValue:
    return RegistryValue(name, MULTI_SZ, _utf16("".join(text + "\0" for text in texts)))


def dword(name: str, number: int) -> RegistryValue:
    return RegistryValue(name, DWORD, number.to_bytes(4, "little"))


def qword(name: str, number: int) -> RegistryValue:
    return RegistryValue(name, QWORD, number.to_bytes(8, "little"))


def binary(name: str, data: bytes) -> RegistryValue:
    return RegistryValue(name, BINARY, data)


def _utf16(text: str) -> bytes:
    return (text + "\0").encode("utf-16-le", "surrogatepass")
