"""Decompressing one member of an initramfs (or one kernel module), in memory and with a limit.

The kernel recognises a compressed member by its first bytes (lib/decompress.c in the kernel's
source); this table is the same list. A member ends where its own format says so, and whatever
follows is the next member. Every decompressor is asked for a little output at a time, so that a
bomb is noticed at the limit and not after it has filled the memory.
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

#: Modules and firmware shrink to a half or a fifth, an initramfs of nothing but text to a tenth.
#: What unpacks to more than this many times its size, and to more than some, is a bomb.
_RATIO = 64
_UNSUSPICIOUS = 64 << 20

#: Input and output of one step of a decompressor.
_CHUNK = 1 << 16
_STEP = 1 << 20

#: The largest dictionary that a decoder may ask memory for; "xz -9" needs 65 MiB, and the kernel
#: accepts windows of zstd up to 128 MiB.
_WINDOW = 1 << 27

#: Blocks of one lz4 or zstd member. Real lz4 blocks hold 8 MiB, zstd's 128 KiB.
_MAX_LZ4_BLOCKS = 1024
_MAX_ZSTD_BLOCKS = 1 << 20

#: A bytearray is not copied into bytes: it may be large.
Unpacked = bytes | bytearray

_LZ4_MAGIC = b"\x02\x21\x4c\x18"
_LZ4_BLOCK = 8 << 20


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


class _Gzip:
    """zlib's decompressor with the interface of those of bz2 and lzma."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)


def _grow(out: bytearray, made: bytes, limit: int) -> None:
    out += made
    if len(out) > limit:
        raise HostileInput(f"compressed data unpacks to more than {limit >> 20} MiB",
                           hint="this is nothing that a kernel would load; look at the guest")


def _stream(make: Callable[[], _Decompressor], data: memoryview, limit: int
            ) -> tuple[Unpacked, int]:
    """Feed `data` chunk by chunk; returns the output and how many bytes were used."""
    decompressor = make()
    out = bytearray()
    position = 0
    while not decompressor.eof:
        chunk = bytes(data[position:position + _CHUNK]) if decompressor.needs_input else b""
        made = decompressor.decompress(chunk, _STEP)
        position += len(chunk)
        if not chunk and not made and not decompressor.eof:
            raise HostileInput("compressed data ends in the middle")
        _grow(out, made, limit)
    return out, position - len(decompressor.unused_data)


def _zstd(data: memoryview, limit: int) -> tuple[Unpacked, int]:
    end = _zstd_frame(data)
    out = bytearray()
    with zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(data[:end]) as reader:
        while made := reader.read(_STEP):
            _grow(out, made, limit)
    return out, end


def _zstd_frame(data: memoryview) -> int:
    """The size in bytes of the zstd frame that `data` begins with (RFC 8878, section 3.1.1).

    The decompressor that can be asked for a little at a time does not tell where a frame ended.
    """
    descriptor = data[4]
    single = descriptor >> 5 & 1
    position = 5 + (not single) + (0, 1, 2, 4)[descriptor & 3] + (single, 2, 4, 8)[descriptor >> 6]
    for _ in range(_MAX_ZSTD_BLOCKS):
        low, high = struct.unpack_from("<HB", data, position)
        header = high << 16 | low
        kind, size = header >> 1 & 3, header >> 3
        position += 3 + (1 if kind == 1 else size)  # 1: one byte, repeated
        if header & 1:
            position += 4 * (descriptor >> 2 & 1)  # the checksum
            if position > len(data):
                break
            return position
    raise HostileInput("compressed data ends in the middle")


def _lz4_legacy(data: memoryview, limit: int) -> tuple[Unpacked, int]:
    """The lz4 frame that the kernel reads: magic, then blocks of at most 8 MiB unpacked.

    It has no end mark: it ends with the data or, since Linux 5.11, where a block's size would be
    zero. The magic again in place of a size is skipped; anything else is an error to the kernel
    (lib/decompress_unlz4.c), even the magic of another member.
    """
    out = bytearray()
    position = blocks = 0
    while position + 4 <= len(data):
        if data[position:position + 4] == _LZ4_MAGIC:
            position += 4
            continue
        (size,) = struct.unpack_from("<I", data, position)
        if size == 0:
            break
        block = bytes(data[position + 4:position + 4 + size]) if size <= 2 * _LZ4_BLOCK else b""
        if len(block) < size:
            raise HostileInput("compressed data ends in the middle of an lz4 block")
        blocks += 1
        if blocks > _MAX_LZ4_BLOCKS:
            raise HostileInput(f"lz4 data has more than {_MAX_LZ4_BLOCKS} blocks")
        try:
            made = lz4.block.decompress(block, uncompressed_size=_LZ4_BLOCK)
        except lz4.block.LZ4BlockError as error:
            raise HostileInput(f"a block of lz4 data is damaged: {error}") from error
        _grow(out, made, limit)
        position += 4 + size
    if any(data[position:position + 4]):
        raise HostileInput("compressed data ends in the middle of an lz4 block's size")
    return out, position


def lz4_blocks(data: bytes) -> bytes:
    """`data` as further blocks of an lz4 member that is there already (so without the magic)."""
    out = bytearray()
    for start in range(0, len(data), _LZ4_BLOCK):
        block = lz4.block.compress(data[start:start + _LZ4_BLOCK], store_size=False)
        out += struct.pack("<I", len(block)) + block
    return bytes(out)


def _with(make: Callable[[], _Decompressor]) -> Callable[[memoryview, int], tuple[Unpacked, int]]:
    return lambda data, limit: _stream(make, data, limit)


_FORMATS: tuple[tuple[str, bytes, Callable[[memoryview, int], tuple[Unpacked, int]]], ...] = (
    ("gzip", b"\x1f\x8b", _with(_Gzip)),
    ("bzip2", b"BZh", _with(bz2.BZ2Decompressor)),
    ("xz", b"\xfd7zXZ\0", _with(lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, 2 * _WINDOW))),
    ("lzma", b"\x5d\0\0", _with(lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, 2 * _WINDOW))),
    ("zstd", b"\x28\xb5\x2f\xfd", _zstd),
    ("lz4", _LZ4_MAGIC, _lz4_legacy),
)
_ERRORS = (zlib.error, lzma.LZMAError, zstandard.ZstdError, struct.error, IndexError, OSError,
           EOFError, ValueError)


def detect(data: bytes | memoryview) -> str | None:
    """The name of the compression whose magic `data` begins with, None for none of them."""
    head = bytes(data[:6])
    return next((name for name, magic, _ in _FORMATS if head.startswith(magic)), None)


def decompress(data: memoryview, limit: int = LIMIT) -> tuple[str, Unpacked, int]:
    """Unpack the compressed member at the start of `data`.

    Returns the compression's name, the unpacked bytes, and how many bytes of `data` it took. Raises
    HostileInput when it is damaged, truncated, unknown or larger than `limit` bytes.
    """
    limit = min(limit, max(_UNSUSPICIOUS, _RATIO * len(data)))
    name = detect(data)
    for known, _, unpack in _FORMATS:
        if known == name:
            try:
                out, used = unpack(data, limit)
            except _ERRORS as error:
                raise HostileInput(f"damaged {name} data: {error}") from error
            return name, out, used
    raise HostileInput(f"data of unknown kind (it begins with {bytes(data[:6]).hex()})")


def decompress_file(data: bytes, limit: int) -> bytes:
    """A compressed file's content (a kernel module, say); unchanged when it is not compressed."""
    return bytes(decompress(memoryview(data), limit)[1]) if detect(data) else data
