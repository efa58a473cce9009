"""One guest of a batch: converted by `imgconv virtio-ize` in a process of its own.

So a guest can neither harm the next one nor the batch, and what is done is a command that can be
pasted into a shell. The same function runs here and on a cluster's workers.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from imgconv import emit
from imgconv.errors import CannotConvert, NotProven
from imgconv.model import Bus, InitramfsMode, Names
from imgconv.pipeline import Job

#: Seconds for which an attempt that is not the first waits for a disk that another imgconv holds:
#: one whose batch or worker was killed needs a moment to clean up.
PATIENCE = 60.0

_MAX_DOCUMENT = 64 << 20  # bytes of a report


class State(StrEnum):
    """What has become of a guest. The last four are ends."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    REFUSED = "refused"
    NOT_PROVEN = "not-proven"

    @property
    def is_end(self) -> bool:
        return self not in (State.QUEUED, State.RUNNING)


_STATES = {0: State.DONE, CannotConvert.exit_code: State.REFUSED,
           NotProven.exit_code: State.NOT_PROVEN}


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done for one guest; plain data, so that it can be kept and sent.

    `arguments` are those of `imgconv virtio-ize`. `files` are what tells the guest from others: its
    disks and its description. `output` is the copy (a folder if `folder`), "" for none.
    """

    name: str
    arguments: tuple[str, ...]
    files: tuple[str, ...]
    output: str = ""
    folder: bool = False

    @property
    def command(self) -> str:
        """The command that does it, for a shell."""
        return shlex.join(("imgconv", "virtio-ize", *self.arguments))

    def as_json(self) -> str:
        return json.dumps(asdict(self))


def from_json(text: str) -> Task:
    """The task of which `text` is the `as_json()`."""
    found = json.loads(text)
    return Task(**found | {key: tuple(found[key]) for key in ("arguments", "files")})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task. `status` is the exit status, negative for a signal; `seconds` the time
    that it took, `began` and `ended` are times of the clock; `peak` is what the largest process of
    it had of memory, in MiB. `report` is the document of --json. `where` names worker and host."""

    name: str
    state: State
    status: int = 0
    message: str = ""
    hint: str = ""
    log: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0
    peak: int = 0
    where: str = ""

    @property
    def seconds(self) -> float:
        return self.ended - self.began

    @property
    def again(self) -> bool:
        """Whether it may go better next time: what is refused or not proven will stay so."""
        return self.state is State.FAILED and self.status not in (2,)


def task(name: str, job: Job, *, folder: bool = False) -> Task:
    """The task that converts the guest of `job`; all its paths become absolute."""
    files = [*job.disks, *([job.source] if job.source else [])]
    return Task(name, arguments(job), tuple(str(path.absolute()) for path in files),
                str(job.output.absolute()) if job.output and not job.dry_run else "", folder)


def arguments(job: Job) -> tuple[str, ...]:
    """The arguments of `imgconv virtio-ize` that mean `job`."""
    asked = job.options
    valued: Mapping[str, object] = {
        "--from": _absolute(job.source), "--output": _absolute(job.output),
        "--format": job.output_format, "--input-format": job.input_format,
        "--names": asked.names if asked.names is not Names.UUID else None,
        "--block": asked.block if asked.block is not Bus.VIRTIO_BLK else None,
        "--initramfs": asked.initramfs if asked.initramfs is not InitramfsMode.AUTO else None,
        "--root": asked.root, "--drivers": _absolute(asked.drivers),
        "--net": job.net if job.net != "user" else None, "--memory": job.memory,
        "--cpus": job.cpus, "--state-dir": _absolute(job.state_dir),
        "--timeout": job.boot_timeout}
    flags = {
        "--allow-external-files": job.allow_external_files, "--dry-run": job.dry_run,
        "--force": job.force, "--no-undo": not job.undo, "--boot-test": job.boot_test,
        "--prepare": job.prepare, "--discard-hibernation": asked.discard_hibernation}
    return (*(f"{option}={value}" for option, value in valued.items() if value is not None),
            *(option for option, given in flags.items() if given),
            *(f"--emit={name}" for name in job.emit if name != emit.EMITTERS[0].NAME),
            "--", *(str(path.absolute()) for path in job.disks))


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path is not None else None


# --- doing it -------------------------------------------------------------------------------------


class Children:
    """The processes that work for a batch in this process, so that they can be ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    @contextlib.contextmanager
    def started(self, argv: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:  # noqa: ANN401
        """A program that `stop` ends; it is over when the block is."""
        with self._lock:
            if self._stopped:
                raise Stopped
            process = subprocess.Popen(argv, **options)
            self._running.add(process)
        try:
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
                process.wait()
            with self._lock:
                self._running.discard(process)

    @property
    def running(self) -> int:
        """How many there are."""
        with self._lock:
            return len(self._running)

    def stop(self) -> None:
        """End what runs, as Ctrl-C would, and start nothing any more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)


class Stopped(Exception):
    """The batch ends before this task has begun."""


