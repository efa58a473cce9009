from __future__ import annotations

import bz2
import gzip
import lzma
import shutil
import struct
import subprocess
import tracemalloc
import zlib
from contextlib import suppress

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.errors import HostileInput
from imgconv.linux.initramfs import compression
from tests.guests import COMPRESS, lz4_legacy

COMPRESSED = {name: make for name, make in COMPRESS.items() if name != "cpio"}
TEXT = b"some text, some more text\n" * 5000
PACKED = {name: make(TEXT) for name, make in COMPRESSED.items()}


@pytest.mark.parametrize("name", COMPRESSED)
def test_member_and_what_follows(name: str) -> None:
    packed = COMPRESSED[name](TEXT)
    rest = b"\0\0\0\0" if name == "lz4" else b"\0\0 and the rest"
    assert compression.detect(packed) == name
    assert compression.decompress(memoryview(packed + rest)) == (name, TEXT, len(packed))


@pytest.mark.parametrize("command", [
    ("gzip", "-c"), ("bzip2", "-c"), ("xz", "-c", "--check=crc32"), ("xz", "-c", "-9e"),
    ("lzma", "-c"), ("zstd", "-c", "-q"), ("zstd", "-c", "-q", "-19", "-T0"),
    ("zstd", "-c", "-q", "--no-check"), ("lz4", "-c", "-l"), ("lz4", "-c", "-l", "-9")])
def test_what_real_tools_write(command: tuple[str, ...]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    packed = subprocess.run(command, input=TEXT, capture_output=True, check=True).stdout
    _, out, used = compression.decompress(memoryview(packed))
    assert (out, used) == (TEXT, len(packed))


@pytest.mark.parametrize("name", COMPRESSED)
def test_truncated(name: str) -> None:
    packed = COMPRESSED[name](TEXT)
    for end in (1, 7, len(packed) // 2, len(packed) - 1):
        with pytest.raises(HostileInput):
            compression.decompress(memoryview(packed[:end]))


@pytest.mark.parametrize("name", COMPRESSED)
def test_empty_content(name: str) -> None:
    assert compression.decompress(memoryview(COMPRESSED[name](b"")))[1] == b""


def test_unknown_kind() -> None:
    with pytest.raises(HostileInput, match="unknown kind"):
        compression.decompress(memoryview(b"\x89LZO\0\r\n\x1a\n"))


#: 24 MiB of zeros, packed as tightly as each format can.
BOMBS = {
    "gzip": lambda data: gzip.compress(data, 6), "bzip2": lambda data: bz2.compress(data, 9),
    "xz": lambda data: lzma.compress(data, preset=0),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "zstd": zstandard.ZstdCompressor(level=1).compress, "lz4": lz4_legacy,
}


@pytest.mark.parametrize("name", BOMBS)
def test_bomb_is_stopped_at_the_limit(name: str) -> None:
    packed = BOMBS[name](bytes(24 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(HostileInput, match="more than 2 MiB"):
            compression.decompress(memoryview(packed), 2 << 20)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 << 20


def test_huge_dictionary() -> None:
    alone = bytearray(lzma.compress(b"x" * 100, lzma.FORMAT_ALONE, preset=0))
    alone[1:5] = struct.pack("<I", 0xFFFF_0000)
    xz = bytearray(lzma.compress(b"x" * 100, preset=0))
    xz[xz.index(b"\x21\x01") + 2] = 40  # the filter's property: a dictionary of 4 GiB
    xz[20:24] = struct.pack("<I", zlib.crc32(xz[12:20]))
    for packed in (alone, xz):
        with pytest.raises(HostileInput, match=r"[Mm]emory"):
            compression.decompress(memoryview(bytes(packed)))


def test_lz4_frames_behind_each_other() -> None:
    # The kernel skips the magic where it looks for a block's size.
    packed = lz4_legacy(TEXT) + lz4_legacy(b"more")
    assert compression.decompress(memoryview(packed)) == ("lz4", TEXT + b"more", len(packed))
    assert compression.decompress(memoryview(lz4_legacy(TEXT) + compression.lz4_blocks(b"more"))
                                  )[1] == TEXT + b"more"


@pytest.mark.parametrize("rest", [b"070701" + bytes(200), COMPRESSED["gzip"](b"x")],
                         ids=["cpio", "gzip"])
def test_lz4_with_another_member_behind(rest: bytes) -> None:
    with pytest.raises(HostileInput):
        compression.decompress(memoryview(lz4_legacy(TEXT) + rest))


def test_lz4_of_very_many_blocks() -> None:
    with pytest.raises(HostileInput, match="blocks"):
        compression.decompress(memoryview(b"\x02\x21\x4c\x18" + b"\1\0\0\0\0" * 5000))


def test_zstd_of_very_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    # A frame with a window of 1 KiB and blocks that hold nothing, none of them the last.
    monkeypatch.setattr(compression, "_MAX_ZSTD_BLOCKS", 1000)
    with pytest.raises(HostileInput):
        compression.decompress(memoryview(b"\x28\xb5\x2f\xfd\0\0" + bytes(4000)))


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(COMPRESSED)), data=st.binary(max_size=200))
def test_noise_behind_the_magic(name: str, data: bytes) -> None:
    magic = COMPRESSED[name](b"")[:6]
    with suppress(HostileInput):
        compression.decompress(memoryview(magic[:4] + data), 1 << 20)


@settings(max_examples=80, deadline=None)
@given(name=st.sampled_from(sorted(COMPRESSED)), at=st.floats(0, 0.999), value=st.integers(0, 255))
def test_mutated(name: str, at: float, value: int) -> None:
    packed = bytearray(PACKED[name])
    packed[int(at * len(packed))] = value
    with suppress(HostileInput):
        compression.decompress(memoryview(bytes(packed)), 1 << 20)
