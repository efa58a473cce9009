"""The command line, as a user runs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def imgconv(*words: str | Path) -> tuple[int, str]:
    """The exit status and what was printed."""
    done = subprocess.run([sys.executable, "-m", "imgconv", *map(str, words)], check=False,
                          stdout=subprocess.PIPE, text=True)
    return done.returncode, done.stdout
