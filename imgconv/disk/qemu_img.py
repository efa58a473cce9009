"""Running qemu-img: with limits on images not yet trusted, and with progress for long copies."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from imgconv.errors import ImgconvError
from imgconv.run import CommandFailed, Result, run

# OpenStack Nova's limits for the same purpose, since CVE-2015-5162: a crafted header can make
# qemu-img allocate or compute without end.
_MEMORY_BYTES = 1 << 30
_CPU_SECONDS = 30
_WALL_SECONDS = 60.0

_PROGRESS = re.compile(rb"\((\d+\.\d+)/100%\)")


def info(path: Path, fmt: str) -> dict[str, Any]:
    """`qemu-img info` of the one file `path` (not of its backing files), format given.

    -U: looking must work while a virtual machine runs; whether it may be worked on is decided by
    `lock.locked`. Raises CommandFailed with qemu-img's words, ImgconvError when a limit is hit.
    """
    argv = ["qemu-img", "info", "-U", "-f", fmt, "--output=json", str(path)]
    result = run(_limited(argv), check=False, timeout=_WALL_SECONDS)
    if result.status != 0:
        raise CommandFailed(argv, result)
    parsed: dict[str, Any] = json.loads(result.stdout)
    return parsed


def measure(path: Path, fmt: str) -> int:
    """How many bytes a sparse copy of the image takes at most.

    Only qcow2 and raw can be measured, and raw is always the virtual size: the qcow2 figure
    stands for every sparse target.
    """
    result = run(["qemu-img", "measure", "--output=json", "-O", "qcow2", "-f", fmt, path])
    return int(json.loads(result.stdout)["required"])


def run_with_progress(argv: Sequence[str | Path], progress: Callable[[float], None]) -> None:
    """Run a qemu-img command that has `-p`, calling `progress` with 0..1 as it advances.

    The child is killed when `progress` or Ctrl-C raises. Raises CommandFailed as `run` does.
    """
    words = [os.fspath(word) for word in argv]
    with tempfile.TemporaryFile() as errors:
        try:
            child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                     stderr=errors, env={**os.environ, "LC_ALL": "C"})
        except FileNotFoundError as error:
            raise ImgconvError(f"{words[0]} is not installed",
                               hint="imgconv doctor shows how to get it") from error
        with child:
            try:
                assert child.stdout is not None
                for fraction in _fractions(child.stdout):
                    progress(fraction)
                status = child.wait()
            except BaseException:
                child.kill()
                raise
        if status != 0:
            errors.seek(0)
            raise CommandFailed(words, Result(status, "", errors.read().decode(errors="replace")))


def _fractions(stream: IO[bytes]) -> Iterator[float]:
    """The numbers of qemu-img's "(12.34/100%)\\r", which arrive in arbitrary pieces."""
    rest = b""
    while piece := os.read(stream.fileno(), 4096):
        *complete, rest = (rest + piece).split(b"\r")
        for text in complete:
            if found := _PROGRESS.search(text):
                yield min(float(found[1]) / 100, 1.0)


def _limited(argv: list[str]) -> list[str]:
    """`argv` under prlimit (util-linux); unlimited where that is not installed."""
    if not shutil.which("prlimit") or not shutil.which(argv[0]):
        return argv  # and `run` says that qemu-img is missing, in better words than prlimit
    return ["prlimit", f"--as={_MEMORY_BYTES}", f"--cpu={_CPU_SECONDS}", *argv]
