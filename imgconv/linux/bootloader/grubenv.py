"""GRUB 2's environment block: variables that it can also write, so the file is of fixed size."""

from __future__ import annotations

from imgconv.errors import CannotConvert, HostileInput
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import cmdline
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit, lines
from imgconv.model import WriteFile

_SIGNATURE = "# GRUB Environment Block\n"

#: grub-editenv makes it 1,024 bytes; some distributions make it larger.
_LONGEST = 1 << 16


def variables(reader: Reader, path: str) -> dict[str, str]:
    """The variables of the environment block at `path`; {} when there is none."""
    return parse(read_text(reader, path, _LONGEST) or "")


def parse(text: str) -> dict[str, str]:
    found = {}
    for line in lines(text):
        name, equals, value = line.rstrip("\n").partition("=")
        if equals and not name.startswith("#"):
            found[name] = value.replace("\\\\", "\\")
    return found


def rewrite(text: str, renamer: Renamer) -> str:
    """`text` with the devices of its command lines renamed, and of the same size.

    Raises CannotConvert when there is no room for the new names.
    """
    if not text.startswith(_SIGNATURE):
        return text
    body, size = text.rstrip("#"), len(text.encode("utf-8", "surrogateescape"))
    after = "".join(line if line.startswith("#") else cmdline.rewrite(line, renamer)
                    for line in lines(body))
    if after == body:
        return text
    padding = size - len(after.encode("utf-8", "surrogateescape"))
    if padding < 0:
        raise CannotConvert("GRUB's environment block has no room for the new names of the disks",
                            hint="shorten kernelopts in the guest (grub2-editenv), or use "
                                 "--names device")
    return after + "#" * padding


def plan(reader: Reader, renamer: Renamer, path: str) -> tuple[WriteFile, ...]:
    if (reader.size(path) or 0) > _LONGEST:
        raise HostileInput(f"{path} is larger than {_LONGEST:,} bytes")
    return edit(reader, path, lambda text: rewrite(text, renamer),
                "boot entries take their command line from here")
