"""Programs and drivers for Windows that do nothing: as small as PE files can be, and valid."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from enum import IntEnum
from functools import cache
from typing import Final

#: The architectures of INF files, and PE's numbers for them.
MACHINES: Final = {"x86": 0x14C, "amd64": 0x8664, "arm64": 0xAA64}

_PAGE = 0x1000
_BLOCK = 0x200
#: The DOS header ends here and the PE header begins.
_PE = 0x40
_READ_CODE = 0x60000020
_READ_DATA = 0x40000040


class Subsystem(IntEnum):
    """What loads it: drivers are native."""

    NATIVE = 1
    GUI = 2
    CONSOLE = 3
    EFI = 10


@cache
def driver(arch: str, *libraries: str) -> bytes:
    """A kernel driver that imports something of each of `libraries` ("storport.sys")."""
    return pe(arch, dict.fromkeys(libraries, ("Something",)), Subsystem.NATIVE)


@cache
def program(arch: str, *libraries: str) -> bytes:
    """A program for the console."""
    return pe(arch, dict.fromkeys(libraries, ("Something",)), Subsystem.CONSOLE)


@cache
def library(arch: str, *libraries: str) -> bytes:
    """A DLL."""
    return pe(arch, dict.fromkeys(libraries, ("Something",)), Subsystem.GUI, dll=True)


@cache
def loader(arch: str) -> bytes:
    """A UEFI program, as bootmgfw.efi."""
    return pe(arch, {}, Subsystem.EFI)


def pe(arch: str, imports: Mapping[str, Sequence[str]], subsystem: Subsystem, *,
       dll: bool = False, windows: tuple[int, int] = (6, 0)) -> bytes:
    """A PE file of two sections, code that returns and the table of imports.

    `imports` are function names by library; `windows` is the least version that it asks for.
    """
    wide = arch != "x86"
    headers = _PAGE
    code, data = headers, headers + _PAGE
    table, directory = _imports(imports, data, wide=wide)
    text = b"\xc3".ljust(_BLOCK, b"\0")
    table = table.ljust(-(-len(table) // _BLOCK) * _BLOCK, b"\0")
    body = text + table
    sections = b"".join((
        _section(b".text", code, len(text), _BLOCK, _READ_CODE),
        _section(b".rdata", data, len(table), 2 * _BLOCK, _READ_DATA)))
    kind = 0x22 | (0x2000 if dll else 0) | (0 if wide else 0x100)
    optional = struct.pack("<HBBIIIII", 0x20B if wide else 0x10B, 14, 0, len(text), len(table), 0,
                           code, code)
    base = 0x140000000 if wide else 0x400000
    optional += struct.pack("<Q", base) if wide else struct.pack("<II", data, base)
    optional += struct.pack("<IIHHHHHHIIIIHH", _PAGE, _BLOCK, *windows, 0, 0, *windows, 0,
                            data + _PAGE, _BLOCK, 0, subsystem, 0x160)
    optional += struct.pack("<4Q" if wide else "<4I", 0x100000, 0x1000, 0x100000, 0x1000)
    optional += struct.pack("<II", 0, 16) + struct.pack("<4I", 0, 0, *directory) + bytes(14 * 8)
    head = b"PE\0\0" + struct.pack("<HHIIIHH", MACHINES[arch], 2, 0, 0, 0, len(optional), kind)
    dos = struct.pack("<2s58xI", b"MZ", _PE)
    whole = (dos + head + optional + sections).ljust(_BLOCK, b"\0") + body
    return _with_checksum(whole)


def _section(name: bytes, address: int, size: int, offset: int, flags: int) -> bytes:
    return struct.pack("<8sIIIIIIHHI", name, size, address, size, offset, 0, 0, 0, 0, flags)


def _imports(imports: Mapping[str, Sequence[str]], address: int, *, wide: bool
             ) -> tuple[bytes, tuple[int, int]]:
    """The content of the section at `address`, and the data directory that leads to the table."""
    if not imports:
        return b"", (0, 0)
    word = "Q" if wide else "I"
    size = 20 * (len(imports) + 1)
    rows, rest = b"", b""
    for name, functions in imports.items():
        at = address + size + len(rest)
        count = len(functions) + 1
        # Twice the list of functions, each a hint and a name: the loader overwrites the second.
        lists = 2 * count * struct.calcsize(word)
        names, places = b"", []
        for function in functions:
            places.append(at + lists + len(names))
            names += struct.pack("<H", 0) + function.encode() + b"\0"
            names += b"\0" * (len(names) % 2)
        thunks = struct.pack(f"<{count}{word}", *places, 0)
        rest += thunks * 2 + names + name.encode() + b"\0"
        rows += struct.pack("<IIIII", at, 0, 0, at + lists + len(names), at + lists // 2)
        rest += b"\0" * (-len(rest) % 8)
    return rows + bytes(20) + rest, (address, size)


def _with_checksum(whole: bytes) -> bytes:
    """Windows loads no boot driver whose checksum is wrong: a sum of words, and the size."""
    total = sum(struct.unpack(f"<{len(whole) // 2}H", whole))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    # The checksum lies at the same place of the 32 and of the 64 bit header.
    at = _PE + 24 + 64
    return whole[:at] + struct.pack("<I", total + len(whole)) + whole[at + 4:]
