"""The one place that runs host programs: argument lists, never a shell."""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgconv.errors import ImgconvError

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished program left: exit status and its captured output as text."""

    status: int
    stdout: str
    stderr: str


class CommandFailed(ImgconvError):
    """A host program failed; the message holds a command line that can be pasted into a shell."""

    def __init__(self, argv: Sequence[str], result: Result) -> None:
        detail = (result.stderr.strip() or result.stdout.strip() or "no output").splitlines()[-1]
        super().__init__(f"{argv[0]} failed (status {result.status}): {detail}",
                         hint=f"the command was: {shlex.join(argv)}")
        self.result = result


def run(argv: Sequence[str | Path], *, check: bool = True, timeout: float | None = None,
        env: Mapping[str, str] | None = None, cwd: Path | None = None,
        stdin: str | None = None) -> Result:
    """Run `argv`, wait for it and return its output.

    `env` is added to the present environment; LC_ALL is always C, because messages are read.
    Raises CommandFailed when `check` is set and the status is not zero, ImgconvError when the
    program is not installed or exceeds `timeout` (seconds).
    """
    words = [str(word) for word in argv]
    log.debug("run: %s", shlex.join(words))
    try:
        done = subprocess.run(words, capture_output=True, text=True, errors="replace",
                              timeout=timeout, cwd=cwd, check=False, input=stdin,
                              stdin=subprocess.DEVNULL if stdin is None else None,
                              env={**os.environ, "LC_ALL": "C", **(env or {})})
    except FileNotFoundError as error:
        raise ImgconvError(f"{words[0]} is not installed",
                           hint="imgconv doctor shows what is missing and how to get it") from error
    except subprocess.TimeoutExpired as error:
        raise ImgconvError(f"{words[0]} did not finish within {timeout:.0f} seconds",
                           hint=f"the command was: {shlex.join(words)}") from error
    result = Result(done.returncode, done.stdout, done.stderr)
    if check and result.status != 0:
        raise CommandFailed(words, result)
    return result
