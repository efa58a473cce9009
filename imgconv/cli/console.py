"""How every command speaks: text for people on stderr, one JSON document on stdout.

Text that comes from a guest (names of files, labels, messages of its programs) goes through
`sanitize` before it reaches a terminal: it must neither move the cursor nor be taken for markup.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgconv.errors import ImgconvError

if TYPE_CHECKING:  # rich takes longer to import than most commands to start
    from rich.console import Console

log = logging.getLogger(__name__)

LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


# --- text -----------------------------------------------------------------------------------------


def sanitize(text: str) -> str:
    """`text` with everything but printable characters, newlines and tabs shown as an escape.

    That covers terminal escapes, bidirectional overrides (CVE-2021-42574) and the surrogates that
    stand for bytes which are no UTF-8.
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def say(message: str, *, label: str = "", style: str = "") -> None:
    """Print one message for people, after a coloured label such as "error: "; never wrapped."""
    from rich.text import Text

    stderr().print(Text.assemble((label, style), sanitize(message)), soft_wrap=True)


def stderr() -> Console:
    """The console for people; it takes no markup, and colours only a terminal."""
    from rich.console import Console

    return Console(stderr=True, markup=False, highlight=False, emoji=False)


def print_json(document: object) -> None:
    """Print `document` to stdout as the one JSON document of this run, in ASCII.

    Dataclasses become objects, paths strings, bytes text (what is no UTF-8 as \\xNN).
    """
    # Flushed now, so that a reader who has gone away is noticed where Typer handles it.
    print(json.dumps(document, indent=2, default=_as_json), flush=True)


def _as_json(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


# --- the end that is no success -------------------------------------------------------------------


def fail(error: ImgconvError, *, as_json: bool) -> int:
    """Say what is wrong and what to do about it; returns the status to exit with."""
    if as_json:
        try:
            print_json({"error": {"message": error.message, "hint": error.hint}})
            return error.exit_code
        except OSError:  # stdout is closed or full: drop what Python would write again on leaving
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    say(error.message, label="error: ", style="bold red")
    if error.hint:
        say(error.hint, label="hint: ", style="bold")
    return error.exit_code


def unforeseen(error: Exception) -> ImgconvError:
    """`error`, which nobody has made a message for, with its traceback kept in a file.

    The system's own errors (a full disk, a forbidden file) are no bugs; all others are.
    """
    log.debug("unforeseen error", exc_info=error)
    message, hint = f"internal error: {type(error).__name__}: {error}", "this is a bug; "
    if isinstance(error, OSError):
        message, hint = str(error), ""
    try:
        handle, name = tempfile.mkstemp(prefix="imgconv-", suffix=".log")
        with os.fdopen(handle, "w", errors="backslashreplace") as file:
            print(sys.version, sys.argv, file=file)
            traceback.print_exception(error, file=file)
    except OSError:
        return ImgconvError(message, hint=f"{hint}for the details run it with IMGCONV_DEBUG=1")
    return ImgconvError(message, hint=f"{hint}the details are in {name}")


# --- logging --------------------------------------------------------------------------------------


class _Formatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return sanitize(super().format(record))


def log_to(handler: logging.Handler, level: int) -> None:
    """Send imgconv's log to `handler`, in place of an earlier one of the same kind."""
    logger = logging.getLogger("imgconv")
    for old in [old for old in logger.handlers if type(old) is type(handler)]:
        logger.removeHandler(old)
        old.close()
    handler.setLevel(level)
    handler.setFormatter(_Formatter(LOG_FORMAT))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)  # each handler has its own
    logger.propagate = False


def log_to_stderr(verbose: bool) -> bool:
    """Warnings only, or with `verbose` (or $IMGCONV_DEBUG) everything, such as commands run."""
    debug = verbose or bool(os.environ.get("IMGCONV_DEBUG"))
    log_to(logging.StreamHandler(), logging.DEBUG if debug else logging.WARNING)
    return verbose


def _log_to_file(path: Path | None) -> Path | None:
    if path is None:
        return None
    try:
        log_to(logging.FileHandler(path, errors="backslashreplace"), logging.DEBUG)
    except OSError as error:
        raise ImgconvError(f"the log {path} cannot be written: {error.strerror}",
                           hint="give --log-file a path that can") from error
    return path


# --- options that every command has ---------------------------------------------------------------

# Their callbacks do all there is to do, so a command only has to declare the two for logging.

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
VerboseOption = Annotated[
    bool, typer.Option("-v", "--verbose", callback=log_to_stderr,
                       help="Log on stderr what is done, with every command that is run.")]
LogFileOption = Annotated[
    Path | None, typer.Option("--log-file", callback=_log_to_file, metavar="PATH",
                              help="Append the same log to a file.")]


def examples(*commands: str) -> str:
    """The epilog of a command's --help: its examples, one a line."""
    return "\n\n".join(["Examples:", *(f"  {command}" for command in commands)])
