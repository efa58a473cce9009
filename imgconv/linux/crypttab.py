"""/etc/crypttab: encrypted devices, named in the second field."""

from __future__ import annotations

import re
from collections.abc import Iterator

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit
from imgconv.model import WriteFile

PATH = "/etc/crypttab"

_LINE = re.compile(r"(?P<lead>[ \t]*[^#\s]\S*[ \t]+)(?P<spec>\S+)(?P<rest>.*)", re.DOTALL)


def specs(reader: Reader) -> Iterator[str]:
    """The devices that /etc/crypttab names, in order."""
    for text in (read_text(reader, PATH) or "").splitlines():
        match = _LINE.fullmatch(text)
        if match is not None:
            yield match["spec"]


def rewrite(text: str, renamer: Renamer) -> str:
    """`text` with every device name that changes replaced; all else stays to the byte."""
    def line(text: str) -> str:
        match = _LINE.fullmatch(text)
        return match["lead"] + renamer.rename(match["spec"]) + match["rest"] if match else text
    return "".join(line(text) for text in text.splitlines(keepends=True))


def plan(reader: Reader, renamer: Renamer) -> tuple[WriteFile, ...]:
    return edit(reader, PATH, lambda text: rewrite(text, renamer),
                "encrypted devices are found by these names on the new bus")
