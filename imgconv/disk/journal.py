"""The journal of a commit: what is being written where, as data and as a file.

A folder of the state (see `state.py`) holds one commit of one guest:

    journal.json    it is under way: the sources may be half-written
    undo.json       it is done and can be undone; the same document
    N.undo.qcow2    the old content of disk N (the undo pack)
    N.redo.qcow2    the new one; it stays, to tell a torn write from someone else's during an undo

Packs are sparse qcow2 images of the disk's size without a backing file, that hold nothing but the
ranges. So a disk can be restored without imgconv, too:
`qemu-img rebase -u -f qcow2 -b DISK -F FORMAT 0.undo.qcow2 && qemu-img commit 0.undo.qcow2`.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from imgconv.disk import durable
from imgconv.errors import ImgconvError

PENDING, DONE = "journal.json", "undo.json"
_VERSION = 1
_MAX_BYTES = 256 << 20


class Direction(StrEnum):
    FORWARD = "forward"
    BACK = "back"


@dataclass(frozen=True, slots=True)
class Range:
    """Bytes of a disk that change, at most `changes.MAX_RANGE`; `before` and `after` are the
    SHA-256 of their content, in hex."""

    start: int
    length: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Source:
    """A disk that is written. `path` is real and absolute, `relative` is it from the journal's
    folder, `size` is the disk's in bytes."""

    path: str
    relative: str
    inode: int
    format: str
    size: int
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class Journal:
    """One commit. `undo` says that there are undo packs, `continues` that nobody had written to
    the disks since imgconv itself last did, `created` is a time in ISO 8601."""

    direction: Direction
    undo: bool
    continues: bool
    created: str
    disks: tuple[Source, ...]

    @property
    def changed_bytes(self) -> int:
        return sum(part.length for disk in self.disks for part in disk.ranges)


def write(path: Path, journal: Journal) -> None:
    """Put the journal on the disk, whole or not at all. Raises ImgconvError."""
    content = {"version": _VERSION, **asdict(journal)}
    durable.write(path, json.dumps({"sha256": _digest(content), **content}).encode())


def read(path: Path) -> Journal:
    """Raises ImgconvError when it is damaged, or made by a newer imgconv."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("it is too large")
        content = json.loads(path.read_bytes())
        if content.pop("sha256") != _digest(content):
            raise ValueError("its checksum is wrong")
        if content.pop("version") != _VERSION:
            raise ValueError("another version of imgconv has written it")
        return _journal(content)
    except OSError as error:
        raise ImgconvError(f"{path} cannot be read: {error.strerror}",
                           hint="run imgconv as the user who converted the disk") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ImgconvError(f"{path} is damaged: {error}",
                           hint="without it nothing is known of the disk's state; take the folder "
                                "away when you are sure that the disk is whole") from error


def redo_pack(folder: Path, index: int) -> Path:
    return folder / f"{index}.redo.qcow2"


def undo_pack(folder: Path, index: int) -> Path:
    return folder / f"{index}.undo.qcow2"


def _journal(content: dict[str, Any]) -> Journal:
    disks = tuple(Source(**{**disk, "ranges": tuple(Range(**part) for part in disk["ranges"])})
                  for disk in content["disks"])
    return Journal(Direction(content["direction"]), bool(content["undo"]),
                   bool(content["continues"]), str(content["created"]), disks)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
