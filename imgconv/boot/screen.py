"""The guest's screen: the text memory of a VGA, and pictures of it."""

from __future__ import annotations

import re
import struct
import zlib
from typing import NamedTuple

from imgconv.errors import HostileInput

#: Where a VGA in text mode has its text, and how much of it. The whole is read, not one screen:
#: Linux's vgacon scrolls by moving the screen within it.
TEXT_ADDRESS = 0xB8000
TEXT_SIZE = 0x8000
_COLUMNS = 80

#: A picture of more bytes is not read: 8K with three bytes a pixel is 100 MB.
PICTURE_LIMIT = 128 << 20

#: What QEMU draws a VGA's 80x25 characters of 9 or 8 times 16 dots as.
_TEXT_MODES = ((720, 400), (640, 400))

_HEADER = re.compile(rb"P6\n(\d{1,5}) (\d{1,5})\n255\n")


class Picture(NamedTuple):
    """Pixels as QEMU dumps them: three bytes (red, green, blue) each, row by row."""

    width: int
    height: int
    pixels: bytes

    @property
    def is_text_mode(self) -> bool:
        return (self.width, self.height) in _TEXT_MODES


def vga_lines(memory: bytes) -> tuple[str, ...]:
    """The lines in a VGA's text memory that are not empty, oldest first as a rule.

    `memory` has a character (code page 437) and its colours for each place of 80 columns. A line
    that fills its row to the end goes on in the next.
    """
    text = memory[::2].decode("cp437").replace("\0", " ")
    lines: list[str] = []
    whole = False
    for start in range(0, len(text), _COLUMNS):
        row = text[start:start + _COLUMNS]
        if whole:
            lines[-1] += row.rstrip()
        elif row.strip():
            lines.append(row.rstrip())
        whole = len(row.rstrip()) == _COLUMNS and bool(lines) and len(lines[-1]) < 1024
    return tuple(lines)


def parse_ppm(data: bytes) -> Picture:
    """A picture as QEMU's screendump writes it. Raises HostileInput for anything else."""
    match = _HEADER.match(data)
    if match is None:
        raise HostileInput("the screen's picture is none that QEMU writes")
    width, height = int(match[1]), int(match[2])
    pixels = data[match.end():]
    if len(pixels) != 3 * width * height:
        raise HostileInput("the screen's picture is cut short")
    return Picture(width, height, pixels)


def png(picture: Picture) -> bytes:
    """`picture` as a PNG (ISO/IEC 15948): not every QEMU writes it."""
    stride = 3 * picture.width
    # Each row begins with the filter that it has been through, which is none.
    rows = b"".join(b"\0" + picture.pixels[start:start + stride]
                    for start in range(0, stride * picture.height, stride))
    header = struct.pack(">IIBBBBB", picture.width, picture.height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, body) for kind, body in
        ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")))


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
