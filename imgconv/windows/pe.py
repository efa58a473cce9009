"""PE files (.sys, .dll, .exe): what Windows' loader looks at before it loads a driver.

The hash is the one that "Windows Authenticode Portable Executable Signature Format" describes: over
the file without its checksum, without the directory entry of the certificate table and without that
table. Catalogs list PE files by it.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from imgconv.errors import ImgconvError

#: Larger than any driver: the largest of virtio-win has some 20 MiB.
PE_LIMIT: Final = 64 << 20

#: Machine in the file header, as INF files name processors.
MACHINES: Final = {0x014C: "x86", 0x8664: "amd64", 0xAA64: "arm64"}

_NATIVE = 1  # IMAGE_SUBSYSTEM_NATIVE: drivers
_CERTIFICATES = 4  # IMAGE_DIRECTORY_ENTRY_SECURITY; its address is an offset in the file
_PKCS7 = 2  # WIN_CERT_TYPE_PKCS_SIGNED_DATA
_MOST_CERTIFICATES = 16
_MOST_DLLS = 256
_MOST_FUNCTIONS = 20_000
#: The start of VS_FIXEDFILEINFO: dwSignature and dwStrucVersion 1.0.
_VERSION_MARK = struct.pack("<II", 0xFEEF04BD, 0x00010000)


class BadPe(ImgconvError):
    """A file is no PE file, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Pe:
    """`imports` has the functions by the file that they are taken from, in small letters; a
    function without a name is "#" and its ordinal.

    `sha1` and `sha256` are the Authenticode hashes. `signed` says that there is a certificate
    table, not that it is good; `certificates` are those in it that may be a signature (PKCS#7, for
    `catalog.embedded`). `version` is that of the file, None when it has none.
    """

    arch: str
    native: bool
    imports: Mapping[str, frozenset[str]]
    signed: bool
    sha1: bytes
    sha256: bytes
    version: tuple[int, int, int, int] | None = None
    certificates: tuple[bytes, ...] = ()


def is_pe(data: bytes) -> bool:
    """Whether `data` begins like a PE file (a DOS program alone is none)."""
    if len(data) < 64 or data[:2] != b"MZ":
        return False
    start = struct.unpack_from("<I", data, 60)[0]
    return data[start:start + 4] == b"PE\0\0"


def parse(data: bytes) -> Pe:
    """Raises BadPe."""
    import pefile

    if len(data) > PE_LIMIT:
        raise _bad(f"it is larger than {PE_LIMIT >> 20} MiB")
    if not is_pe(data):
        raise _bad("it does not begin like one")
    try:
        file = pefile.PE(data=data, fast_load=True)
        return _read(file, data)
    except BadPe:
        raise
    except Exception as error:  # pefile on damaged files: struct.error, IndexError...
        raise _bad(str(error)) from None


def _bad(why: str) -> BadPe:
    return BadPe(f"this is no usable PE file: {why}",
                 hint="take a complete, undamaged copy of the drivers (imgconv drivers check)")


def _read(file: Any, data: bytes) -> Pe:  # noqa: ANN401 - pefile has no types
    table, sha1, sha256 = _authenticode(file, data)
    machine = file.FILE_HEADER.Machine
    return Pe(MACHINES.get(machine, f"machine {machine:#06x}"),
              file.OPTIONAL_HEADER.Subsystem == _NATIVE, _imports(file), bool(table), sha1,
              sha256, _version(data), tuple(_certificates(table)))


def _authenticode(file: Any, data: bytes) -> tuple[bytes, bytes, bytes]:  # noqa: ANN401
    """The certificate table (b"" without one), and both hashes of the rest."""
    header = file.OPTIONAL_HEADER
    checksum = header.get_field_absolute_offset("CheckSum")
    view = memoryview(data)
    if len(header.DATA_DIRECTORY) <= _CERTIFICATES:
        parts = [view[:checksum], view[checksum + 4:]]
        return b"", *_hashes(parts)
    directory = header.DATA_DIRECTORY[_CERTIFICATES]
    entry, start, size = directory.get_file_offset(), directory.VirtualAddress, directory.Size
    parts = [view[:checksum], view[checksum + 4:entry]]
    if not size:
        return b"", *_hashes([*parts, view[entry + 8:]])
    if start < entry + 8 or start + size > len(data):
        raise _bad("its certificate table lies outside of it: it is cut off")
    table = bytes(view[start:start + size])
    return table, *_hashes([*parts, view[entry + 8:start], view[start + size:]])


def _certificates(table: bytes) -> Iterator[bytes]:
    """The content of each WIN_CERTIFICATE of the one type that drivers are signed with."""
    start = 0
    for _ in range(_MOST_CERTIFICATES):
        if start + 8 > len(table):
            return
        length, _, kind = struct.unpack_from("<IHH", table, start)
        if not 8 < length <= len(table) - start:
            return
        if kind == _PKCS7:
            yield table[start + 8:start + length]
        start += -(-length // 8) * 8


def _hashes(parts: list[memoryview]) -> tuple[bytes, bytes]:
    sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
    for part in parts:
        sha1.update(part)
        sha256.update(part)
    return sha1.digest(), sha256.digest()


def _imports(file: Any) -> dict[str, frozenset[str]]:  # noqa: ANN401
    import pefile

    file.parse_data_directories([pefile.DIRECTORY_ENTRY["IMAGE_DIRECTORY_ENTRY_IMPORT"]])
    found: dict[str, frozenset[str]] = {}
    total = 0
    for dll in getattr(file, "DIRECTORY_ENTRY_IMPORT", ()):
        name = (dll.dll or b"").decode("latin-1").lower()
        functions = frozenset(
            f"#{item.ordinal}" if item.name is None else item.name.decode("latin-1")
            for item in dll.imports)
        found[name] = found.get(name, frozenset()) | functions
        total += len(functions)
        if len(found) > _MOST_DLLS or total > _MOST_FUNCTIONS:
            raise _bad("it imports more than any driver does")
    return found


def _version(data: bytes) -> tuple[int, int, int, int] | None:
    """From the first VS_FIXEDFILEINFO, which is found by its mark: the tree of resources above it
    says nothing more, and may be as deep and crooked as the file's author likes."""
    start = data.find(_VERSION_MARK)
    if start < 0 or start + 16 > len(data):
        return None
    high, low = struct.unpack_from("<II", data, start + 8)
    return high >> 16, high & 0xFFFF, low >> 16, low & 0xFFFF
