"""The end of a conversion: write a verified overlay into its source, or export it as a copy."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from imgconv.disk import blocks, durable, journal, pack, qemu_img, state
from imgconv.disk.formats import FORMATS
from imgconv.disk.journal import Direction, Journal, Range, Source
from imgconv.disk.overlay import require_space
from imgconv.disk.steps import reached
from imgconv.errors import CommitFailed, ImgconvError, UsageError
from imgconv.model import Image
from imgconv.signals import deferred

# inode, size in bytes and mtime in ns of the image and of each file it refers to
Fingerprint = tuple[tuple[int, int, int], ...]

# Without force_size, QEMU rounds a VHD's size up to a cylinder (block/vpc.c)
_CREATE_OPTIONS = {"vpc": ["-o", "subformat=dynamic,force_size=on"]}


def fingerprint(image: Image) -> Fingerprint:
    """What tells whether someone changed the image since: take it when the work begins.

    The references count too: a vmdk's descriptor stays as it is when its extents change. Raises
    ImgconvError when one is gone.
    """
    try:
        stats = [path.stat() for path in (image.path, *image.references)]
    except OSError as error:
        raise ImgconvError(f"{error.filename} has vanished while imgconv worked on it: "
                           f"{error.strerror}", hint="was it moved, or its medium unplugged?"
                           ) from error
    return tuple((entry.st_ino, entry.st_size, entry.st_mtime_ns) for entry in stats)


def commit(overlays: Sequence[tuple[Image, Image]], fingerprints: Sequence[Fingerprint], *,
           undo: bool = True, state_dir: Path | None = None) -> None:
    """Write each (source, overlay)'s overlay into its source: into all of them or none.

    First the new content (the overlay itself is moved there), with `undo` the old one too, and a
    journal are on the disk. From then on, whatever happens, `recovery.recover` completes it. The
    locks of all sources must be held. Signals wait until it is done.

    `fingerprints` are the sources', in the same order. Raises ImgconvError when the sources are as
    they were: one has changed since, there is no room, writing failed and was rolled back. Raises
    CommitFailed when that failed, too; the journal is kept then.
    """
    for (source, _), before in zip(overlays, fingerprints, strict=True):
        _check_unchanged(source, before)
    images = [source for source, _ in overlays]
    with deferred(children=True):
        folder = state.create([image.path for image in images], state_dir)
        try:
            plan = _prepare(folder, overlays, undo=undo, state_dir=state_dir)
            if plan.changed_bytes == 0:
                state.remove(folder, [image.path for image in images], state_dir)
                return
            reached("prepared")
            journal.write(folder / journal.PENDING, plan)
        except BaseException:
            state.remove(folder, [image.path for image in images], state_dir)
            raise
        reached("journal written")
        finish(folder, plan, images, state_dir)


def _prepare(folder: Path, overlays: Sequence[tuple[Image, Image]], *, undo: bool,
             state_dir: Path | None) -> Journal:
    """Put everything that the commit needs into `folder`."""
    _check_room(folder, overlays, undo=undo)
    disks = []
    continues = True
    for index, (source, overlay) in enumerate(overlays):
        redo = journal.redo_pack(folder, index)
        pack.move(overlay, redo)
        ranges = pack.save(source, redo, journal.undo_pack(folder, index) if undo else None)
        real = source.path.resolve()
        disks.append(Source(str(real), os.path.relpath(real, folder), real.stat().st_ino,
                            source.format, source.virtual_size, ranges))
        earlier = state.entries(source.path, state_dir)
        continues &= bool(earlier) and state.remembered(earlier[-1].home) == _written(source)
    state.give_to_owner(folder, overlays[0][0].path)
    return Journal(Direction.FORWARD, undo, continues,
                   datetime.now().astimezone().isoformat(timespec="seconds"), tuple(disks))


class RolledBack(ImgconvError):
    """Writing failed, and everything that had been written was put back."""


def finish(folder: Path, plan: Journal, images: Sequence[Image],
           state_dir: Path | None = None) -> None:
    """Carry out the journal in `folder`; doing it again, after any interruption, is harmless.

    `images` are the journal's disks, locked. Raises RolledBack when what was to be written could
    not, and the disks are as they were before; CommitFailed when they are neither.
    """
    paths = [image.path for image in images]
    with deferred(children=True):
        try:
            _write(folder, plan, images)
        except ImgconvError as error:
            if plan.direction is Direction.BACK or not plan.undo:
                raise _half_written(folder, images, error) from error
            try:
                _write(folder, replace(plan, direction=Direction.BACK), images)
            except ImgconvError:
                raise _half_written(folder, images, error) from error
            state.remove(folder, paths, state_dir)
            raise RolledBack(f"the result could not be written: {error.message}; the disk is as it "
                             "was", hint=error.hint) from error
        _remember(folder, plan, images, state_dir)
        if plan.direction is Direction.BACK or not plan.undo:
            state.remove(folder, paths, state_dir)
            return
        (folder / journal.PENDING).replace(folder / journal.DONE)
        reached("journal closed")
        durable.sync(folder)


def _write(folder: Path, plan: Journal, images: Sequence[Image]) -> None:
    """Give every range of every disk the content that it has in the end, and prove it."""
    packs = journal.redo_pack if plan.direction is Direction.FORWARD else journal.undo_pack
    for index, (image, source) in enumerate(zip(images, plan.disks, strict=True)):
        with blocks.opened(image.path, image.format) as target:
            ranges = [part for part in source.ranges if not _is_there(target, part, plan.direction)]
        if ranges:
            _write_ranges(packs(folder, index), image, ranges, plan.direction)
        for path in (image.path, *image.references):
            durable.sync(path)
        reached("disk complete")


def _write_ranges(content: Path, image: Image, ranges: Sequence[Range],
                  direction: Direction) -> None:
    """The one place where a user's image is written."""
    with pack.open_pack(content) as new, \
            blocks.opened(image.path, image.format, writable=True) as target:
        for part in ranges:
            target.write(part.start, new.read(part.start, part.length))
            reached("range written")
        target.flush()
        reached("disk flushed")
        for part in ranges:
            if not _is_there(target, part, direction):
                raise ImgconvError(f"{image.path} does not hold what was written into it",
                                   hint="the disk may be failing; see dmesg")


