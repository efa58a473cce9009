"""Starts QEMU, watches it until the guest has shown what became of it, and ends it."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imgconv.boot import activity, glyphs, network, screen, throwaway, verdict
from imgconv.boot.console import LINE_LIMIT, Watch
from imgconv.boot.qmp import Qmp
from imgconv.boot.signs import clean
from imgconv.errors import HostileInput, ImgconvError
from imgconv.model import BootEvidence, Machine, NetworkActivity

#: Seconds that a guest gets to show what becomes of it; emulated ones take ten times as long.
KVM_TIMEOUT = 180.0
TCG_TIMEOUT = 600.0

#: Seconds between two looks at screen, disks and network.
LOOK_EVERY = 3.0
#: Seconds between two readings of a screen that only tesseract reads.
OCR_EVERY = 20.0
#: Seconds that QEMU gets to answer.
ANSWER_TIMEOUT = 15.0
#: Seconds to watch on a guest that says nothing, after its disk and its network tell that it is up.
SILENT_SETTLE = 15.0

_VGA = ("x86_64", "i386")


def boot(
    machine: Machine,
    *,
    kvm: bool,
    workspace: Path,
    timeout: float | None = None,
    firmware_files: tuple[Path, Path] | None = None,
    on_line: Callable[[str], None] | None = None,
    on_look: Callable[[float], None] | None = None,
    screenshot: Path | None = None,
) -> BootEvidence:
    """Boot `machine` until the guest is up, has failed or `timeout` (seconds) is over.

    Nothing is written but under `workspace`, which is removed again, and `screenshot` (a PNG, in
    an existing folder); the disks are read only and must not change meanwhile. The network answers
    DHCP and reaches nobody. `on_line` gets every line of the serial console as it comes, `on_look`
    the seconds that have passed, every few. `firmware_files` as `emit.qemu.emit` takes them.

    Raises ImgconvError when QEMU is not installed or an overlay cannot be made. A QEMU that ends
    by itself is a verdict.
    """
    limit = timeout if timeout is not None else KVM_TIMEOUT if kvm else TCG_TIMEOUT
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="boot-", dir=workspace.absolute()) as folder:
        scratch = Path(folder)
        virtual = throwaway.machine_on_overlays(machine, scratch)
        errors = scratch / "stderr"
        ours, theirs = socket.socketpair()
        with ours, theirs, errors.open("wb") as stderr:
            command = throwaway.command(
                virtual, kvm=kvm, scratch=scratch, monitor=theirs.fileno(),
                frame_limit=network.FRAME_LIMIT, firmware_files=firmware_files)
            with _running(command, stderr.fileno(), theirs) as process:
                session = _Session(process, Qmp(ours), Watch(on_line), scratch, machine)
                try:
                    session.watch_until(started + limit, started, on_look)
                finally:
                    session.keep_picture(screenshot)
        complaint = errors.read_text(errors="replace")[-LINE_LIMIT:]
    watch, observed = session.watch, session.observed
    watch.close()
    judged, reason = verdict.judge(watch, observed, session.ending(complaint, limit))
    return BootEvidence(
        judged, reason, watch.root, tuple(watch.swaps), watch.serial, time.monotonic() - started,
        machine.bus, tuple(watch.drivers), "".join(f"{line}\n" for line in watch.screen),
        screenshot if session.pictured else None, observed.disk, observed.network, observed.resets)


@contextlib.contextmanager
def _running(command: tuple[str, ...], stderr: int,
             monitor: socket.socket) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU with its serial port on a pipe; whatever happens, it is gone afterwards."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=stderr, start_new_session=True,
                                   pass_fds=(monitor.fileno(),))
    except FileNotFoundError as error:
        raise ImgconvError(f"{command[0]} is not installed",
                           hint="imgconv doctor shows what is missing and how to get it") from error
    monitor.close()
    try:
        yield process
    finally:
        # Nothing is lost by the hard way: the overlays go too. The group is QEMU's own, and
        # until wait() has been called its number cannot be anybody else's.
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@dataclass(slots=True)
class _Session:
    """A QEMU that runs. `status` is that of one that has ended by itself."""

    process: subprocess.Popen[bytes]
    qmp: Qmp
    watch: Watch
    scratch: Path
    machine: Machine
    observed: verdict.Observed = field(default_factory=verdict.Observed)
    status: int | None = None
    pictured: bool = False
    _picture: screen.Picture | None = None
    _read: screen.Picture | None = None
    _next_ocr: float = 0.0
    _captures: list[network.Capture] = field(default_factory=list)

    def watch_until(self, deadline: float, started: float,
                    on_look: Callable[[float], None] | None) -> None:
        """Watch until something has been proven, QEMU ends, or `deadline` (time.monotonic)."""
        self._captures = [network.Capture(throwaway.capture(self.scratch, index))
                          for index in range(len(self.machine.nics))]
        self._ask("qmp_capabilities")
        while self.status is None and self._sooner(deadline) > time.monotonic():
            look = time.monotonic() + LOOK_EVERY
            while (self.status is None
                   and min(self._sooner(deadline), look) > time.monotonic()):
                self._wait(min(self._sooner(deadline), look))
            if self.status is None:
                self._look()
            if on_look is not None:
                on_look(time.monotonic() - started)
            if self.observed.looping or self.observed.panicked:
                break

    def keep_picture(self, path: Path | None) -> None:
        """Write the screen as it was last to `path`, also when the watching was interrupted."""
        if path is not None and self._picture is not None:
            with contextlib.suppress(OSError):
                path.write_bytes(screen.png(self._picture))
                self.pictured = True

    def ending(self, complaint: str, limit: float) -> str:
        """Why the watching ended, for a boot that gave no other evidence."""
        if self.status is None:
            return f"no login prompt and no error on its consoles within {limit:.0f} s"
        if self.status == 0:
            return "the guest powered off before a login prompt"
        words = clean(complaint.strip().splitlines()[-1]) if complaint.strip() else "no message"
        return f"QEMU ended with status {self.status}: {words}"

    # --- QEMU -------------------------------------------------------------------------------

    def _sooner(self, deadline: float) -> float:
        return min(deadline, self.watch.enough)

    def _wait(self, until: float) -> None:
        """Take what QEMU says, or nothing until then."""
        assert self.process.stdout is not None
        serial = self.process.stdout.fileno()
        sources: list[Any] = [serial, *([self.qmp] if self.qmp.open else [])]
        ready, _, _ = select.select(sources, [], [], max(0.0, until - time.monotonic()))
        if serial in ready:
            data = os.read(serial, 1 << 16)
            if data:
                self.watch.feed(data)
            else:
                self.status = self.process.wait()
        if self.qmp in ready:
            self.qmp.receive()
            self._events()

    def _events(self) -> None:
        for event in self.qmp.events:
            data = event.get("data", {})
            self.observed.resets += event["event"] == "RESET" and bool(data.get("guest"))
            self.observed.panicked |= event["event"] == "GUEST_PANICKED"
        self.qmp.events.clear()
        if self.observed.looping or self.observed.panicked:
            self.watch.settle(0.5)

    def _ask(self, name: str, **arguments: Any) -> Any:  # noqa: ANN401 - what JSON holds
        """What QEMU answers; None when it does not, or refuses."""
        number = self.qmp.send(name, arguments)
        until = time.monotonic() + ANSWER_TIMEOUT
        while self.status is None and self.qmp.open and time.monotonic() < until:
            answer = self.qmp.answer(number)
            if answer is not None:
                return answer.get("return")
            self._wait(until)
        return None

    # --- looking ----------------------------------------------------------------------------

    def _look(self) -> None:
        self._look_at_screen()
        stats = self._ask("query-blockstats")
        if stats is not None:
            self.observed.disk = activity.parse(stats)
        self._look_at_network()
        if self.observed.alive:
            self.watch.settle(SILENT_SETTLE)

    def _look_at_screen(self) -> None:
        dump = self.scratch / "screen.ppm"
        if self._ask("screendump", filename=str(dump)) is None:
            return
        try:
            if dump.stat().st_size > screen.PICTURE_LIMIT:
                return
            self._picture = screen.parse_ppm(dump.read_bytes())
        except (OSError, HostileInput):
            return
        # Only in text mode: reading its memory disturbs a VGA that is drawing in others.
        if self._picture.is_text_mode and self.machine.arch in _VGA:
            memory = self.scratch / "screen.text"
            if self._ask("pmemsave", val=screen.TEXT_ADDRESS, size=screen.TEXT_SIZE,
                         filename=str(memory)) is not None:
                self.watch.see(screen.vga_lines(memory.read_bytes()))
        elif self._picture != self._read:
            self._read_pixels(self._picture)

    def _read_pixels(self, picture: screen.Picture) -> None:
        self._read = picture
        lines = glyphs.read(picture)
        now = time.monotonic()
        if not lines and now >= self._next_ocr and shutil.which("tesseract"):
            self._next_ocr = now + OCR_EVERY
            path = self.scratch / "screen.png"
            path.write_bytes(screen.png(picture))
            lines = glyphs.ocr(path)
        if lines:
            self.watch.see(lines)

    def _look_at_network(self) -> None:
        seen = [capture.read() for capture in self._captures]
        self.observed.network = NetworkActivity(*(
            sum(getattr(one, name) for one in seen) for name in ("frames", "dhcp", "arp")))
        for index, capture in enumerate(self._captures):
            if capture.full:  # or a guest that floods its network would fill the host's disk
                self._ask("object-del", id=f"capture{index}")
