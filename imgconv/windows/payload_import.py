"""Copying a driver payload to where imgconv finds it: whole, or not at all."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from imgconv.disk import durable
from imgconv.errors import ImgconvError
from imgconv.windows.payload_find import payload_in, user_folder
from imgconv.windows.virtio_win import open_payload


def import_payload(source: Path, target: Path | None = None) -> Path:
    """Copy an ISO (as it is) or a folder's tree, and return where it is then.

    Without a `target`, that is in the user's own folder; in one that exists, the copy keeps its
    name. Raises ImgconvError: `source` must be a payload, and nothing is overwritten.
    """
    source = (payload_in(source) or source).absolute()
    with open_payload(source) as payload:
        files = payload.files
    folder = user_folder() if target is None else target
    path = folder / source.name if target is None or folder.is_dir() else folder
    if os.path.lexists(path):
        raise ImgconvError(f"{path} exists already",
                           hint="remove it first, or name another place: --to PATH")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if source.is_file():
            shutil.copyfile(source, partial)
            durable.sync(partial)
        else:
            for name in files:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, partial / name)
            os.sync()
        partial.rename(path)
    except OSError as error:
        raise ImgconvError(f"{error.filename or path}: {error.strerror}",
                           hint="make room there, or name another place: --to PATH") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        partial.unlink(missing_ok=True)
    return path
