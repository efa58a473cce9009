"""Named moments of writing to a disk, at which the fault-injection suite ends the process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_watchers: list[Callable[[str], None]] = []


def reached(step: str) -> None:
    """Say that the moment `step` has come. Nothing happens unless a test watches."""
    for watcher in _watchers:
        watcher(step)


@contextmanager
def watched(by: Callable[[str], None]) -> Iterator[None]:
    """Call `by` at every step while the block runs."""
    _watchers.append(by)
    try:
        yield
    finally:
        _watchers.remove(by)
