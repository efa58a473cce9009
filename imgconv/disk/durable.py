"""Files that are whole and on the disk, or not there at all, whenever the power fails."""

from __future__ import annotations

import os
from pathlib import Path

from imgconv.disk.steps import reached
from imgconv.errors import ImgconvError


def write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace the file `path` in one step (write beside it, sync, rename, sync the folder)."""
    partial = path.with_name(path.name + ".new")
    reached(f"write {partial.name}")
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            reached(f"sync {partial.name}")
            os.fsync(file.fileno())
        reached(f"rename {partial.name}")
        partial.replace(path)
    except OSError as error:
        raise ImgconvError(f"{path} cannot be written: {error.strerror}",
                           hint="make room there, or name another place: --state-dir DIR"
                           ) from error
    reached(f"sync the folder of {path.name}")
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk. Raises ImgconvError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ImgconvError(f"{path} could not be written to the disk: {error.strerror}",
                           hint="the disk may be failing; see dmesg") from error
