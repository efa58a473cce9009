"""Decompressing one member of an initramfs, in memory and with a limit.

The kernel recognises a compressed member by its first bytes (lib/decompress.c in the kernel's
source); this table is the same list. A member ends where its own format says so, and whatever
follows is the next member.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Protocol

import lz4.block
import zstandard

from imgconv.errors import HostileInput

#: What all members of one initramfs may come to: real ones are 20 to 400 MiB, and this is held in
#: memory.
LIMIT = 1 << 30

_CHUNK = 1 << 20


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def _stream(make: Callable[[], _Decompressor], data: memoryview, limit: int) -> tuple[bytes, int]:
    """Feed `data` chunk by chunk; returns the output and how many bytes were used."""
    decompressor = make()
    out = bytearray()
    position = 0
    while position < len(data) and not decompressor.eof:
        chunk = bytes(data[position:position + _CHUNK])
        out += decompressor.decompress(chunk)
        position += len(chunk)
        if len(out) > limit:
            raise HostileInput(f"an initramfs unpacks to more than {limit >> 20} MiB",
                               hint="this is no initramfs a kernel would load; look at the guest")
    if not decompressor.eof:
        raise HostileInput("an initramfs ends in the middle of its compressed data")
    return bytes(out), position - len(decompressor.unused_data)


def _lz4_legacy(data: memoryview, limit: int) -> tuple[bytes, int]:
    """The lz4 frame that the kernel reads: magic, then blocks of at most 8 MiB unpacked.

    It has no end mark: it ends with the data or where a block size would be zero or a new member.
    """
    out = bytearray()
    position = 4
    while position + 4 <= len(data):
        (size,) = struct.unpack_from("<I", data, position)
        if size == 0 or size > (8 << 20) + (8 << 20) // 255 + 16:
            break
        block = bytes(data[position + 4:position + 4 + size])
        if len(block) < size:
            raise HostileInput("an initramfs ends in the middle of an lz4 block")
        try:
            out += lz4.block.decompress(block, uncompressed_size=8 << 20)
        except lz4.block.LZ4BlockError as error:
            raise HostileInput(f"an initramfs has a damaged lz4 block: {error}") from error
        position += 4 + size
        if len(out) > limit:
            raise HostileInput(f"an initramfs unpacks to more than {limit >> 20} MiB")
    return bytes(out), position


def lz4_blocks(data: bytes) -> bytes:
    """`data` as further blocks of an lz4 member that is there already (so without the magic)."""
    out = bytearray()
    for start in range(0, len(data), 8 << 20):
        block = lz4.block.compress(data[start:start + (8 << 20)], store_size=False)
        out += struct.pack("<I", len(block)) + block
    return bytes(out)


def _with(make: Callable[[], _Decompressor]) -> Callable[[memoryview, int], tuple[bytes, int]]:
    return lambda data, limit: _stream(make, data, limit)


_FORMATS: tuple[tuple[str, bytes, Callable[[memoryview, int], tuple[bytes, int]]], ...] = (
    ("gzip", b"\x1f\x8b", _with(lambda: zlib.decompressobj(31))),
    ("bzip2", b"BZh", _with(bz2.BZ2Decompressor)),
    ("xz", b"\xfd7zXZ\0", _with(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ))),
    ("lzma", b"\x5d\0\0", _with(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE))),
    ("zstd", b"\x28\xb5\x2f\xfd",
     _with(lambda: zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj())),
    ("lz4", b"\x02\x21\x4c\x18", _lz4_legacy),
)
_ERRORS = (zlib.error, lzma.LZMAError, zstandard.ZstdError, OSError, EOFError, ValueError)


def detect(data: bytes | memoryview) -> str | None:
    """The name of the compression whose magic `data` begins with, None for none of them."""
    head = bytes(data[:6])
    return next((name for name, magic, _ in _FORMATS if head.startswith(magic)), None)


def decompress(data: memoryview, limit: int = LIMIT) -> tuple[str, bytes, int]:
    """Unpack the compressed member at the start of `data`.

    Returns the compression's name, the unpacked bytes, and how many bytes of `data` it took.
    Raises HostileInput when it is damaged, truncated, unknown or larger than `limit` bytes.
    """
    name = detect(data)
    for known, _, unpack in _FORMATS:
        if known == name:
            try:
                out, used = unpack(data, limit)
            except _ERRORS as error:
                raise HostileInput(f"an initramfs has damaged {name} data: {error}") from error
            return name, out, used
    raise HostileInput(f"an initramfs has a member of unknown kind (it begins with "
                       f"{bytes(data[:6]).hex()})")


def decompress_file(data: bytes, limit: int) -> bytes:
    """A compressed file's content (a kernel module, say); unchanged when it is not compressed."""
    return decompress(memoryview(data), limit)[1] if detect(data) else data
