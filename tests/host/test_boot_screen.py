from __future__ import annotations

import struct
import zlib

import pytest

from imgconv.boot import glyphs
from imgconv.boot.console import Watch
from imgconv.boot.screen import TEXT_SIZE, Picture, parse_ppm, png, vga_lines
from imgconv.errors import HostileInput

needs_font = pytest.mark.skipif(glyphs.font() is None, reason="QEMU's VGA BIOS is not installed")


def memory(rows: dict[int, str]) -> bytes:
    """A VGA's text memory with these rows, grey on black."""
    text = bytearray(b" " * (TEXT_SIZE // 2))
    for row, line in rows.items():
        text[row * 80:row * 80 + len(line)] = line.encode("cp437")
    return bytes(byte for char in text for byte in (char, 7))


def test_vga_lines() -> None:
    long = "Kernel panic - not syncing: " + "x" * 100
    lines = vga_lines(memory({0: "one", 3: "  two", 30: long, 203: "legacy login: "}))
    assert lines == ("one", "  two", long, "legacy login:")


@pytest.mark.parametrize("content", [b"", b"\xff" * TEXT_SIZE, bytes(range(256)) * 128, b"\0" * 7])
def test_any_memory_is_some_text(content: bytes) -> None:
    watch = Watch()
    watch.see(vga_lines(content))
    assert all(line.isprintable() for line in watch.screen)
    assert not watch.up
    assert not watch.down


def test_the_same_screen_says_nothing_new() -> None:
    watch = Watch()
    watch.see(("legacy login:",))
    enough = watch.enough
    watch.see(("legacy login:",))
    assert watch.up == {"login prompt": "login prompt (on the screen): legacy login:"}
    assert watch.enough == enough


def test_png_holds_the_pixels() -> None:
    pixels = bytes(range(36))
    data = png(parse_ppm(b"P6\n4 3\n255\n" + pixels))
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        body = data[at + 8:at + 8 + size]
        assert zlib.crc32(kind + body) == int.from_bytes(data[at + 8 + size:at + 12 + size], "big")
        chunks[kind] = body
        at += 12 + size
    assert struct.unpack(">IIBBBBB", chunks[b"IHDR"]) == (4, 3, 8, 2, 0, 0, 0)
    assert zlib.decompress(chunks[b"IDAT"]) == b"".join(
        b"\0" + pixels[start:start + 12] for start in (0, 12, 24))
    assert not chunks[b"IEND"]


@pytest.mark.parametrize("data", [b"", b"P5\n1 1\n255\n0", b"P6\n4 3\n255\nshort",
                                  b"P6\n999999999 1\n255\n"])
def test_what_is_no_picture(data: bytes) -> None:
    with pytest.raises(HostileInput):
        parse_ppm(data)


# --- text in pixels -------------------------------------------------------------------------------


def drawn(lines: list[str], *, width: int = 1284, height: int = 806, ink: int = 0xAA,
          paper: int = 0, flaw: int = 0) -> Picture:
    """`lines` as a console on a framebuffer draws them; `flaw` dots of each character differ."""
    font = glyphs.font()
    assert font is not None
    shapes = {char: shape for shape, char in font.items()}
    dots = bytearray([paper]) * (width * height)
    for row, line in enumerate(lines):
        for column, char in enumerate(line):
            shape = shapes[char] ^ (0 if char == " " else (1 << flaw) - 1)
            for dot in range(128):
                if shape >> (127 - dot) & 1:
                    dots[(row * 16 + dot // 8) * width + column * 8 + dot % 8] = ink
    return Picture(width, height, bytes(dot for dot in dots for _ in range(3)))


LINES = ["Debian GNU/Linux 12 legacy tty1", "", "legacy login: ",
         "ALERT!  /dev/sda1 does not exist.  Dropping to a shell!", "(initramfs)"]


@needs_font
@pytest.mark.parametrize("flaw", [0, 2])
@pytest.mark.parametrize(("ink", "paper"), [(0xAA, 0), (0xFF, 0), (0, 0xFF)])
def test_text_is_read(ink: int, paper: int, flaw: int) -> None:
    assert glyphs.read(drawn(LINES, ink=ink, paper=paper, flaw=flaw)) == tuple(
        line.rstrip() for line in LINES if line)


@needs_font
@pytest.mark.parametrize("pixels", [
    bytes(3 * 640 * 480), b"\xff" * (3 * 640 * 480),
    bytes((x * y + x) % 256 for y in range(480) for x in range(640) for _ in range(3))],
    ids=["black", "white", "colourful"])
def test_where_no_text_is_none_is_read(pixels: bytes) -> None:
    assert glyphs.read(Picture(640, 480, pixels)) == ()
