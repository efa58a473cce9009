"""Boots a result with its own emitted command, on throw-away overlays, and gathers evidence.

The evidence is what the guest writes to its serial port, which is hostile text: it is stripped of
everything but printable characters, cut to limits, and believed only about the guest itself.
"""

from __future__ import annotations

import codecs
import contextlib
import math
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from imgconv.emit import qemu
from imgconv.errors import ImgconvError
from imgconv.model import Disk, Machine
from imgconv.run import run

#: Seconds that a guest gets to show a login prompt; emulated ones take ten times as long.
KVM_TIMEOUT = 180.0
TCG_TIMEOUT = 600.0

#: Seconds to listen on after a sign that decides: swap is enabled beside the login prompt, and
#: what went wrong is often said in the lines after the first bad one.
SETTLE = 3.0
#: The same where a login prompt is still to be expected, and would say more.
PROMPT_SETTLE = 30.0

#: The serial text kept, in characters: the last ones, where the verdict is.
SERIAL_LIMIT = 1 << 20
#: A longer line is cut.
LINE_LIMIT = 1024
#: So many different signs of trouble are reported.
SIGN_LIMIT = 5
#: A quoted line is cut to so many characters.
QUOTE_LIMIT = 200
#: More swap devices are not listed.
DEVICE_LIMIT = 32


class Verdict(StrEnum):
    BOOTED = "booted"
    NOT_BOOTED = "not-booted"
    NOT_PROVEN = "not-proven"


@dataclass(frozen=True, slots=True)
class BootEvidence:
    """What a boot showed.

    `reason` is a sentence, or several joined by "; ", with the guest's own lines in it.
    `root_device` (/dev/vda1; "" when the console is too quiet to tell) is the first filesystem
    that the kernel mounted; `swap_devices` are those that it enabled. `serial` is the text of the
    serial console, free of control characters, at most SERIAL_LIMIT characters from its end.
    """

    verdict: Verdict
    reason: str
    root_device: str
    swap_devices: tuple[str, ...]
    serial: str
    seconds: float


class _Sign(NamedTuple):
    """`settle` is for how many seconds it is worth listening on."""

    pattern: re.Pattern[str]
    meaning: str
    settle: float


def _signs(*rows: tuple[str, str], settle: float) -> tuple[_Sign, ...]:
    return tuple(_Sign(re.compile(pattern), meaning, settle) for pattern, meaning in rows)


#: The guest is up. The prompt has no newline after it, but kernel messages may follow.
_UP = (
    *_signs((r"^(\S+ )?login: ", "login prompt"), settle=SETTLE),
    # A guest need not have a getty on its serial console.
    *_signs((r"Reached target .*(Multi-User System|Graphical Interface)", "systemd is done"),
            settle=PROMPT_SETTLE),
)

#: The guest will not come up any more. What a pattern matches is quoted in the reason.
_DOWN = _signs(
    (r"ALERT!\s.* does not exist", "a device is missing"),  # initramfs-tools
    (r"Gave up waiting for root[ \w]*", "the initramfs found no root filesystem"),
    (r"^\(initramfs\)", "the initramfs ended in a shell"),
    (r'Warning: "?/dev/\S{1,200} does not exist', "a device is missing"),  # dracut
    (r"mounting .* on /sysroot failed.*", "the initramfs found no root filesystem"),  # mkinitfs
    (r"ERROR: device '.*' not found.*", "a device is missing"),  # mkinitcpio
    (r"You are (now )?being dropped into an emergency shell", "the guest is in emergency mode"),
    (r"Entering emergency mode|You are in emergency mode", "the guest is in emergency mode"),
    (r"Kernel panic - not syncing.*", "the kernel gave up"),
    (r"grub rescue>", "GRUB did not find its files"),
    (r"No bootable device|not a bootable disk|could not read the boot disk",  # SeaBIOS
     "the firmware found nothing to boot"),
    (r"UEFI Interactive Shell|BdsDxe: No bootable option", "the firmware found nothing to boot"),
    settle=SETTLE,
)

#: Trouble that a guest may survive; worth a word either way.
_TROUBLE = _signs(
    (r"^error: (no such device|no such partition|unknown filesystem|file .* not found).*",
     "GRUB misses something"),
    (r"dracut-initqueue.*timeout.*", "the initramfs waits for a device"),
    (r"Timed out waiting for device.*", "a device is missing"),
    (r"Gave up waiting for suspend/resume device", "the resume device is missing"),
    (r"Dependency failed for.*", "a unit did not start"),
    (r"Unable to find swap-space signature.*|swapon: .*(failed|cannot).*", "swap is not enabled"),
    settle=math.inf,
)

