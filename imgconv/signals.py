"""Holding back Ctrl-C and its kin over what must not be torn."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def deferred(*, children: bool = False) -> Iterator[None]:
    """Hold back SIGINT, SIGTERM and SIGHUP until the block is done; then they have their effect.

    With `children` the programs that are started inherit this, so that a terminal's Ctrl-C does not
    reach them either. The block covers the main thread, in which Python runs signal handlers.
    """
    held: list[int] = []
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in _SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):
                before[number] = signal.signal(number, lambda number, _: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS if children else ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for received in dict.fromkeys(held):
            signal.raise_signal(received)
