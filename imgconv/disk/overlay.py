"""Copy-on-write overlays, and the private directory they live in."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from imgconv.errors import ImgconvError
from imgconv.model import Image
from imgconv.run import run

# A rebuilt initramfs or two, a kernel's modules, drivers and the registry: what a guest needs
_WORK_BYTES = 256 << 20
_MAX_BACKING_NAME = 1023  # QEMU's limit in the qcow2 header, in bytes


@contextmanager
def workspace(directory: Path | None = None) -> Iterator[Path]:
    """A new directory of mode 0700, removed however the block ends; Ctrl-C included.

    It is made in `directory`, by default where `tempfile` puts things ($TMPDIR, /tmp). Raises
    ImgconvError when it cannot be made or less than 256 MiB are free there.
    """
    place = directory or Path(tempfile.gettempdir())
    require_space(place, _WORK_BYTES, "work on the disk's overlay",
                  "make room, or name another directory: TMPDIR=/path imgconv ...")
    try:
        made = Path(tempfile.mkdtemp(prefix="imgconv-", dir=place))
    except OSError as error:
        raise ImgconvError(f"no temporary directory can be made in {place}: {error.strerror}",
                           hint="name another: TMPDIR=/path imgconv ...") from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def create(image: Image, directory: Path) -> Image:
    """Make an empty qcow2 overlay over `image` in `directory`, under a name safe for any tool.

    The backing file's name is absolute, so that no colon in it reads as a protocol, and its
    format is recorded, so that nobody probes. The image itself is not opened (-u).
    """
    backing = image.path.absolute()
    if len(os.fsencode(backing)) > _MAX_BACKING_NAME:
        raise ImgconvError(f"the path of the image is longer than {_MAX_BACKING_NAME} bytes, "
                           f"which qcow2 does not allow: {backing}",
                           hint="give it by way of a symbolic link with a short path")
    path = next(path for number in count()
                if not (path := directory / f"disk{number}.qcow2").exists())
    run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", image.format,
         path, str(image.virtual_size)])
    return Image(path, "qcow2", image.virtual_size, (image.path, *image.references))


def require_space(directory: Path, needed: int, purpose: str, remedy: str) -> None:
    """Raise ImgconvError unless `needed` bytes are free for this user in `directory`."""
    try:
        free = shutil.disk_usage(directory).free
    except OSError as error:
        raise ImgconvError(f"{directory}: {error.strerror}", hint=remedy) from error
    if free < needed:
        raise ImgconvError(f"{directory} has {_mib(free)} free, but {_mib(needed)} are needed "
                           f"to {purpose}", hint=remedy)


def _mib(size: int) -> str:
    return f"{-(-size >> 20):,} MiB"
