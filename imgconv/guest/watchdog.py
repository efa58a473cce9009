"""Ending an appliance that no longer answers, or that nobody waits for any more.

A call to libguestfs blocks in C until the appliance answers, and no signal makes it return. What
does is the end of the appliance's QEMU: the call fails then. So a thread watches the clock and the
signals, and ends QEMU with SIGKILL, which also reaches a stopped process.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from imgconv.errors import ImgconvError, UsageError

log = logging.getLogger(__name__)

_TICK = 0.5
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: QEMU stops the appliance (werror=enospc) when the filesystem of an overlay has no room for the
#: next cluster of 64 KiB; a call that takes this long (seconds) then waits for nothing.
_FULL_BYTES = 128 << 10
_FULL_SECONDS = 5.0


#: What libguestfs runs before it starts the appliance: to build it, and to ask QEMU what it can do.
_PREPARING = re.compile(rb"supermin|qemu-system|qemu-kvm")


class ApplianceGone(ImgconvError):
    """The appliance died or was ended; nothing more can be asked of it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a call may take, in seconds: starting the appliance (half a minute without KVM), an
    ordinary call (mounting a large damaged filesystem, say), a command of the guest's own."""

    launch: float = 600.0
    call: float = 300.0
    command: float = 1800.0

    @classmethod
    def from_environment(cls) -> Limits:
        """$IMGCONV_TIMEOUT is the limit of an ordinary call, and the others grow with it. Raises
        UsageError when it is no positive number."""
        text = os.environ.get("IMGCONV_TIMEOUT")
        if not text:
            return cls()
        try:
            factor = float(text) / cls().call
        except ValueError:
            factor = 0.0
        if not 0 < factor < float("inf"):
            raise UsageError(f"IMGCONV_TIMEOUT is {text!r}, which is no number of seconds",
                             hint=f"the default is IMGCONV_TIMEOUT={cls().call:.0f}")
        usual = cls()
        return cls(*(value * factor for value in (usual.launch, usual.call, usual.command)))

    def of(self, method: str) -> float:
        """The limit of guestfs' `method`."""
        return {"launch": self.launch, "command": self.command}.get(method, self.call)


@dataclass(frozen=True, slots=True)
class _Call:
    what: str
    limit: float
    start: float


class Watchdog:
    """Watches the calls to one appliance, from `with` to its end.

    `token` has to be on the command line of the appliance's QEMU, by which it is found even while
    it starts. `overlays` are the images it writes to. Signals are only seen when this is made in
    the main thread, in which Python handles them. `reason` is why the appliance was ended.
    """

    def __init__(self, limits: Limits, overlays: Sequence[Path] = ()) -> None:
        self.limits = limits
        self.token = f"imgconv.id={secrets.token_hex(8)}"
        self.reason: ImgconvError | None = None
        self._folders = {path.parent for path in overlays}
        self._call: _Call | None = None
        self._warned = False
        self._lock = threading.Lock()
        self._earlier = set(_children())

    def __enter__(self) -> Watchdog:
        self._ours, self._theirs = socket.socketpair()
        self._ours.setblocking(False)
        self._theirs.setblocking(False)
        self._previous: int | None = None
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.set_wakeup_fd(self._theirs.fileno(),
                                                  warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._previous is not None:
            signal.set_wakeup_fd(self._previous)
        self._theirs.shutdown(socket.SHUT_WR)
        self._thread.join()
        self._ours.close()
        self._theirs.close()

    @contextmanager
    def watching(self, method: str, what: str) -> Iterator[None]:
        """For the duration of one call of guestfs' `method`; `what` it is, in words."""
        with self._lock:
            self._call = _Call(what, self.limits.of(method), time.monotonic())
            self._warned = False
        try:
            yield
        finally:
            with self._lock:
                self._call = None

    def end(self, reason: ImgconvError | None = None) -> None:
        """End the appliance at once. Everything it had not written is lost."""
        with self._lock:
            self.reason = self.reason or reason
        for pid in self._appliance():
            log.debug("ending process %d", pid)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    # --- the thread -----------------------------------------------------------------------------

    def _watch(self) -> None:
        while True:
            if select.select([self._ours], [], [], _TICK)[0]:
                numbers = self._ours.recv(4096)
                if not numbers:  # the other end is shut: we are done
                    return
                if self._busy() and any(number in numbers for number in _ENDING):
                    self.end(ApplianceGone("interrupted"))
            try:
                self._check(time.monotonic())
            except OSError as error:  # a folder that went away, say: no reason to stop watching
                log.debug("watching the appliance: %s", error)

    def _busy(self) -> bool:
        with self._lock:
            return self._call is not None

    def _check(self, now: float) -> None:
        with self._lock:
            call = self._call
        if call is None:
            return
        taken = now - call.start
        if taken > call.limit:
            self.end(ApplianceGone(
                f"the libguestfs appliance did not answer for {call.limit:.0f} seconds "
                f"({call.what})",
                hint="the guest may be damaged or malicious; for a slow host, allow more: "
                     f"IMGCONV_TIMEOUT={2 * self.limits.call:.0f} imgconv ..."))
        elif taken > _FULL_SECONDS and (full := next(filter(_is_full, self._folders), None)):
            self.end(ApplianceGone(f"{full} is full, so the overlay of the disk cannot grow",
                                   hint="make room, or name another directory: "
                                        "TMPDIR=/path imgconv ..."))
        elif taken > call.limit / 2 and not self._warned:
            self._warned = True
            log.warning("the libguestfs appliance is busy for %.0f seconds with %s; it gets %.0f",
                        taken, call.what, call.limit)

    # --- processes ------------------------------------------------------------------------------

    def _appliance(self) -> list[int]:
        """The appliance's QEMU; before there is one, what libguestfs prepares it with."""
        words = {pid: _cmdline(pid) for pid in _children()}
        ours = [pid for pid, line in words.items() if self.token.encode() in line]
        return ours or [pid for pid, line in words.items()
                        if pid not in self._earlier and b"imgconv.id=" not in line
                        and _PREPARING.search(line.partition(b"\0")[0])]


def _is_full(folder: Path) -> bool:
    free = os.statvfs(folder)
    blocks = free.f_bfree if os.geteuid() == 0 else free.f_bavail
    return blocks * free.f_frsize < _FULL_BYTES


def _children(parent: int | None = None) -> Iterator[int]:
    """The children of this process, or of another one. (Not every kernel has a list of them in
    /proc/PID/task/TID/children.)"""
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        try:
            # proc(5): the second field is the name, in parentheses, and may hold anything.
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == (parent or os.getpid()):
            yield int(folder.name)


def _cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