def perform(work: Task, batch: str, children: Children,
            tell: Callable[[str, float], None] = lambda phase, fraction: None,
            where: str = "", patience: float = 0.0) -> Outcome:
    """Convert one guest and say what came of it; a failure of any kind is an Outcome, too.

    `tell` gets the phases as `pipeline.Progress`. `patience` is the time, in seconds, for which
    disks that another imgconv holds are waited for. `batch` is the batch's name: a copy that an
    earlier attempt of the same batch may have left is replaced. Raises Stopped.
    """
    began = time.time()
    try:
        extra = _claim(work, batch)
        status, document, complaint, peak = _run(work, extra, children, tell, patience)
    except OSError as error:
        about = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        return Outcome(work.name, State.FAILED, 1, about, began=began, ended=time.time(),
                       where=where)
    if status >= 0:
        _release(work)
    failure = document.get("error") or {}
    message, hint = str(failure.get("message", "")), str(failure.get("hint", ""))
    state = _STATES.get(status, State.FAILED)
    if state is State.NOT_PROVEN and not message:
        message = _unproven(document)
    if state is State.DONE and not document:
        state, message = State.FAILED, "it ended without a report"
    if state is not State.DONE and not message:
        message = (f"its process was ended by {_signal(-status)}" if status < 0
                   else complaint or f"it ended with status {status}")
        if status == -signal.SIGKILL:
            hint = "the host may have run out of memory: fewer at once, with -j"
    return Outcome(work.name, state, status, message, hint, str(failure.get("log") or ""),
                   {} if failure else document, began, time.time(), peak, where)


def _signal(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def _unproven(document: Mapping[str, Any]) -> str:
    failed = [f"{finding['subject']}: {finding['message']}"
              for finding in document.get("findings", ()) if finding["level"] == "failed"]
    boots = [boot["reason"] for boot in document.get("boots", ()) if boot["verdict"] != "booted"]
    return (failed or boots or ["it could not be proven"])[0]


def _run(work: Task, extra: tuple[str, ...], children: Children,
         tell: Callable[[str, float], None], patience: float,
         ) -> tuple[int, dict[str, Any], str, int]:
    """Run the command; returns its status, its document, its last line for people and its peak."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        reading, writing = os.pipe()
        # The child ends when its stdin does: nothing is left running without the batch. In a
        # session of its own it does not get the terminal's Ctrl-C: the batch decides.
        argv = [sys.executable, "-m", "imgconv.batch.child", str(writing), str(patience),
                str(len(work.files)), *work.files,
                "virtio-ize", "--json", *extra, *work.arguments]
        try:
            with children.started(argv, stdin=subprocess.PIPE, stdout=out, stderr=err,
                                  pass_fds=(writing,), start_new_session=True) as process:
                os.close(writing)
                writing = -1
                _listen(reading, tell)
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                assert process.stdin
                process.stdin.close()
        finally:
            os.close(reading)
            if writing >= 0:
                os.close(writing)
        document: dict[str, Any] = {}
        out.seek(0)
        with contextlib.suppress(ValueError):
            found = json.loads(out.read(_MAX_DOCUMENT))
            document = found if isinstance(found, dict) else {}
        err.seek(max(0, err.seek(0, os.SEEK_END) - 4096))
        lines = err.read().decode(errors="backslashreplace").strip().splitlines()
    return process.returncode, document, lines[-1] if lines else "", usage.ru_maxrss >> 10


def _listen(pipe: int, tell: Callable[[str, float], None]) -> None:
    """Pass on what the child says of its phases, until it closes the pipe."""
    with open(os.dup(pipe), "rb", closefd=True) as lines:  # noqa: PTH123 - a descriptor
        for line in lines:
            phase, _, fraction = line.decode("ascii", "replace").strip().partition(" ")
            with contextlib.suppress(ValueError):
                tell(phase, float(fraction))


# --- whose copy it is -----------------------------------------------------------------------------


def _claim(work: Task, batch: str) -> tuple[str, ...]:
    """Note, beside where the copy will be, that this batch makes it; returns options that follow.

    When the note is there already, an attempt of this very batch was killed: what it may have
    written is replaced. What was there before the batch is not, unless --force says so.
    """
    if not work.output:
        return ()
    output = Path(work.output)
    note = _note(work)
    claimed = note.is_file() and note.read_text(errors="replace") == batch
    if not claimed:
        note.parent.mkdir(parents=True, exist_ok=True)
        if output.exists() and not (output.is_dir() and work.folder and not any(output.iterdir())):
            return ()  # it will be refused, or --force was given
        note.write_text(batch)
    if work.folder:
        output.mkdir(exist_ok=True)
    return ("--force",) if claimed else ()


def _release(work: Task) -> None:
    if work.output:
        _note(work).unlink(missing_ok=True)
        if work.folder:
            with contextlib.suppress(OSError):  # it is kept when something is in it
                Path(work.output).rmdir()


def _note(work: Task) -> Path:
    output = Path(work.output)
    return output.with_name(f".{output.name}.imgconv-batch")
