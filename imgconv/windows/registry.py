"""Registry hives, read in memory: keys, values, and what they hold.

A `Hive` reads lazily, straight from the bytes of the file, so looking something up in a SYSTEM hive
of 20 MiB takes milliseconds. It never writes: a plan's `SetRegistry` and `DeleteRegistryKey` are
carried out by hivex in the appliance. The format is the one that Maxim Suhanov's "Windows registry
file format specification" describes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from imgconv.errors import HostileInput
from imgconv.model import RegistryValue

NONE: Final = 0
SZ: Final = 1
EXPAND_SZ: Final = 2
BINARY: Final = 3
DWORD: Final = 4
MULTI_SZ: Final = 7
QWORD: Final = 11

#: No hive is larger: Windows before 10 could not even load one of more than 2 GiB / 4, and real
#: SYSTEM hives have 5 to 40 MiB, SOFTWARE up to some 150.
HIVE_LIMIT: Final = 512 << 20

_HEADER = 4096
_BIG_SEGMENT = 16344
#: Real keys have at most some ten thousand subkeys (DeviceIds, Uninstall) or values.
_MANY = 200_000
_LONGEST_VALUE = 64 << 20
_DEEPEST = 512


class CorruptHive(HostileInput):
    """A file is no registry hive, or a damaged one."""


class Hive:
    """A hive as it stands in its file: a dirty one without what its logs would add."""

    def __init__(self, data: bytes) -> None:
        """Raises CorruptHive when the header is none."""
        if len(data) < 2 * _HEADER or data[:4] != b"regf":
            raise CorruptHive("this is no registry hive")
        self._data = data
        self.sequences: tuple[int, int] = struct.unpack_from("<II", data, 4)
        self._minor: int = struct.unpack_from("<I", data, 24)[0]
        self.root = Key(self, struct.unpack_from("<I", data, 36)[0])

    @property
    def dirty(self) -> bool:
        """Whether the last write was not finished, so that logs may hold what is missing here."""
        return self.sequences[0] != self.sequences[1] or not self.checksum_right

    @property
    def checksum_right(self) -> bool:
        checksum = 0
        words = struct.unpack_from("<128I", self._data)
        for word in words[:127]:
            checksum ^= word
        return bool({0: 1, 0xFFFFFFFF: 0xFFFFFFFE}.get(checksum, checksum) == words[127])

    def key(self, path: str) -> Key | None:
        """The key at `path` below the root (backslashes, any letter case), None without one."""
        return self.root.key(path)

    def cell(self, offset: int) -> memoryview:
        """The content of the cell at `offset`. Raises CorruptHive."""
        start = offset + _HEADER
        if start + 4 > len(self._data):
            raise CorruptHive("a cell of the hive lies outside of its file")
        size = -struct.unpack_from("<i", self._data, start)[0]
        if size < 8 or start + size > len(self._data):
            raise CorruptHive("a cell of the hive is free or too large, but something refers to it")
        return memoryview(self._data)[start + 4:start + size]

    def value_data(self, size: int, offset: int, inline: bytes) -> bytes:
        """A value's data. Raises CorruptHive."""
        if size & 0x80000000:
            return inline[:min(size & 0x7FFFFFFF, 4)]
        if size == 0:
            return b""
        if size > _LONGEST_VALUE:
            raise CorruptHive("a value of the hive claims to be too large")
        cell = self.cell(offset)
        if size > _BIG_SEGMENT and self._minor > 3 and bytes(cell[:2]) == b"db":
            count, listed = struct.unpack_from("<HI", cell, 2)
            segments = _offsets(self.cell(listed), 0, count)
            whole = b"".join(bytes(self.cell(segment)[:_BIG_SEGMENT]) for segment in segments[
                :size // _BIG_SEGMENT + 1])
        else:
            whole = bytes(cell[:size])
        if len(whole) < size:
            raise CorruptHive("a value of the hive is cut off")
        return whole[:size]


class Key:
    """One key. Everything it gives may raise CorruptHive."""

    def __init__(self, hive: Hive, offset: int) -> None:
        self._hive = hive
        self._cell = cell = hive.cell(offset)
        if len(cell) < 76 or bytes(cell[:2]) != b"nk":
            raise CorruptHive("a key of the hive is none")
        self.offset = offset
        flags, = struct.unpack_from("<H", cell, 2)
        length, = struct.unpack_from("<H", cell, 72)
        self.name = _name(cell[76:76 + length], compressed=bool(flags & 0x20))
        self._children: dict[str, int] | None = None

    def key(self, path: str) -> Key | None:
        """The key at `path` below this one, None without one."""
        found: Key | None = self
        for name in filter(None, path.split("\\")):
            offset = found._index().get(name.upper()) if found is not None else None
            if offset is None:
                return None
            found = Key(self._hive, offset)
        return found

    def subkeys(self) -> Iterator[Key]:
        """The subkeys, in the hive's order."""
        for offset in self._index().values():
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
        return next((v for v in self.values() if v.name.upper() == name.upper()), None)

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

    def walk(self, path: str = "", _above: frozenset[int] = frozenset()
             ) -> Iterator[tuple[str, Key]]:
        """This key and all below it, each with its path from here ("" is this one).

        Raises CorruptHive where keys contain themselves.
        """
        if self.offset in _above or len(_above) > _DEEPEST:
            raise CorruptHive("a key of the hive contains itself")
        yield path, self
        for child in self.subkeys():
            yield from child.walk(f"{path}\\{child.name}" if path else child.name,
                                  _above | {self.offset})

    def _value(self, offset: int) -> RegistryValue:
        cell = self._hive.cell(offset)
        if len(cell) < 20 or bytes(cell[:2]) != b"vk":
            raise CorruptHive("a value of the hive is none")
        length, size, data, kind, flags = struct.unpack_from("<HIIIH", cell, 2)
        return RegistryValue(_name(cell[20:20 + length], compressed=bool(flags & 1)), kind,
                             self._hive.value_data(size, data, bytes(cell[8:12])))

    def _index(self) -> dict[str, int]:
        """Where the subkeys lie, by name in capitals."""
        if self._children is None:
            count, = struct.unpack_from("<I", self._cell, 20)
            listed, = struct.unpack_from("<I", self._cell, 28)
            found: dict[str, int] = {}
            for offset in _subkeys(self._hive, listed) if count else ():
                found.setdefault(Key(self._hive, offset).name.upper(), offset)
            self._children = found
        return self._children


def _subkeys(hive: Hive, listed: int, *, nested: bool = False) -> Iterator[int]:
    cell = hive.cell(listed)
    kind, count = bytes(cell[:2]), struct.unpack_from("<H", cell, 2)[0]
    if kind in (b"lf", b"lh"):
        yield from _offsets(cell, 4, 2 * count)[::2]
    elif kind == b"li":
        yield from _offsets(cell, 4, count)
    elif kind == b"ri" and not nested:
        for offset in _offsets(cell, 4, count):
            yield from _subkeys(hive, offset, nested=True)
    else:
        raise CorruptHive("a list of subkeys of the hive is none")


def _offsets(cell: memoryview, start: int, count: int) -> tuple[int, ...]:
    if count > _MANY or start + 4 * count > len(cell):
        raise CorruptHive("a list of the hive is longer than its cell")
    return struct.unpack_from(f"<{count}I", cell, start)


def _name(raw: memoryview, *, compressed: bool) -> str:
    return bytes(raw).decode("latin-1") if compressed else bytes(raw).decode("utf-16-le",
                                                                             "surrogatepass")


# --- what values hold ---------------------------------------------------------------------------


def string(data: bytes) -> str:
    """A REG_SZ's or REG_EXPAND_SZ's text, up to the first NUL."""
    return data[:len(data) & ~1].decode("utf-16-le", "replace").partition("\0")[0]


def multi_string(data: bytes) -> tuple[str, ...]:
    """A REG_MULTI_SZ's texts, up to the empty one."""
    texts = data[:len(data) & ~1].decode("utf-16-le", "replace").split("\0")
    return tuple(texts[:texts.index("")] if "" in texts else texts)


def integer(data: bytes) -> int:
    """A REG_DWORD's or REG_QWORD's number."""
    return int.from_bytes(data, "little")


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
