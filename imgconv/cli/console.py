"""How every command speaks: text for people on stderr, one JSON document on stdout.

Text that comes from a guest (names of files, labels, messages of its programs) goes through
`text.sanitize` before it reaches a terminal: it must neither move the cursor nor be taken for
markup.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgconv.cli import logs
from imgconv.cli.text import sanitize
from imgconv.errors import ImgconvError
from imgconv.redact import redact

if TYPE_CHECKING:  # rich takes longer to import than most commands to start
    from rich.console import Console

log = logging.getLogger(__name__)


# --- text -----------------------------------------------------------------------------------------


def say(message: str, *, label: str = "", style: str = "") -> None:
    """Print one message for people, after a coloured label such as "error: "; never wrapped."""
    from rich.text import Text

    stderr().print(Text.assemble((label, style), sanitize(redact(message))), soft_wrap=True)


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
    """Say what is wrong, what to do about it and where the log is; returns the status to exit with.

    What ends with another status than 1 needs no log to be understood.
    """
    logs.note(error)
    where = logs.end(keep=error.exit_code == ImgconvError.exit_code)
    message, hint = redact(error.message), redact(error.hint)
    if as_json:
        try:
            print_json({"error": {"message": message, "hint": hint, "log": where}})
            return error.exit_code
        except OSError:  # stdout is closed or full: drop what Python would write again on leaving
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    say(message, label="error: ", style="bold red")
    if hint:
        say(hint, label="hint: ", style="bold")
    if where is not None:
        say(str(where), label="log: ", style="bold")
    return error.exit_code


def unforeseen(error: Exception) -> ImgconvError:
    """`error`, which nobody has made a message for, with its traceback in the log.

    The system's own errors (a full disk, a forbidden file) are no bugs; all others are.
    """
    log.debug("unforeseen error", exc_info=error)
    if isinstance(error, OSError):
        about = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return ImgconvError(about)
    return ImgconvError(f"internal error: {type(error).__name__}: {error}",
                        hint="this is a bug: report it, with the log (run with IMGCONV_DEBUG=1, it "
                             "is on the screen)")


# --- options that every command has ---------------------------------------------------------------

# Their callbacks do all there is to do, so a command only has to declare the two for logging.

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
VerboseOption = Annotated[
    bool, typer.Option("-v", "--verbose", callback=logs.to_stderr,
                       help="Log on stderr what is done, with every command that is run.")]
LogFileOption = Annotated[
    Path | None, typer.Option("--log-file", callback=logs.to_file, metavar="PATH",
                              help="Append the same log to a file. (Without it, the log of a run "
                                   "that fails is kept in the temporary directory.)")]


def examples(*commands: str) -> str:
    """The epilog of a command's --help: its examples, one a line."""
    return "\n\n".join(["Examples:", *(f"  {command}" for command in commands)])
