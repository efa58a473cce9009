"""The end of a conversion: write a verified overlay into its source, or export it as a copy."""

from __future__ import annotations

import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imgconv.disk import qemu_img
from imgconv.disk.formats import FORMATS
from imgconv.disk.overlay import require_space
from imgconv.errors import CommitFailed, ImgconvError, UsageError
from imgconv.model import Image
from imgconv.run import run
from imgconv.signals import deferred

# inode, size in bytes and mtime in ns of the image and of each file it refers to
Fingerprint = tuple[tuple[int, int, int], ...]

# Without force_size, QEMU rounds a VHD's size up to a cylinder (block/vpc.c)
_CREATE_OPTIONS = {"vpc": ["-o", "subformat=dynamic,force_size=on"]}


def fingerprint(image: Image) -> Fingerprint:
    """What tells whether someone changed the image since: take it when the work begins.

    The references count too: a vmdk's descriptor stays as it is when its extents change.
    """
    stats = [path.stat() for path in (image.path, *image.references)]
    return tuple((entry.st_ino, entry.st_size, entry.st_mtime_ns) for entry in stats)


def commit(overlays: Sequence[tuple[Image, Image]], fingerprints: Sequence[Fingerprint]) -> None:
    """Write each (source, overlay)'s overlay into its source, and see it onto the disk.

    This is the one place where a user's image is written; the undo pack and the journal belong
    here, around the loop. Until then: the overlay is left whole (-d), so a commit that was
    killed can be completed by repeating it, and CommitFailed keeps the workspace. Signals wait
    until every disk is done.

    `fingerprints` are the sources', in the same order. Raises ImgconvError, before anything is
    written, when a source has changed since or its filesystem may fill up.
    """
    for (source, _), before in zip(overlays, fingerprints, strict=True):
        _check_unchanged(source, before)
    _check_room(overlays)
    with deferred(children=True):
        for source, overlay in overlays:
            try:
                run(["qemu-img", "commit", "-q", "-d", "-f", overlay.format, overlay.path])
                for path in (source.path, *source.references):
                    _fsync(path)
            except ImgconvError as error:
                raise _half_written(source, overlays, error) from error


def _half_written(source: Image, overlays: Sequence[tuple[Image, Image]],
                  error: ImgconvError) -> CommitFailed:
    finish = " && ".join(shlex.join(["qemu-img", "commit", "-d", "-f", overlay.format,
                                     str(overlay.path)]) for _, overlay in overlays)
    return CommitFailed(f"{source.path} is written only in part: {error.message}",
                        hint=f"mend the cause and finish it, before anything uses it: {finish}")


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
        _fsync(partial)
        partial.replace(output)
    _fsync(output.parent)


# --- checks before writing ----------------------------------------------------------------------


def _check_unchanged(source: Image, before: Fingerprint) -> None:
    if fingerprint(source) != before:
        raise ImgconvError(f"{source.path} was changed by someone else while imgconv worked on "
                           "a snapshot of it; nothing was written",
                           hint="make sure no virtual machine uses it, then run imgconv again")


def _check_room(overlays: Sequence[tuple[Image, Image]]) -> None:
    """At worst every block of the overlays is one that their sources have not allocated yet."""
    needed: dict[int, int] = {}
    for source, overlay in overlays:
        if source.path.is_block_device():
            continue
        device = source.path.stat().st_dev
        needed[device] = needed.get(device, 0) + overlay.path.stat().st_blocks * 512
        require_space(source.path.resolve().parent, needed[device],
                      f"write the result into {source.path.name}",
                      "make room there, or write a copy elsewhere: -o OUTPUT")


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


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise ImgconvError(f"{path} could not be written to the disk: {error.strerror}",
                           hint="the disk may be failing; see dmesg") from error
    finally:
        os.close(descriptor)
