"""Undo: give a disk back the content that it had before imgconv wrote to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from imgconv.disk import blocks, commit, formats, journal, lock, pack, recovery, state
from imgconv.disk.journal import Direction, Journal
from imgconv.errors import ImgconvError, UsageError
from imgconv.model import Image


@dataclass(frozen=True, slots=True)
class Undone:
    """What was undone: all `disks` of the guest, the time of the conversion in ISO 8601, how much
    was written back, and how many earlier conversions can still be undone."""

    disks: tuple[Path, ...]
    converted: str
    ranges: int
    bytes: int
    left: int


def undo(disks: Sequence[Path], *, force: bool = False, allow_external_files: bool = False,
         state_dir: Path | None = None) -> Undone | None:
    """Undo the last conversion of the guest that has these disks; None when there is none.

    The cost is that of the change, not of the disk; a kill at any moment is harmless, as with a
    conversion. `force` does it even if someone has written to the disks since; then only the
    ranges that the conversion changed are restored, and the rest is left as it is.

    Raises ImgconvError; the disks are then as they were, unless it is CommitFailed.
    """
    if not disks:
        raise UsageError("no disk was given")
    for disk in disks:
        if not disk.exists():
            raise ImgconvError(f"{disk} does not exist")
    if not force:
        recovery.recover(disks, allow_external_files=allow_external_files, state_dir=state_dir)
    entries = state.entries(disks[0], state_dir)
    if not entries:
        _check_none(disks, state_dir)
        return None
    entry = entries[-1]
    plan = journal.read(entry.folder / (journal.PENDING if entry.pending else journal.DONE))
    if not plan.undo:
        raise ImgconvError(f"{disks[0]} was converted with --no-undo",
                           hint="without --force, an interrupted conversion is completed")
    paths = state.locate(entry, plan, disks[0], disks, state_dir)
    for disk in disks:
        if not any(disk.samefile(path) for path in paths):
            raise UsageError(f"{disk} was not converted together with {disks[0]}",
                             hint="undo one guest at a time")
    images = ([formats.open_image(path, input_format=source.format, writable=True,
                                  allow_external_files=allow_external_files)
               for path, source in zip(paths, plan.disks, strict=True)]
              if not entry.pending else recovery.reopened(plan, paths, allow_external_files))
    with lock.locked(images):
        if not state.entry_of(paths[0], entry.folder, 0, state_dir):
            return None  # another imgconv has just undone it
        _check(entry.folder, plan, images, force, state_dir)
        back = replace(plan, direction=Direction.BACK)
        journal.write(entry.folder / journal.PENDING, back)
        commit.finish(entry.folder, back, images, state_dir)
    return Undone(tuple(paths), plan.created, sum(len(disk.ranges) for disk in plan.disks),
                  plan.changed_bytes, len(state.entries(disks[0], state_dir)))


def _check_none(disks: Sequence[Path], state_dir: Path | None) -> None:
    for disk in disks:
        if state.entries(disk, state_dir):
            raise UsageError(f"{disk} can be undone, but {disks[0]} was not converted together "
                             "with it", hint=f"imgconv undo {disk}")


def _check(folder: Path, plan: Journal, images: Sequence[Image], force: bool,
           state_dir: Path | None) -> None:
    """Raise ImgconvError when a pack is damaged or a disk is not as the conversion has left it."""
    for index, (image, source) in enumerate(zip(images, plan.disks, strict=True)):
        undo_pack = journal.undo_pack(folder, index)
        pack.check(undo_pack, source.size, source.ranges, Direction.BACK)
        with blocks.opened(image.path, image.format) as target:
            if target.size != source.size:
                raise ImgconvError(
                    f"{image.path} was resized since it was converted: from {source.size:,} to "
                    f"{target.size:,} bytes",
                    hint="give it back its size (qemu-img resize), then undo it")
            changed = sum(pack.digest(target.read(part.start, part.length)) != part.after
                          for part in source.ranges)
        if force:
            continue
        if changed:
            raise ImgconvError(
                f"{image.path} was changed since it was converted (the guest has run): {changed} "
                f"of the {len(source.ranges)} ranges that were written then differ",
                hint=_FORCE)
        entry = state.entry_of(image.path, folder, index, state_dir)
        if entry is not None and not commit.is_as_left(image, entry.home):
            raise ImgconvError(
                f"{image.path} was written to since it was converted, by its time of change; the "
                "ranges that were written then are as they were left",
                hint="if it was only copied, --force restores it completely. Otherwise: " + _FORCE)


_FORCE = ("--force restores just what the conversion wrote, over everything newer: files that the "
          "guest has changed since may be damaged by it. Take a copy first")
