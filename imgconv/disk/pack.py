"""Packs: qcow2 images that hold the old, or the new, content of what changes on a disk."""

from __future__ import annotations

import hashlib
import shutil
import stat
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from imgconv.disk import blocks, changes, durable, formats
from imgconv.disk.journal import Direction, Range
from imgconv.disk.steps import reached
from imgconv.errors import ImgconvError
from imgconv.model import Image
from imgconv.run import run

#: What the tables of an empty qcow2 take at most, in bytes; data comes on top of it.
OVERHEAD = 1 << 20


def move(overlay: Image, target: Path) -> None:
    """Make the overlay a pack of its own at `target`; across filesystems it is copied.

    Raises ImgconvError.
    """
    changes.detach(overlay.path)
    reached("overlay detached")
    try:
        shutil.move(overlay.path, target)
    except OSError as error:
        raise ImgconvError(f"{target} cannot be written: {error.strerror}",
                           hint="make room there, or name another place: --state-dir DIR"
                           ) from error
    durable.sync(target)
    reached("redo pack complete")


def save(source: Image, redo: Path, undo: Path | None) -> tuple[Range, ...]:
    """Compare the pack `redo` with the source, and save what it changes there in the pack `undo`.

    Returns what really changes, in order. Raises ImgconvError.
    """
    found = []
    with ExitStack() as stack:
        old = stack.enter_context(blocks.opened(source.path, source.format))
        new = stack.enter_context(open_pack(redo))
        saved = None
        if undo is not None:
            run(["qemu-img", "create", "-q", "-f", "qcow2", undo, str(source.virtual_size)])
            reached("undo pack made")
            saved = stack.enter_context(open_pack(undo, writable=True))
        for start, length in changes.allocated(redo):
            before, after = old.read(start, length), new.read(start, length)
            if before == after:
                continue
            if saved is not None:
                saved.write(start, before)
                reached("range saved")
            found.append(Range(start, length, digest(before), digest(after)))
        if saved is not None:
            saved.flush()
    if undo is not None:
        durable.sync(undo)
        reached("undo pack complete")
    return tuple(found)


def open_pack(path: Path, *, writable: bool = False) -> AbstractContextManager[blocks.Blocks]:
    """Raises ImgconvError when it is no pack: packs name no other file, and are no links."""
    try:
        regular = stat.S_ISREG(path.lstat().st_mode)
    except OSError as error:
        raise ImgconvError(f"{path} cannot be read: {error.strerror}",
                           hint="without it the disk cannot be restored") from error
    if not regular or formats.open_image(path, input_format="qcow2", writable=writable).references:
        raise ImgconvError(f"{path} was not made by imgconv",
                           hint="it may be malicious: take the folder it is in away")
    return blocks.opened(path, "qcow2", writable=writable)


def check(path: Path, size: int, ranges: Sequence[Range], direction: Direction) -> None:
    """Raise ImgconvError unless the pack has the content that the journal says it has."""
    with open_pack(path) as content:
        if content.size != size or any(
                digest(content.read(part.start, part.length)) != wanted(part, direction)
                for part in ranges):
            raise ImgconvError(f"{path} is damaged: its content has another checksum",
                               hint="is the disk that it is on failing?")


def wanted(part: Range, direction: Direction) -> str:
    """The checksum that a range has in the end."""
    return part.after if direction is Direction.FORWARD else part.before


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
