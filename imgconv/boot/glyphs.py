"""Reads text in a picture of the screen: consoles on a framebuffer draw characters of known shape.

Linux draws those of the first VGA, 8 by 16 dots from the upper left corner on, unless it is told
otherwise. The VGA BIOS that comes with QEMU has them. For all else there is tesseract, if it is
installed.
"""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

from imgconv.boot.screen import Picture
from imgconv.errors import ImgconvError
from imgconv.run import run

_WIDTH, _HEIGHT = 8, 16

#: Where distributions keep QEMU's VGA BIOS.
_ROMS = tuple(Path("/usr/share") / folder / "vgabios-stdvga.bin"
              for folder in ("seabios", "seavgabios", "qemu", "qemu-kvm", "vgabios"))
#: The letter A of that font, a byte a row, the leftmost dot first.
_LETTER_A = bytes.fromhex("000010386cc6c6fec6c6c6c600000000")

#: Linux' shapes differ from the BIOS' in a few dots.
_ALIKE = 6
#: A dot is lit whose green (0 to 255) is more: consoles write light on dark, or the reverse.
_LIT = bytes(int(value > 100) for value in range(256))
#: Pictures with more unknown shapes than known ones have no text.
_KNOWN = 0.7
#: Seconds for tesseract.
_OCR_SECONDS = 30.0


def read(picture: Picture) -> tuple[str, ...]:
    """The lines of text on the screen that are not empty; none when it has no such text."""
    known = font()
    if known is None:
        return ()
    dots = picture.pixels[1::3].translate(_LIT)
    match = functools.cache(functools.partial(_nearest, known))
    rows = [[match(cell) for cell in row] for row in _cells(dots, picture.width, picture.height)]
    drawn = [char for row in rows for char in row if char != " "]
    if not drawn or sum(char is not None for char in drawn) < _KNOWN * len(drawn):
        return ()
    lines = ("".join(char or "?" for char in row).rstrip() for row in rows)
    return tuple(line for line in lines if line)


@functools.cache
def font() -> dict[int, str] | None:
    """The characters by their shape: 16 bytes as one number. None without the VGA BIOS."""
    for path in _ROMS:
        if path.is_file():
            rom = path.read_bytes()
            start = rom.find(_LETTER_A) - ord("A") * _HEIGHT
            if start >= 0:
                return {int.from_bytes(rom[at:at + _HEIGHT], "big"): chr(code)
                        for code in range(32, 127)
                        for at in (start + code * _HEIGHT,)}
    return None


def ocr(picture: Path) -> tuple[str, ...]:
    """What tesseract reads in a PNG; nothing where it is not installed, or fails."""
    if shutil.which("tesseract") is None:
        return ()
    try:
        text = run(["tesseract", picture, "stdout"], timeout=_OCR_SECONDS).stdout
    except ImgconvError:
        return ()
    return tuple(line for line in text.splitlines() if line.strip())


def _cells(dots: bytes, width: int, height: int) -> Iterator[Iterator[bytes]]:
    """Rows of characters' cells, each 128 bytes of 0 and 1."""
    for top in range(0, height - _HEIGHT + 1, _HEIGHT):
        lines = [dots[line * width:(line + 1) * width] for line in range(top, top + _HEIGHT)]
        yield (b"".join(line[left:left + _WIDTH] for line in lines)
               for left in range(0, width - _WIDTH + 1, _WIDTH))


def _nearest(known: dict[int, str], cell: bytes) -> str | None:
    """The character whose shape is most like that of `cell`; None when none is like it."""
    shape = int(cell.translate(bytes.maketrans(b"\0\1", b"01")), 2)
    if shape in (0, (1 << _WIDTH * _HEIGHT) - 1):
        return " "
    if shape.bit_count() > _WIDTH * _HEIGHT // 2:
        shape ^= (1 << _WIDTH * _HEIGHT) - 1  # dark on light
    best = min(known, key=lambda other: (shape ^ other).bit_count())
    return known[best] if (shape ^ best).bit_count() <= _ALIKE else None
