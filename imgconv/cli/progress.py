"""Progress on stderr: one tqdm bar over the phases, and one over the bytes of a copy."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm

from imgconv import host
from imgconv.cli.console import say

WORDS = {"open": "opening the disk", "launch": "starting the appliance",
          "inspect": "inspecting the guest", "plan": "planning", "apply": "applying the changes",
          "verify": "reading the disk again",
          "boot": "booting the result", "commit": "writing the result",
          "emit": "writing the QEMU command"}


#: Are told the same as each bar (phase, fraction): a batch listens to its processes.
listeners: list[Callable[[str, float], None]] = []


@contextmanager
def bar(phases: Sequence[str], *, shown: bool = True) -> Iterator[Callable[[str, float], None]]:
    """A progress bar over `phases`; yields what to tell (phase, fraction of it) to.

    It is shown only on a terminal, so that logs stay readable.
    """
    with tqdm(total=float(len(phases)), disable=not shown or not sys.stderr.isatty(), leave=False,
              bar_format="{desc:<28} {bar} {percentage:3.0f}% {elapsed}") as meter:
        def tell(phase: str, fraction: float) -> None:
            for listener in listeners:
                listener(phase, fraction)
            if (phase, fraction) == ("launch", 0.0) and shown:
                meter.clear()
                _say_how_slow()
            meter.set_description_str(WORDS.get(phase, phase), refresh=False)
            meter.n = list(phases).index(phase) + min(max(fraction, 0.0), 1.0)
            meter.refresh()

        with _ticking(meter):
            yield tell


@contextmanager
def _ticking(meter: tqdm[NoReturn]) -> Iterator[None]:
    """Keep the clock of the bar going while libguestfs works without a word."""
    done = threading.Event()

    def tick() -> None:
        while not done.wait(1.0):
            meter.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    if not meter.disable:
        thread.start()
    try:
        yield
    finally:
        done.set()
        if thread.is_alive():
            thread.join()


def _say_how_slow() -> None:
    """Say in a line that everything is emulated, when it is."""
    kvm = host.kvm_usable()
    if not kvm.usable:
        say(f"KVM cannot be used here ({kvm.reason}), so everything is emulated, and slower",
            label="note: ", style="yellow")
