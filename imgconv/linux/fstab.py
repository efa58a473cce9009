"""/etc/fstab: filesystems and swap must be named so that they are found on the new bus."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit
from imgconv.model import WriteFile

PATH = "/etc/fstab"

_LINE = re.compile(r"(?P<lead>[ \t]*)(?P<spec>[^#\s]\S*)(?P<rest>[ \t]+(?P<dir>\S+)[ \t]+"
                   r"(?P<type>\S+)(?:[ \t]+(?P<options>\S+))?.*)", re.DOTALL)

#: Optical and floppy drives; IDE guests name them like disks (/dev/hdc), and no image is one.
_REMOVABLE = {"iso9660", "udf", "udf,iso9660", "iso9660,udf", "auto"}


@dataclass(frozen=True, slots=True)
class Line:
    """One mount of fstab; `optional` when the boot goes on without it (noauto, nofail)."""

    spec: str
    path: str
    type: str
    optional: bool


def _parse(text: str) -> Line | None:
    match = _LINE.fullmatch(text.rstrip("\n"))
    if match is None:
        return None
    options = (match["options"] or "").split(",")
    return Line(match["spec"], match["dir"], match["type"],
                optional="noauto" in options or "nofail" in options)


def lines(reader: Reader) -> Iterator[Line]:
    """The mounts that /etc/fstab asks for, in order."""
    for text in (read_text(reader, PATH) or "").splitlines():
        line = _parse(text)
        if line is not None:
            yield line


def is_removable(line: Line) -> bool:
    return line.type in _REMOVABLE and line.optional


def rewrite(text: str, renamer: Renamer) -> str:
    """`text` with every device name that changes replaced; all else stays to the byte."""
    return "".join(_rewrite_line(line, renamer) for line in text.splitlines(keepends=True))


def _rewrite_line(text: str, renamer: Renamer) -> str:
    line = _parse(text)
    if line is None or is_removable(line):
        return text
    return text.replace(line.spec, renamer.rename(line.spec), 1)


def plan(reader: Reader, renamer: Renamer) -> tuple[WriteFile, ...]:
    return edit(reader, PATH, lambda text: rewrite(text, renamer),
                "filesystems and swap are found by these names on the new bus")
