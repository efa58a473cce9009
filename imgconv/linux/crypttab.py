"""/etc/crypttab: encrypted devices, named in the second field."""

from __future__ import annotations

import re
from collections.abc import Iterator

from imgconv.errors import HostileInput
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit, lines
from imgconv.model import WriteFile

PATH = "/etc/crypttab"

_LINE = re.compile(r"(?P<lead>[ \t]*[^#\s]\S*[ \t]+)(?P<spec>\S+)"
                   r"(?P<rest>(?:[ \t]+(?P<key>\S+))?.*)", re.DOTALL)

#: systemd makes a unit of each line; with more than this no system would come up.
_MAX_LINES = 10_000

#: With these keys the device is swap or /tmp, encrypted anew at each boot: it has no lasting UUID.
_RANDOM = ("/dev/urandom", "/dev/random", "/dev/hwrng")


def specs(reader: Reader) -> Iterator[str]:
    """The devices that /etc/crypttab names, in order."""
    yield from parse(read_text(reader, PATH) or "")


def parse(text: str) -> Iterator[str]:
    """The devices that the crypttab `text` names, in order. Raises HostileInput when there are too
    many."""
    found = (match["spec"] for match in map(_LINE.fullmatch, lines(text)) if match is not None)
    for number, spec in enumerate(found):
        if number == _MAX_LINES:
            raise HostileInput(f"{PATH} has more than {_MAX_LINES:,} devices")
        yield spec


def rewrite(text: str, renamer: Renamer) -> str:
    """`text` with every device name that changes replaced; all else stays to the byte."""
    def line(text: str) -> str:
        match = _LINE.fullmatch(text)
        if match is None:
            return text
        spec = renamer.rename(match["spec"], by_uuid=match["key"] not in _RANDOM)
        return match["lead"] + spec + match["rest"]
    return "".join(line(text) for text in lines(text))


def plan(reader: Reader, renamer: Renamer) -> tuple[WriteFile, ...]:
    return edit(reader, PATH, lambda text: rewrite(text, renamer),
                "encrypted devices are found by these names on the new bus")
