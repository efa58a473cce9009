"""kmod's module indexes: the text files of depmod and the `.bin` files that kmod really reads.

The binary format is that of libkmod (libkmod-index.c): a magic, a version and the offset of the
root of a trie, all numbers big-endian; the high bits of a node's offset say which parts the node
has. We write it ourselves because depmod would have to parse the guest's modules on the host.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby

from imgconv.errors import HostileInput

_MAGIC = 0xB007F457
_VERSION = 0x00020001
_PREFIX, _VALUES, _CHILDREN = 0x8000_0000, 0x4000_0000, 0x2000_0000
_OFFSET = 0x0FFF_FFFF

#: Aliases are at most some 200 characters long; this also bounds the recursion over the trie.
_MAX_KEY = 400

#: What all nodes and items of one index may come to in memory (nodes can share what they hold, so
#: a small file may stand for any number).
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One line of an index: for modules.dep the module's name and its whole line, for
    modules.alias the pattern and the module's name. A smaller priority is tried first."""

    key: str
    priority: int
    value: str


# --- text ---------------------------------------------------------------------------------------


def parse_dep(text: str) -> dict[str, tuple[str, ...]]:
    """modules.dep: path of a module -> paths of those it needs, both below /lib/modules/VERSION.

    Old depmods (before 3.4) wrote absolute paths and continuation lines; both are accepted.
    """
    result: dict[str, tuple[str, ...]] = {}
    for line in text.replace("\\\n", " ").split("\n"):
        path, colon, needs = line.partition(":")
        if colon:
            result[_relative(path)] = tuple(_relative(need) for need in needs.split())
    return result


def _relative(path: str) -> str:
    """/lib/modules/2.6.26/kernel/a.ko -> kernel/a.ko"""
    parts = path.strip().split("/")
    return "/".join(parts[4:]) if parts[:3] == ["", "lib", "modules"] else "/".join(parts)


def parse_alias(text: str) -> tuple[tuple[str, str], ...]:
    """modules.alias and modules.symbols: (pattern, module's name) in order."""
    lines = (line.split() for line in text.split("\n"))
    return tuple((words[1], words[2]) for words in lines if len(words) == 3 and words[0] == "alias")


def module_name(path: str) -> str:
    """kernel/drivers/block/virtio-blk.ko.xz -> virtio_blk"""
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def normalise_alias(alias: str) -> str:
    """An alias as kmod looks it up and as the `.bin` index holds it: "-" is "_" outside [...]

    >>> normalise_alias("scsi:t-0x00*")
    'scsi:t_0x00*'
    """
    return re.sub(r"\[[^]]*\]|-", lambda match: "_" if match[0] == "-" else match[0], alias)


# --- binary -------------------------------------------------------------------------------------


def read(data: bytes) -> list[Item]:
    """Every item of a `.bin` index. Raises HostileInput when it is damaged."""
    items: list[Item] = []
    seen: set[int] = set()
    left = _MAX_BYTES

    def spend(size: int) -> None:
        nonlocal left
        left -= size + 64
        if left < 0:
            raise HostileInput("a module index holds more than one can")

    def cstring(at: int) -> tuple[bytes, int]:
        end = data.index(b"\0", at)
        return data[at:end], end + 1

    def node(offset: int, key: bytes) -> None:
        at = offset & _OFFSET
        if at in seen or len(key) > 2 * _MAX_KEY:
            raise HostileInput("a module index is damaged: its tree has a loop")
        seen.add(at)
        if offset & _PREFIX:
            prefix, at = cstring(at)
            key += prefix
        spend(len(key))
        if len(key) > 2 * _MAX_KEY:
            raise HostileInput("a module index has a key that is too long")
        if offset & _CHILDREN:
            first, last = data[at], data[at + 1]
            count = last - first + 1
            children = struct.unpack_from(f">{count}I", data, at + 2)
            at += 2 + 4 * count
            for index, child in enumerate(children):
                if child:
                    node(child, key + bytes([first + index]))
        if offset & _VALUES:
            (count,) = struct.unpack_from(">I", data, at)
            at += 4
            for _ in range(count):
                (priority,) = struct.unpack_from(">I", data, at)
                value, at = cstring(at + 4)
                spend(len(key) + len(value))
                items.append(Item(key.decode("utf-8", "surrogateescape"), priority,
                                  value.decode("utf-8", "surrogateescape")))

    try:
        magic, version, root = struct.unpack_from(">III", data)
        if magic != _MAGIC or version >> 16 != _VERSION >> 16:
            raise HostileInput("a module index is of an unknown version")
        node(root, b"")
    except (struct.error, IndexError, ValueError, RecursionError) as error:
        raise HostileInput(f"a module index is damaged: {error}") from error
    return items


def write(items: Iterable[Item]) -> bytes:
    """The `.bin` file that holds `items`; keys that no kernel would ask for are left out."""
    rows = sorted({item for item in items
                   if len(item.key) <= _MAX_KEY and item.key.isascii()
                   and "\0" not in item.key + item.value})
    out = bytearray(struct.pack(">III", _MAGIC, _VERSION, 0))

    def node(rows: list[Item], depth: int) -> int:
        """Write the node of all `rows`, whose keys agree in the first `depth` characters."""
        low, high = rows[0].key, rows[-1].key
        end = depth  # rows are sorted, so what the first and the last share, all share
        while end < min(len(low), len(high)) and low[end] == high[end]:
            end += 1
        prefix = low[depth:end].encode()
        own = [row for row in rows if len(row.key) == end]
        children: dict[int, int] = {}
        # No comprehension: it would be a second frame of the recursion for each character.
        for letter, group in groupby(rows[len(own):], lambda row: row.key[end]):
            children[ord(letter)] = node(list(group), end + 1)
        offset = len(out)
        if prefix:
            out.extend(prefix + b"\0")
            offset |= _PREFIX
        if children:
            first, last = min(children), max(children)
            out.extend(struct.pack(">BB", first, last))
            out.extend(b"".join(struct.pack(">I", children.get(code, 0))
                                for code in range(first, last + 1)))
            offset |= _CHILDREN
        if own:
            out.extend(struct.pack(">I", len(own)))
            for row in sorted(own, key=lambda row: row.priority):
                out.extend(struct.pack(">I", min(row.priority, 0xFFFF_FFFF))
                           + row.value.encode("utf-8", "surrogateescape") + b"\0")
            offset |= _VALUES
        return offset

    struct.pack_into(">I", out, 8, node(rows, 0) if rows else len(out))
    return bytes(out)
