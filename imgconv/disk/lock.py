"""Keeping others off an image: a second imgconv, and a QEMU that already has it open.

Both use open-file-description locks on single bytes far below any data's meaning: the kernel
drops them with the process, so that nothing stale is ever left, and they work on NFS, where
flock() would lock the whole file against QEMU too.

QEMU's protocol (block/file-posix.c, raw_check_lock_bytes): whoever uses a permission holds a
shared lock on byte 100 + its bit, whoever does not tolerate it in others one on byte 200 + bit.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import shlex
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from imgconv.errors import ImgconvError, UsageError
from imgconv.model import Image

log = logging.getLogger(__name__)

_FLOCK = struct.Struct("@hhqqi0q")  # struct flock: type, whence, start, length, pid
_OWN_BYTE = 300
_QEMU_WRITES = 100 + 1  # BLK_PERM_WRITE is bit 1
_QEMU_FORBIDS_WRITING = 200 + 1
# In seconds. The programs of an imgconv that was killed live some milliseconds longer than it
_PATIENCE = 1.0
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


@contextmanager
def locked(images: Sequence[Image], *, writable: bool = True) -> Iterator[None]:
    """Hold the images of one guest, and the files they refer to, while the block runs.

    `writable` says that the images will be written in the end: then nobody may even read them
    through QEMU; without it, and for backing files, only writers are in the way. Raises
    UsageError when an image is given twice or is the backing file of another, ImgconvError when
    someone else has one. A QEMU with `locking=off` and other hypervisors are not seen.
    """
    _check_distinct(images)
    with ExitStack() as stack:
        for image in images:
            stack.enter_context(_held(image.path, writable))
            for reference in image.references:
                stack.enter_context(_held(reference, False))
        yield


def wait(paths: Sequence[Path], seconds: float) -> None:
    """Wait until no other imgconv writes any of `paths`, or `seconds` are over. What cannot be
    opened is nobody's."""
    deadline = time.monotonic() + seconds
    for path in paths:
        while _is_taken(path) and time.monotonic() < deadline:
            time.sleep(0.1)


def _is_taken(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return _is_locked(descriptor, _OWN_BYTE)
    finally:
        os.close(descriptor)


def _check_distinct(images: Sequence[Image]) -> None:
    used: dict[tuple[int, int], Path] = {}
    for path in (*(image.path for image in images), *{r for i in images for r in i.references}):
        entry = path.stat()
        key = (entry.st_dev, entry.st_ino)
        if key in used and used[key] in (image.path for image in images):
            raise UsageError(f"{path} and {used[key]} are one image, used twice",
                             hint="give each disk of the guest once, and not its backing file")
        used[key] = path


@contextmanager
def _held(path: Path, writable: bool) -> Iterator[None]:
    try:
        descriptor = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError as error:
        raise ImgconvError(f"{path} cannot be opened: {error.strerror}") from error
    try:
        _patiently(lambda: _take(descriptor, path, writable))
        _patiently(lambda: _check_qemu(descriptor, path, writable))
        yield
    finally:
        os.close(descriptor)


def _patiently(attempt: Callable[[], None]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return attempt()
        except ImgconvError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _take(descriptor: int, path: Path, writable: bool) -> None:
    """Readers share imgconv's own byte, a writer has it alone."""
    wanted = _FLOCK.pack(fcntl.F_WRLCK if writable else fcntl.F_RDLCK, os.SEEK_SET,
                         _OWN_BYTE, 1, 0)
    try:
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, wanted)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            log.warning("%s: this filesystem has no locks; make sure nothing else uses it", path)
            return
        raise ImgconvError(f"another imgconv is working on {path}",
                           hint="wait until it has finished") from error


def _check_qemu(descriptor: int, path: Path, writable: bool) -> None:
    if _is_locked(descriptor, _QEMU_WRITES):
        raise ImgconvError(f"{path} is in use: a running QEMU has it open for writing",
                           hint=_remedy(path))
    if writable and _is_locked(descriptor, _QEMU_FORBIDS_WRITING):
        raise ImgconvError(f"{path} is in use: a running QEMU relies on its content",
                           hint=f"{_remedy(path)} (or write a copy: -o OUTPUT)")


def _is_locked(descriptor: int, byte: int) -> bool:
    """Whether an exclusive lock on the byte would conflict with anybody's."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, byte, 1, 0)
    try:
        answer = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, asked)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)


def _remedy(path: Path) -> str:
    return f"shut the virtual machine down first; who it is: fuser -v {shlex.quote(str(path))}"