def _is_there(target: blocks.Blocks, part: Range, direction: Direction) -> bool:
    return pack.digest(target.read(part.start, part.length)) == pack.wanted(part, direction)


def _remember(folder: Path, plan: Journal, images: Sequence[Image],
              state_dir: Path | None) -> None:
    """Note how the files are left, so that it is seen when someone else writes to them. After an
    undo that is known of the earlier state only if nobody had written before the commit."""
    for index, image in enumerate(images):
        entry = state.entry_of(image.path, folder, index, state_dir)
        if entry is None:
            continue
        if plan.direction is Direction.FORWARD or plan.continues:
            state.remember(entry.home, _written(image))
        else:
            state.forget(entry.home)


def is_as_left(image: Image, home: Path) -> bool:
    """Whether nobody has written to the image's files since imgconv did, by their sizes and times.

    Always for block devices, which have no such times.
    """
    return image.path.is_block_device() or state.remembered(home) == _written(image)


def _written(image: Image) -> state.Written:
    return [[size, changed] for _, size, changed in fingerprint(image)]


def _half_written(folder: Path, images: Sequence[Image], error: ImgconvError) -> CommitFailed:
    name = images[0].path
    return CommitFailed(f"{name} is written only in part: {error.message}",
                        hint=f"mend the cause{f' ({error.hint})' if error.hint else ''}; then any "
                             "imgconv command on the disk completes it, which must come before "
                             f"anything else uses it (from {folder})")


