"""Completing what a killed imgconv or a power cut has left half-written.

The rule: once the journal is there, the result is complete and verified, so the commit is rolled
*forward* (and an undo goes on backwards). Only if that fails, as on a full disk, it is rolled back.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from imgconv.disk import blocks, commit, formats, journal, lock, pack, state
from imgconv.disk.journal import Direction, Journal, Range
from imgconv.errors import ImgconvError
from imgconv.model import Image

log = logging.getLogger(__name__)

_SECTOR = 512  # disks write these whole


def recover(disks: Sequence[Path], *, allow_external_files: bool = False,
            state_dir: Path | None = None) -> None:
    """Complete what is pending on any of the disks, and say so in the log.

    The disks need not exist. Raises ImgconvError when it cannot be completed.
    """
    for disk in disks:
        if not disk.exists():
            continue
        for entry in state.entries(disk, state_dir):
            if entry.pending:
                _complete(entry, disk, disks, allow_external_files, state_dir)


def _complete(entry: state.Entry, disk: Path, given: Sequence[Path], allow_external_files: bool,
              state_dir: Path | None) -> None:
    with ExitStack() as stack:
        try:
            plan = journal.read(entry.folder / journal.PENDING)
            paths = state.locate(entry, plan, disk, given, state_dir)
            images = reopened(plan, paths, allow_external_files)
            stack.enter_context(lock.locked(images))
        except ImgconvError as error:
            if not entry.pending:  # an imgconv that was at it has finished meanwhile
                return
            raise ImgconvError(f"writing {disk} was interrupted and must be completed first: "
                               f"{error.message}", hint=error.hint) from error
        if not entry.pending:
            return
        for index, image in enumerate(images):
            _check(entry.folder, plan, index, image)
        what = "conversion" if plan.direction is Direction.FORWARD else "undo"
        try:
            commit.finish(entry.folder, plan, images, state_dir)
        except commit.RolledBack as error:
            log.warning("%s: an interrupted %s was rolled back: %s", disk, what, error.message)
        else:
            log.warning("%s: an interrupted %s was completed", disk, what)


def reopened(plan: Journal, paths: Sequence[Path], allow_external_files: bool) -> list[Image]:
    """The images of a journal, which may be half-written. Raises ImgconvError."""
    return [formats.reopen(path, source.format, source.size,
                           allow_external_files=allow_external_files)
            for path, source in zip(paths, plan.disks, strict=True)]


# --- may it be completed? -------------------------------------------------------------------------


def _check(folder: Path, plan: Journal, index: int, image: Image) -> None:
    """Raise ImgconvError when the pack is damaged, or someone else has written to the disk since:
    then every sector is no longer either the old or the new one."""
    ranges = plan.disks[index].ranges
    forward = plan.direction is Direction.FORWARD
    source = journal.redo_pack if forward else journal.undo_pack
    pack.check(source(folder, index), image.virtual_size, ranges, plan.direction)
    with ExitStack() as stack:
        target = stack.enter_context(blocks.opened(image.path, image.format))
        if target.size != image.virtual_size:
            raise ImgconvError(f"{image.path} has another size than when it was converted",
                               hint="give it back its size (qemu-img resize)")
        if not plan.undo:
            return  # there is nothing to compare with
        torn = [part for part in ranges
                if pack.digest(target.read(part.start, part.length)) not in (part.before,
                                                                            part.after)]
        if not torn:
            return
        old = stack.enter_context(pack.open_pack(journal.undo_pack(folder, index)))
        new = stack.enter_context(pack.open_pack(journal.redo_pack(folder, index)))
        if not all(_is_mixture(part, target, old, new) for part in torn):
            raise ImgconvError(
                f"{image.path} was interrupted in mid-write, and someone else has written to it "
                "since", hint="imgconv undo --force DISK puts the old content back over it")


def _is_mixture(part: Range, target: blocks.Blocks, old: blocks.Blocks,
                new: blocks.Blocks) -> bool:
    """Whether each sector of the range is one of the two."""
    now, before, after = (side.read(part.start, part.length) for side in (target, old, new))
    return all(now[at:at + _SECTOR] in (before[at:at + _SECTOR], after[at:at + _SECTOR])
               for at in range(0, part.length, _SECTOR))
