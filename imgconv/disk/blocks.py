"""What a guest sees of an image, read and written at any offset, whatever its format.

qemu-nbd knows the formats, libnbd speaks with it. The server is started by socket activation: it
has its client from the beginning, and so goes away with it, even when the client is killed.
"""

from __future__ import annotations

import errno
import logging
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from imgconv.errors import ImgconvError
from imgconv.run import CommandFailed, Result

log = logging.getLogger(__name__)


class Blocks:
    """An image that is open. Its methods raise ImgconvError with the reason of the failure."""

    def __init__(self, handle: Any, path: Path) -> None:  # noqa: ANN401  libnbd has no types
        self._handle = handle
        self._path = path

    @property
    def size(self) -> int:
        """The disk's size in bytes."""
        return int(self._call("get_size"))

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self._call("pread", length, offset))

    def write(self, offset: int, data: bytes) -> None:
        """Write `data`, zeros as a hole where the format knows holes."""
        if data.count(0) == len(data) and self._call("can_zero"):
            self._call("zero", len(data), offset)
        else:
            self._call("pwrite", data, offset)

    def flush(self) -> None:
        """Wait until everything written is on the disk."""
        if self._call("can_flush"):
            self._call("flush")

    def start(self, argv: list[str]) -> None:
        """Have libnbd run `argv`, a qemu-nbd. Raises nbd.Error."""
        self._handle.connect_systemd_socket_activation(argv)

    def close(self) -> None:
        """End qemu-nbd. Raises nbd.Error when that has ended already."""
        handle, self._handle = self._handle, None
        handle.shutdown()
        del handle  # the last reference: nbd_close waits for qemu-nbd, and so for its locks

    def _call(self, method: str, *args: object) -> Any:  # noqa: ANN401
        import nbd

        try:
            return getattr(self._handle, method)(*args)
        except nbd.Error as error:
            if error.errnum == errno.ENOSPC:
                raise ImgconvError(f"there is no room left for {self._path}",
                                   hint="make room there") from error
            raise ImgconvError(f"{self._path}: {error.string}",
                               hint="the disk may be failing; see dmesg") from error


@contextmanager
def opened(path: Path, fmt: str, *, writable: bool = False) -> Iterator[Blocks]:
    """The image `path`, of format `fmt`, until the block ends; by then QEMU has closed it.

    Raises ImgconvError when QEMU cannot open it (in use, damaged), CommandFailed with its words.
    """
    nbd = _binding()
    argv = ["qemu-nbd", "-f", fmt, *([] if writable else ["-r"]), str(path.absolute())]
    log.debug("run: %s", shlex.join(argv))
    with tempfile.TemporaryFile() as errors:
        image = Blocks(nbd.NBD(), path)
        try:
            _with_stderr(errors, lambda: image.start(argv))
        except nbd.Error as error:
            errors.seek(0)
            said = errors.read().decode(errors="replace").strip()
            raise CommandFailed(argv, Result(1, "", said or error.string)) from error
        try:
            yield image
        finally:
            try:
                image.close()
            except nbd.Error as error:
                log.debug("qemu-nbd had gone already: %s", error.string)


def _binding() -> Any:  # noqa: ANN401
    try:
        import nbd
    except ImportError as error:
        raise ImgconvError(
            "the Python binding of libnbd is not installed for this Python",
            hint="apt install python3-libnbd, and use a virtual environment made from "
                 "/usr/bin/python3 with --system-site-packages (scripts/imgconv does both)"
        ) from error
    return nbd


def _with_stderr(file: IO[bytes], start: Callable[[], None]) -> None:
    """Call `start` while this process's stderr is `file`: libnbd lets its child inherit it."""
    saved = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        start()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