#: The kernel mounts a filesystem. An old btrfs only says what it scanned: no evidence.
_MOUNTED = (
    re.compile(r"\bEXT[234]-fs \(([^)\s]+)\): (?:re-?)?mount(?:ed|ing) "),
    re.compile(r"\bXFS \(([^)\s]+)\): (?:Ending clean mount|Mounting)"),
    re.compile(r"\bBTRFS(?: info)? \(device ([^)\s]+)[^)]*\):"),
)
_SWAP = re.compile(r"\bAdding \d+k swap on (/\S+?)\.(?:\s|$)")

# ECMA-48: control sequences, strings (titles and such), other escapes.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]")


def boot(
    machine: Machine,
    *,
    kvm: bool,
    workspace: Path,
    timeout: float | None = None,
    firmware_files: tuple[Path, Path] | None = None,
    on_line: Callable[[str], None] | None = None,
) -> BootEvidence:
    """Boot `machine` until it shows a login prompt, fails or `timeout` (seconds) is over.

    Nothing is written but under `workspace`, and that is removed again; the disks are read only
    and must not change meanwhile. The network answers DHCP and reaches nobody. `on_line` gets
    every line of the serial console as it comes. `firmware_files` as `emit.qemu.emit` takes them.

    Raises ImgconvError when QEMU is not installed or an overlay cannot be made. A QEMU that ends
    by itself is a verdict.
    """
    limit = timeout if timeout is not None else KVM_TIMEOUT if kvm else TCG_TIMEOUT
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="boot-", dir=workspace.absolute()) as scratch:
        command = qemu.argv(
            _throw_away(machine, Path(scratch)),
            accel="kvm" if kvm else "tcg",
            serial="stdio",
            firmware=_private_firmware(firmware_files, Path(scratch)),
            # graphics=off makes SeaBIOS show on the serial port what it, and GRUB through it,
            # writes to the screen. -no-reboot: a guest that resets itself shall not try again.
            extra=("-machine", "graphics=off", "-no-reboot"),
        )
        watch = Watch(on_line)
        errors = Path(scratch) / "stderr"
        with errors.open("wb") as stderr, _running(command, stderr.fileno()) as process:
            status = _watch(process, watch, started + limit)
        complaint = errors.read_text(errors="replace")[-LINE_LIMIT:]
    seconds = time.monotonic() - started
    ending = _ending(status, complaint, limit)
    return watch.evidence(ending, seconds)


# --- the machine on overlays --------------------------------------------------------------------


def _throw_away(machine: Machine, scratch: Path) -> Machine:
    """`machine` on overlays in `scratch`, cut off from the network.

    A clone must not show up in the real network beside its original.
    """
    return replace(
        machine,
        disks=tuple(_overlay(disk, scratch / f"disk{index}.qcow2")
                    for index, disk in enumerate(machine.disks)),
        nics=tuple(replace(nic, backend="isolated") for nic in machine.nics),
    )


def _overlay(disk: Disk, overlay: Path) -> Disk:
    """A qcow2 overlay of `disk`. An absolute path is never taken for a protocol's URL."""
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk.path.absolute(), "-F", disk.format,
         overlay])
    return Disk(overlay, "qcow2")


def _private_firmware(files: tuple[Path, Path] | None, scratch: Path) -> tuple[Path, Path] | None:
    if files is None:
        return None
    code, template = files
    return code, Path(shutil.copyfile(template, scratch / "vars.fd"))


# --- running it ---------------------------------------------------------------------------------


@contextlib.contextmanager
def _running(command: tuple[str, ...], stderr: int) -> Iterator[subprocess.Popen[bytes]]:
    """QEMU with its serial port on a pipe; whatever happens, it is gone afterwards."""
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=stderr, start_new_session=True)
    except FileNotFoundError as error:
        raise ImgconvError(f"{command[0]} is not installed",
                           hint="imgconv doctor shows what is missing and how to get it") from error
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


