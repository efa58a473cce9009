"""The process that converts one guest of a batch: imgconv's command line, and two threads to the
batch, its stdin and a pipe for progress.

    python -m imgconv.batch.child PIPE PATIENCE N FILE... ARGUMENT...

waits up to PATIENCE seconds until no other imgconv works on the N FILEs, then runs the command
line.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Runs the command line; always raises SystemExit."""
    pipe, patience, count = int(arguments[0]), float(arguments[1]), int(arguments[2])
    os.set_inheritable(pipe, False)  # else whatever is started here would keep it open
    threading.Thread(target=_end_with_the_batch, daemon=True).start()
    from imgconv.cli import main as command_line
    from imgconv.cli import progress
    from imgconv.disk import lock

    def tell(phase: str, fraction: float) -> None:
        os.write(pipe, f"{phase} {fraction:.3f}\n".encode())

    progress.listeners.append(tell)
    lock.wait([Path(file) for file in arguments[3:3 + count]], patience)
    sys.argv = ["imgconv", *arguments[3 + count:]]
    command_line()


def _end_with_the_batch() -> None:
    """When the batch is gone, however it went, stdin ends."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
