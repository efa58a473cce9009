"""/etc/fstab: filesystems and swap must be named so that they are found on the new bus."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from imgconv.errors import HostileInput
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import edit
from imgconv.linux.device_names import Renamer
from imgconv.model import WriteFile

PATH = "/etc/fstab"

_LINE = re.compile(r"(?P<lead>[ \t]*)(?P<spec>[^#\s]\S*)(?P<rest>[ \t]+(?P<dir>\S+)[ \t]+"
                   r"(?P<type>\S+)(?:[ \t]+(?P<options>\S+))?.*)", re.DOTALL)

#: systemd makes a unit of each line; with more than this no system would come up.
_MAX_LINES = 10_000

#: Optical drives; IDE guests name them like disks (/dev/hdc), and no image is one.
_OPTICAL = {"iso9660", "udf"}

#: Options that name a further device: a journal or a log of its own, another member, or one that a
#: mount waits for (systemd.mount(5)).
_OPTION = re.compile(r"(?<![^\s,])(?P<key>journal_path|journal_dev|logdev|rtdev|device"
                     r"|x-systemd\.(?:requires|wanted-by|before|after))="
                     r"(?P<spec>/dev/[^\s,]+)")


@dataclass(frozen=True, slots=True)
class Line:
    """One mount of fstab; `optional` when the boot goes on without it (noauto, nofail).

    `devices` are further devices that its options name.
    """

    spec: str
    path: str
    type: str
    optional: bool
    devices: tuple[str, ...] = ()


def _parse(text: str) -> Line | None:
    match = _LINE.fullmatch(text.rstrip("\n"))
    if match is None:
        return None
    options = (match["options"] or "").split(",")
    return Line(match["spec"], match["dir"], match["type"],
                optional="noauto" in options or "nofail" in options,
                devices=tuple(m["spec"] for m in _OPTION.finditer(match["options"] or "")))


def lines(reader: Reader) -> Iterator[Line]:
    """The mounts that /etc/fstab asks for, in order. Raises HostileInput when there are too many.
    """
    yield from parse(read_text(reader, PATH) or "")


def parse(text: str) -> Iterator[Line]:
    """The mounts that the fstab `text` asks for. Raises HostileInput when there are too many."""
    mounts = (line for line in map(_parse, edit.lines(text)) if line is not None)
    for number, line in enumerate(mounts):
        if number == _MAX_LINES:
            raise HostileInput(f"{PATH} has more than {_MAX_LINES:,} mounts")
        yield line


def is_removable(line: Line) -> bool:
    """Whether a line is about an optical drive. (A line of type "auto" that is not mounted at boot,
    /dev/fd0 or a USB disk, is one like any other: what is on no given disk keeps its name.)"""
    return set(line.type.split(",")) <= _OPTICAL


def rewrite(text: str, renamer: Renamer) -> str:
    """`text` with every device name that changes replaced; all else stays to the byte."""
    return "".join(_rewrite_line(line, renamer) for line in edit.lines(text))


def _rewrite_line(text: str, renamer: Renamer) -> str:
    line = _parse(text)
    if line is None or is_removable(line):
        return text
    lead, spec, rest = text.partition(line.spec)
    if line.devices:
        # The file systems' drivers take a path here and no UUID=...
        rest = _OPTION.sub(lambda m: f"{m['key']}={renamer.rename(m['spec'], by_uuid=False)}", rest)
    return lead + renamer.rename(spec) + rest


def plan(reader: Reader, renamer: Renamer) -> tuple[WriteFile, ...]:
    return edit.edit(reader, PATH, lambda text: rewrite(text, renamer),
                     "filesystems and swap are found by these names on the new bus")