def _watch(process: subprocess.Popen[bytes], watch: Watch, deadline: float) -> int | None:
    """Feed `watch` until it has settled or `deadline`; QEMU's status if it ended by itself."""
    assert process.stdout is not None
    stream = process.stdout.fileno()
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([stream], [], [], left)
        if not ready:
            break
        data = os.read(stream, 1 << 16)
        if not data:
            return process.wait()
        watch.feed(data)
        deadline = min(deadline, watch.enough)
    return None


def _ending(status: int | None, complaint: str, limit: float) -> str:
    """Why the watching ended, for a boot that gave no other evidence."""
    if status is None:
        return f"no login prompt and no error on the serial console within {limit:.0f} s"
    if status == 0:
        return "the guest reset itself or powered off before a login prompt"
    words = clean(complaint.strip().splitlines()[-1]) if complaint.strip() else "no message"
    return f"QEMU ended with status {status}: {words}"


# --- making sense of the console ----------------------------------------------------------------


def clean(text: str) -> str:
    """One line without escape sequences and anything else that is not printable."""
    return "".join(c if c.isprintable() else " " if c == "\t" else ""
                   for c in _ESCAPES.sub("", text))


@dataclass(slots=True)
class Watch:
    """What the serial console has shown so far. Feed it bytes as they come.

    `enough` is the time (time.monotonic) from which on nothing more is expected.
    """

    on_line: Callable[[str], None] | None = None
    up: dict[str, str] = field(default_factory=dict)
    down: dict[str, str] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)
    root: str = ""
    swaps: list[str] = field(default_factory=list)
    enough: float = math.inf
    _lines: deque[str] = field(default_factory=deque)
    _size: int = 0
    _partial: str = ""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def feed(self, data: bytes) -> None:
        """Take what came from the serial port, in pieces of any size."""
        *lines, self._partial = re.split(r"[\r\n]+", self._partial + self._decoder.decode(data))
        for line in lines:
            self._finish(line)
        while len(self._partial) > LINE_LIMIT:
            line, self._partial = self._partial[:LINE_LIMIT], self._partial[LINE_LIMIT:]
            self._finish(line)
        # A prompt has no end of line.
        self._decide(clean(self._partial))

    def evidence(self, ending: str, seconds: float) -> BootEvidence:
        """The verdict; `ending` is the reason for one that the console gave no reason for."""
        if self._partial:
            self._finish(self._partial)
            self._partial = ""
        signs = [*self.up.values(), *self.down.values(), *self.trouble.values()][:SIGN_LIMIT]
        if self.up and not self.down:
            verdict = Verdict.BOOTED
        elif self.down and not self.up:
            verdict = Verdict.NOT_BOOTED
        else:
            # A console that says both, or nothing, proves nothing.
            verdict = Verdict.NOT_PROVEN
            signs = ["the console contradicts itself" if self.up else ending, *signs]
        return BootEvidence(verdict, "; ".join(signs), self.root, tuple(self.swaps),
                            "".join(f"{line}\n" for line in self._lines), seconds)

    def _finish(self, raw: str) -> None:
        """Take in a whole line."""
        line = clean(raw[:LINE_LIMIT])
        if not line.strip():
            return
        self._keep(line.rstrip())
        if self.on_line is not None:
            self.on_line(line.rstrip())
        self._decide(line)
        for seen, signs in ((self.up, _UP), (self.down, _DOWN), (self.trouble, _TROUBLE)):
            _note(seen, signs, line)
        self._devices(line)

    def _keep(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size > SERIAL_LIMIT:
            self._size -= len(self._lines.popleft()) + 1

    def _decide(self, line: str) -> None:
        """Begin to settle at a sign that decides; the line may still grow."""
        for sign in (*_UP, *_DOWN):
            if sign.pattern.search(line):
                self.enough = min(self.enough, time.monotonic() + sign.settle)

    def _devices(self, line: str) -> None:
        for pattern in _MOUNTED:
            if not self.root and (match := pattern.search(line)):
                self.root = f"/dev/{match[1]}"
        swap = _SWAP.search(line)
        if swap and swap[1] not in self.swaps and len(self.swaps) < DEVICE_LIMIT:
            self.swaps.append(swap[1])


def _note(seen: dict[str, str], signs: tuple[_Sign, ...], line: str) -> None:
    """Keep the first line for each meaning."""
    for sign in signs:
        match = sign.pattern.search(line)
        if match and sign.meaning not in seen:
            seen[sign.meaning] = f"{sign.meaning}: {match[0].strip()[:QUOTE_LIMIT]}"
