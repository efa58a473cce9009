"""Whether a hive is whole, and ordered as Windows looks things up."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Final

from imgconv.windows.registry import (
    BIG_SEGMENT,
    HEADER,
    LONGEST_NAME,
    NOWHERE,
    checksum_right,
    fold,
)

#: More problems than these are not told apart.
_MOST: Final = 20

#: Names are part of a problem, and may be long; in characters.
_LONGEST: Final = 300

_KEY = struct.Struct("<2sHQ10I20xHH")
_VALUE = struct.Struct("<2sHIIIH")
_INLINE: Final = 0x80000000


def check(data: bytes) -> tuple[str, ...]:
    """What is wrong with a hive, in words that follow on its name; () when Windows can rely on it.

    Looks at the header, the bins and their cells, and all that can be reached from the root: keys,
    lists of subkeys (Windows searches them by halves and by hash), values and their data, and
    security. A cell that nothing refers to is no problem. Takes a second for some 30 MiB.

    The order and the hash depend on Windows' table of capitals, which differs from release to
    release. So they, and the letter case of values, are only judged where names are ASCII.
    """
    if len(data) < 2 * HEADER or data[:4] != b"regf":
        return ("it is no registry hive",)
    checker = _Checker(data)
    with suppress(_Enough):
        checker.run()
    return tuple(checker.problems)


class _Enough(Exception):
    """Looking further is of no use."""


class _Checker:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._segmented = struct.unpack_from("<II", data, 20) >= (1, 4)
        #: The allocated cells that nothing has referred to yet: where, and the content's size.
        self._untaken: dict[int, int] = {}
        self.problems: list[str] = []

    def run(self) -> None:
        self._header()
        self._bins()
        self._keys()

    def _wrong(self, problem: str) -> None:
        self.problems.append(problem if len(problem) < _LONGEST else f"{problem[:_LONGEST]}...")
        if len(self.problems) >= _MOST:
            raise _Enough

    def _header(self) -> None:
        primary, secondary = struct.unpack_from("<II", self._data, 4)
        if primary != secondary:
            self._wrong(f"its sequence numbers differ ({primary}, {secondary})")
        if not checksum_right(self._data):
            self._wrong("its header's checksum is wrong")

    # --- bins and cells -------------------------------------------------------------------------

    def _bins(self) -> None:
        """Every byte belongs to a cell, every cell to a bin."""
        size, = struct.unpack_from("<I", self._data, 40)
        if size % HEADER or not size or HEADER + size > len(self._data):
            self._wrong("its bins are larger than the file")
            raise _Enough
        start = 0
        while start < size:
            magic, offset, length = struct.unpack_from("<4sII", self._data, HEADER + start)
            if (magic != b"hbin" or offset != start or length % HEADER or not length
                    or start + length > size):
                self._wrong(f"the bin at {start:#x} is damaged")
                raise _Enough
            self._cells(start + 32, start + length)
            start += length

    def _cells(self, start: int, end: int) -> None:
        unpack, data, found = struct.Struct("<i").unpack_from, self._data, self._untaken
        while start < end:
            size, = unpack(data, HEADER + start)
            if size < 0:
                size = -size
                found[start] = size - 4
            if size < 8 or size & 7 or start + size > end:
                self._wrong(f"the cell at {start:#x} is damaged")
                raise _Enough
            start += size

    def _take(self, offset: int, least: int, what: str) -> int | None:
        """Where in the file the content of a cell begins; a cell can be taken only once."""
        size = self._untaken.pop(offset, None)
        if size is None:
            self._wrong(f"{what} is said to be at {offset:#x}, where is no cell, or another thing")
            return None
        if size < least:
            self._wrong(f"{what} at {offset:#x} is cut off")
            return None
        return HEADER + offset + 4

    # --- keys -----------------------------------------------------------------------------------

    def _keys(self) -> None:
        root, = struct.unpack_from("<I", self._data, 36)
        name = self._take_key(root, "the root")
        left = [(root, name)] if name is not None else []
        security: dict[int, int] = {}
        while left:
            offset, name = left.pop()
            (_, _, _, _, _, count, _, subkeys, _, values, listed, descriptor, class_name, _,
             class_length) = _KEY.unpack_from(self._data, HEADER + offset + 4)
            security[descriptor] = security.get(descriptor, 0) + 1
            if class_length and class_name != NOWHERE:
                self._take(class_name, class_length, f"the class of {name!r}")
            if count:
                left.extend(self._subkeys(offset, name, count, subkeys))
            if values:
                self._values(name, listed, values)
        for descriptor, references in security.items():
            self._descriptor(descriptor, references)

    def _take_key(self, offset: int, what: str) -> str | None:
        """The name of the key at `offset`, None when there is none."""
        at = self._take(offset, 76, what)
        if at is None:
            return None
        magic, flags = struct.unpack_from("<2sH", self._data, at)
        length, = struct.unpack_from("<H", self._data, at + 72)
        compressed = bool(flags & 0x20)
        if (magic != b"nk" or length > LONGEST_NAME or 76 + length > self._room(at)
                or (length & 1 and not compressed)):
            self._wrong(f"{what} at {offset:#x} is damaged")
            return None
        return _decoded(self._data[at + 76:at + 76 + length], compressed=compressed)

    def _subkeys(self, offset: int, key: str, count: int, listed: int) -> list[tuple[int, str]]:
        """The subkeys of the key at `offset`, with their names."""
        found: list[tuple[int, str]] = []
        for at in self._leaves(key, listed):
            found.extend(self._leaf(key, at))
        if len(found) != count:
            self._wrong(f"the key {key!r} counts {count} subkeys, not {len(found)}")
        for one, other in pairwise(fold(name) for _, name in found if name.isascii()):
            if one >= other:
                self._wrong(f"the subkeys {one!r} and {other!r} of {key!r} are not in order")
        for child, name in found:
            if struct.unpack_from("<I", self._data, HEADER + child + 20)[0] != offset:
                self._wrong(f"the key {name!r} names another parent than {key!r}, which lists it")
        return found

    def _leaves(self, key: str, listed: int) -> Iterator[int]:
        """Where in the file the lists begin that list the subkeys themselves."""
        what = f"the list of subkeys of {key!r}"
        at = self._take(listed, 4, what)
        if at is None or self._data[at:at + 2] != b"ri":
            yield from [] if at is None else [at]
            return
        for leaf, in self._items(at, 4):
            place = self._take(leaf, 4, what)
            if place is not None:
                if self._data[place + 2:place + 4] == b"\0\0":
                    self._wrong(f"a part of {what} is empty")
                yield place

    def _leaf(self, key: str, at: int) -> Iterator[tuple[int, str]]:
        kind = self._data[at:at + 2]
        if kind not in (b"lf", b"lh", b"li"):
            self._wrong(f"a list of subkeys of {key!r} is none")
            return
        for item in self._items(at, 4 if kind == b"li" else 8):
            name = self._take_key(item[0], f"a subkey of {key!r}")
            if name is None:
                continue
            if kind == b"lh" and name.isascii() and item[1] != name_hash(fold(name)):
                self._wrong(f"the subkey {name!r} of {key!r} has a wrong hash")
            yield item[0], name

    def _items(self, at: int, size: int) -> Iterator[tuple[int, ...]]:
        """The items of a list of subkeys, each of one number or two."""
        count, = struct.unpack_from("<H", self._data, at + 2)
        if 4 + count * size > self._room(at):
            self._wrong(f"the list at {at - 4 - HEADER:#x} is cut off")
            return iter(())
        return struct.iter_unpack("<I" if size == 4 else "<II",
                                  self._data[at + 4:at + 4 + count * size])

    def _room(self, at: int) -> int:
        """The size of the content of a cell that is allocated."""
        size: int = struct.unpack_from("<i", self._data, at - 4)[0]
        return -size - 4

    def _descriptor(self, offset: int, references: int) -> None:
        at = self._take(offset, 20, "a security descriptor")
        if at is None:
            return
        magic, _, _, _, count, size = struct.unpack_from("<2sHIIII", self._data, at)
        if magic != b"sk" or 20 + size > self._room(at):
            self._wrong(f"the security descriptor at {offset:#x} is damaged")
        elif count < references:
            self._wrong(f"the security descriptor at {offset:#x} counts {count} keys, "
                        f"not {references}")

    # --- values ---------------------------------------------------------------------------------

    def _values(self, key: str, listed: int, count: int) -> None:
        at = self._take(listed, 4 * count, f"the list of values of {key!r}")
        if at is None:
            return
        names: set[str] = set()
        for offset, in struct.iter_unpack("<I", self._data[at:at + 4 * count]):
            place = self._take(offset, 20, f"a value of {key!r}")
            if place is None:
                continue
            magic, length, size, where, _, flags = _VALUE.unpack_from(self._data, place)
            if (magic != b"vk" or 20 + length > self._room(place)
                    or (length & 1 and not flags & 1)):
                self._wrong(f"a value of {key!r} is damaged")
                continue
            raw = self._data[place + 20:place + 20 + length]
            name = _decoded(raw, compressed=bool(flags & 1))
            name = fold(name) if name.isascii() else name
            if name in names:
                self._wrong(f"the key {key!r} has two values called {name!r}")
            names.add(name)
            self._value_data(f"the value {name!r} of {key!r}", size, where)

    def _value_data(self, what: str, size: int, where: int) -> None:
        if size & _INLINE:
            if size & ~_INLINE > 4:
                self._wrong(f"{what} is too large for where it is")
        elif size > BIG_SEGMENT and self._segmented:
            self._segments(what, size, where)
        elif size:
            self._take(where, size, what)

    def _segments(self, what: str, size: int, where: int) -> None:
        at = self._take(where, 8, what)
        if at is None:
            return
        magic, count, listed = struct.unpack_from("<2sHI", self._data, at)
        if magic != b"db" or count != -(-size // BIG_SEGMENT):
            self._wrong(f"{what} is not in segments")
            return
        place = self._take(listed, 4 * count, what)
        if place is None:
            return
        for segment, in struct.iter_unpack("<I", self._data[place:place + 4 * count]):
            self._take(segment, min(size, BIG_SEGMENT), what)
            size -= BIG_SEGMENT


def _decoded(name: bytes, *, compressed: bool) -> str:
    return name.decode("latin-1") if compressed else name.decode("utf-16-le", "surrogatepass")


def name_hash(folded: str) -> int:
    """What a list of subkeys has beside a key's name (in capitals, ASCII) to find it by."""
    found = 0
    for char in folded:
        found = (found * 37 + ord(char)) & 0xFFFFFFFF
    return found
