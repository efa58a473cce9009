"""Writing files into a Windows guest: how the guest spells where they belong, what they cost."""

from __future__ import annotations

from collections.abc import Iterable

from imgconv.guest.protocols import Reader
from imgconv.model import AppendFile, Change, WriteFile

#: Nothing that is written here, and so nothing that it replaces, is larger: QEMU's guest agent with
#: all its libraries is the largest with some 15 MiB.
FILE_LIMIT = 64 << 20

#: What NTFS gives out: clusters of 4 KiB usually; a file has a record of 1 KiB besides.
_CLUSTER = 4096
_RECORD = 1024


def spelled(reader: Reader, path: str) -> str:
    """`path` with the part of it that exists as the guest's filesystem spells it."""
    above = path
    while above:
        found = reader.find(above)
        if found is not None:
            return found + path[len(above):]
        above = above.rpartition("/")[0]
    return path


def write(reader: Reader, path: str, content: bytes, why: str) -> tuple[WriteFile, ...]:
    """The change that gives `path` this content; () when it has it already.

    Raises HostileInput when what is there is larger than FILE_LIMIT bytes.
    """
    path = spelled(reader, path)
    before = reader.read(path, FILE_LIMIT) if reader.size(path) is not None else None
    return () if before == content else (WriteFile(path, content, before, why),)


def needed_bytes(changes: Iterable[Change]) -> int:
    """How many bytes of a filesystem the files take that `changes` write, at most."""
    total = 0
    for change in changes:
        if isinstance(change, WriteFile):
            total += max(_allocated(change.content) - _allocated(change.before), 0)
            total += _RECORD if change.before is None else 0
        elif isinstance(change, AppendFile):
            total += _allocated(change.content)
    return total


def _allocated(content: bytes | None) -> int:
    return -(-len(content or b"") // _CLUSTER) * _CLUSTER
