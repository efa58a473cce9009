"""Where the members of a tar archive are: an OVA is one, of the plain kinds (ustar, GNU, pax).

Python's tarfile is no choice for archives of strangers: it reads a header of any size that the
archive claims into memory, and until 3.13.6 a negative size makes it loop (CVE-2025-8194). All
that an OVA needs of tar is here, and nothing is ever extracted by a member's name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from imgconv.errors import HostileInput, ImgconvError

BLOCK = 512
#: In every kind of header since POSIX 1988, and there alone of what hypervisors write.
MAGIC, MAGIC_AT = b"ustar", 257

_MAX_MEMBERS = 1000
#: Bytes of a long name or of pax' records.
_MAX_EXTENDED = 64 << 10
#: The largest archive that is taken, in bytes.
_MAX_SIZE = 1 << 60

_REMEDY = "was it copied or downloaded completely?"


class Member(NamedTuple):
    """A regular file of the archive: `size` bytes at `offset`."""

    name: str
    offset: int
    size: int


def members(file: BinaryIO) -> Iterator[Member]:
    """The regular files of the archive in `file`, in order; folders are passed over.

    Raises HostileInput for links, devices and sparse files, for damaged or huge headers, and
    ImgconvError for an archive that ends too early.
    """
    end = file.seek(0, os.SEEK_END)
    position = count = 0
    extended: dict[str, str] = {}
    while position < end:
        header = _at(file, position, BLOCK, end)
        if not any(header):
            return
        count += 1
        if count > _MAX_MEMBERS:
            raise HostileInput(f"the archive has more than {_MAX_MEMBERS} members")
        kind, name, size = _fields(header)
        position += BLOCK
        if kind in (b"L", b"K", b"x", b"g"):
            if size > _MAX_EXTENDED:
                raise HostileInput(f"a header of the archive claims {size:,} bytes")
            extended |= _extension(kind, _at(file, position, size, end))
        else:
            name = extended.get("path", name)
            size = _decimal(extended["size"]) if "size" in extended else size
            extended = {}
            if kind in (b"0", b"\0", b"7"):
                if position + _padded(size) > end:
                    raise ImgconvError(f"the archive ends within {_shown(name)}", hint=_REMEDY)
                yield Member(name, position, size)
            elif kind != b"5":
                raise HostileInput(f"{_shown(name)} in the archive is no plain file, but of tar's "
                                   f"type {_shown(kind.decode('latin-1'))}",
                                   hint="no appliance has links, devices or sparse files")
            else:
                size = 0
        position += _padded(size)


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _at(file: BinaryIO, position: int, size: int, end: int) -> bytes:
    if position + size > end:
        raise ImgconvError("the archive ends within a header", hint=_REMEDY)
    file.seek(position)
    return file.read(size)


def _fields(header: bytes) -> tuple[bytes, str, int]:
    """Type, name and size of a header whose checksum fits."""
    claimed = _octal(header[148:156])
    if claimed != sum(header[:148]) + sum(b" " * 8) + sum(header[156:]):
        raise HostileInput("a header of the archive is damaged (its checksum is wrong)",
                           hint=_REMEDY)
    name = _text(header[:100])
    # GNU's old format has other things at the place of the prefix.
    if header[MAGIC_AT:MAGIC_AT + 6] == b"ustar\0" and (prefix := _text(header[345:500])):
        name = f"{prefix}/{name}"
    return header[156:157], name, _size(header[124:136])


def _size(field: bytes) -> int:
    """Octal digits or, where the first bit is set, GNU's binary number."""
    if field[0] == 0x80:
        return _limited(int.from_bytes(field[1:], "big"))
    if field[0] & 0x80:
        raise HostileInput("a member of the archive has a negative size")
    return _limited(_octal(field))


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if not re.fullmatch(rb"[0-7]{0,12}", digits):
        raise HostileInput("a header of the archive is damaged", hint=_REMEDY)
    return int(digits or b"0", 8)


def _decimal(digits: str) -> int:
    if not re.fullmatch(r"[0-9]{1,20}", digits, re.ASCII):
        raise HostileInput("a header of the archive is damaged: a size is no number", hint=_REMEDY)
    return _limited(int(digits))


def _limited(size: int) -> int:
    if size > _MAX_SIZE:
        raise HostileInput(f"a member of the archive claims {size:,} bytes")
    return size


def _extension(kind: bytes, data: bytes) -> dict[str, str]:
    """What a header of GNU's or pax' kind says about the member that follows."""
    if kind == b"L":
        return {"path": _text(data)}
    return _pax(data) if kind == b"x" else {}


def _pax(data: bytes) -> dict[str, str]:
    """The records "LENGTH KEY=VALUE\\n" that matter."""
    found: dict[str, str] = {}
    while data:
        match = re.match(rb"([1-9][0-9]{0,5}) ", data)
        if not match or int(match[1]) > len(data) or int(match[1]) <= len(match[0]):
            raise HostileInput("a header of the archive is damaged", hint=_REMEDY)
        record, data = data[:int(match[1])], data[int(match[1]):]
        key, _, value = record[len(match[0]):].removesuffix(b"\n").partition(b"=")
        if key.startswith(b"GNU.sparse"):
            raise HostileInput("the archive has a sparse file, which no appliance has",
                               hint="pack it again with tar --format=ustar")
        if key in (b"path", b"size"):
            found[key.decode()] = _text(value)
    return found


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _shown(name: str) -> str:
    return ascii(name[:100])