def export(overlay: Image, output: Path, fmt: str, progress: Callable[[float], None], *,
           force: bool = False) -> None:
    """Write the disk as the overlay shows it into a new image `output` of format `fmt`.

    It appears under its name only when it is complete and on the disk; nothing is left of it
    on failure or Ctrl-C. `progress` gets 0..1. `force` replaces an existing file, but never the
    source. The copy is readable by nobody who may not read the source. Raises ImgconvError.
    """
    output = output.absolute()
    check_output(overlay, output, fmt, force=force)
    require_space(output.parent, qemu_img.measure(overlay.path, overlay.format),
                  f"write {output.name}", "make room, or write elsewhere: -o OUTPUT")
    with _beside(output) as partial:
        # -W: clusters in any order, faster and harmless where nothing is compressed
        qemu_img.run_with_progress(
            ["qemu-img", "convert", "-p", "-m", "16", "-W", "-f", overlay.format, "-O", fmt,
             *_CREATE_OPTIONS.get(fmt, []), overlay.path, partial], progress)
        _restrict_mode(partial, overlay)
        durable.sync(partial)
        partial.replace(output)
    durable.sync(output.parent)


# --- checks before writing ----------------------------------------------------------------------


def _check_unchanged(source: Image, before: Fingerprint) -> None:
    if fingerprint(source) != before:
        raise ImgconvError(f"{source.path} was changed by someone else while imgconv worked on "
                           "a snapshot of it; nothing was written",
                           hint="make sure no virtual machine uses it, then run imgconv again")


def _check_room(folder: Path, overlays: Sequence[tuple[Image, Image]], *, undo: bool) -> None:
    """At worst every block of the overlays is one that their sources have not allocated yet."""
    needed: dict[int, int] = {}
    for source, overlay in overlays:
        size = overlay.path.stat().st_blocks * 512
        moved = overlay.path.stat().st_dev != folder.stat().st_dev
        kept = (size + pack.OVERHEAD if undo else 0) + (size if moved else 0)
        _require(needed, folder, kept, "keep what an undo or a power cut needs",
                 "make room there, name another place: --state-dir DIR, or do without undo: "
                 "--no-undo")
        if not source.path.is_block_device():
            _require(needed, source.path.resolve().parent, size,
                     f"write the result into {source.path.name}",
                     "make room there, or write a copy elsewhere: -o OUTPUT")


def _require(needed: dict[int, int], directory: Path, size: int, purpose: str, remedy: str) -> None:
    """`needed` has what is wanted of each filesystem so far, by device number."""
    device = directory.stat().st_dev
    needed[device] = needed.get(device, 0) + size
    require_space(directory, needed[device], purpose, remedy)


def check_output(source: Image, output: Path, fmt: str, *, force: bool) -> None:
    """Raise UsageError or ImgconvError when `source` cannot be exported there: before the work is
    done it is better known."""
    if fmt not in FORMATS:
        raise UsageError(f"unknown image format {fmt!r}", hint=f"one of: {', '.join(FORMATS)}")
    if not output.parent.is_dir():
        raise ImgconvError(f"the directory {output.parent} does not exist", hint="create it first")
    if not output.exists():
        return
    if any(output.samefile(path) for path in (source.path, *source.references)):
        raise UsageError(f"the output {output} is the source itself",
                         hint="give another name, or leave out -o to convert it in place")
    if not output.is_file():
        raise UsageError(f"the output {output} is not a regular file")
    if not force:
        raise ImgconvError(f"the output {output} exists already",
                           hint="remove it, or replace it with --force")


# --- files --------------------------------------------------------------------------------------


@contextmanager
def _beside(output: Path) -> Iterator[Path]:
    """A path on the output's filesystem, in a directory removed with all that is left in it.

    It has the output's own name, because a vmdk holds the name of its file.
    """
    try:
        made = tempfile.TemporaryDirectory(prefix=".imgconv-", dir=output.parent,
                                           ignore_cleanup_errors=True)
    except OSError as error:
        raise ImgconvError(f"{output.parent} cannot be written: {error.strerror}") from error
    with made as directory:
        yield Path(directory) / output.name


def _restrict_mode(path: Path, overlay: Image) -> None:
    """Take from others what the source does not give them; the owner can always write."""
    source_mode = overlay.references[0].stat().st_mode if overlay.references else 0o600
    path.chmod(path.stat().st_mode & (source_mode | 0o600) & 0o777)
