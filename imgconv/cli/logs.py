"""The log: on stderr, in a file that the user names, and in one that is kept when something fails.

Every record passes through one formatter: no terminal escapes, no secrets.
"""

from __future__ import annotations

import logging
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from imgconv import __version__
from imgconv.cli.text import sanitize
from imgconv.errors import ImgconvError
from imgconv.redact import redact

log = logging.getLogger(__name__)

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return sanitize(redact(super().format(record)))


class _Kept(logging.Handler):
    """A log in the temporary directory, of mode 0600, that begins with the first record: most
    commands that go wrong (a wrong path, say) do so before there is anything to log."""

    def __init__(self) -> None:
        super().__init__()
        self.path: Path | None = None
        self._stream: TextIO | None = None
        self._begun = False

    def emit(self, record: logging.LogRecord) -> None:
        if not self._begun:
            self._begun = True
            self._begin()
        if self._stream is not None:
            with suppress(OSError):  # a full disk: what is being done may work all the same
                print(self.format(record), file=self._stream, flush=True)

    def _begin(self) -> None:
        with suppress(OSError):
            handle, name = tempfile.mkstemp(prefix="imgconv-", suffix=".log")
            self.path = Path(name)
            self._stream = os.fdopen(handle, "w", errors="backslashreplace")
            for record in _head():
                self.emit(record)

    def close(self) -> None:
        if self._stream is not None:
            with suppress(OSError):
                self._stream.close()
        super().close()


def versions() -> dict[str, str]:
    """What takes part in the work, by name. Takes some tens of milliseconds."""
    from imgconv.guest import appliance

    try:
        said = subprocess.run(["qemu-img", "--version"], capture_output=True, text=True,
                              errors="replace", check=False, timeout=10).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        said = f"unusable: {error}"
    return {"imgconv": __version__, "Python": platform.python_version(),
            "libguestfs": appliance.version(), "qemu-img": (said.splitlines() or ["unusable"])[0],
            "kernel": platform.release(), "machine": platform.machine()}


def _head() -> list[logging.LogRecord]:
    words = ", ".join(f"{name} {version}" for name, version in versions().items())
    return [logging.LogRecord(__name__, logging.INFO, __file__, 0, text, None, None)
            for text in (words, f"command: {shlex.join(sys.argv)}")]


# --- where it goes --------------------------------------------------------------------------------


def _to(handler: logging.Handler, level: int) -> None:
    """Send imgconv's log to `handler`, in place of an earlier one of the same kind."""
    logger = logging.getLogger("imgconv")
    _drop(type(handler))
    handler.setLevel(level)
    handler.setFormatter(_Formatter(FORMAT))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)  # each handler has its own
    logger.propagate = False


def _drop(kind: type[logging.Handler]) -> None:
    logger = logging.getLogger("imgconv")
    for old in [old for old in logger.handlers if type(old) is kind]:
        logger.removeHandler(old)
        old.close()


def to_stderr(verbose: bool) -> bool:
    """Warnings only, or with `verbose` (or $IMGCONV_DEBUG) everything, such as commands run."""
    debug = verbose or bool(os.environ.get("IMGCONV_DEBUG"))
    _to(logging.StreamHandler(), logging.DEBUG if debug else logging.WARNING)
    return verbose


def to_file(path: Path | None) -> Path | None:
    """`--log-file`: the same in a file, instead of the temporary one."""
    if path is None:
        return None
    try:
        handler = logging.FileHandler(path, errors="backslashreplace")
    except OSError as error:
        raise ImgconvError(f"the log {path} cannot be written: {error.strerror}",
                           hint="give --log-file a path that can") from error
    end(keep=False)
    _to(handler, logging.DEBUG)
    for record in _head():
        handler.handle(record)
    return path


def begin() -> None:
    """A run of the command line begins: its temporary log, and warnings on stderr."""
    _drop(logging.FileHandler)
    _to(_Kept(), logging.DEBUG)
    to_stderr(verbose=False)


def note(error: Exception) -> None:
    """Add the traceback of `error` to a log that has begun."""
    if any(getattr(handler, "path", True) for handler in logging.getLogger("imgconv").handlers
           if isinstance(handler, _Kept | logging.FileHandler)):
        log.debug("failed: %s", error, exc_info=error)


def end(*, keep: bool) -> Path | None:
    """The run is over: where its log is, None where there is none. Without `keep` the temporary one
    is removed."""
    logger = logging.getLogger("imgconv")
    named = next((Path(handler.baseFilename) for handler in logger.handlers
                  if type(handler) is logging.FileHandler), None)
    kept = next((handler for handler in logger.handlers if isinstance(handler, _Kept)), None)
    _drop(_Kept)
    if kept is None or kept.path is None:
        return named
    if keep and named is None:
        return kept.path
    kept.path.unlink(missing_ok=True)
    return named
