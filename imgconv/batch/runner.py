"""Running a batch: tasks to a pool, what happens into the ledger and to a listener."""

from __future__ import annotations

import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from imgconv.batch import events, tasks
from imgconv.batch.ledger import Ledger
from imgconv.batch.tasks import Children, Outcome, State, Stopped, Task
from imgconv.signals import deferred

#: MiB that the appliance of one guest takes with the imgconv around it, and what a boot test's
#: machine takes by default (docs/batch.md: measured).
APPLIANCE = 1024
BOOT = 2560
_RESERVE = 512  # MiB for everything else on the host


@dataclass(frozen=True, slots=True)
class Begun:
    """A worker has begun with a guest."""

    name: str
    worker: str
    began: float


@dataclass(frozen=True, slots=True)
class Phase:
    name: str
    worker: str
    phase: str
    fraction: float


@dataclass(frozen=True, slots=True)
class Lost:
    """The pool itself cannot go on."""

    error: Exception


Message = Begun | Phase | Outcome | Lost


class Pool(Protocol):
    """What carries tasks out. It puts messages, from any thread, into the queue that it was made
    with: for each task that is submitted an Outcome in the end, unless it is stopped."""

    @property
    def size(self) -> int:
        """How many tasks run at once; 0 where that changes."""
        ...

    def submit(self, task: Task, attempts: int) -> None:
        """Carry out a task of which there were `attempts` before."""
        ...

    def stop(self) -> None:
        """Forget what has not begun, end what has, and return when it is over."""
        ...


Messages = queue.SimpleQueue[Message]


@dataclass(frozen=True, slots=True)
class Rules:
    """`retries` are for each guest; `fail_fast` ends the batch with the first that is not done."""

    retries: int = 1
    fail_fast: bool = False


def run(ledger: Ledger, pool: Pool, messages: Messages, rules: Rules,
        tell: events.Listener) -> bool:
    """Carry out all that is queued in `ledger`; returns whether nothing is left.

    On KeyboardInterrupt and SystemExit what runs is ended first, in order, and queued again.
    """
    start = time.monotonic()
    work = {task.name: task for task, _ in ledger.queued()}
    tell(events.BatchBegun(len(work), sum(ledger.counts().values()) - len(work), pool.size,
                           str(ledger.path)))
    loop = _Loop(ledger, pool, rules, tell, work)
    interrupted = True
    try:
        for task, attempts in ledger.queued():
            pool.submit(task, attempts)
        while loop.open and not loop.over:
            loop.take(messages.get())
        interrupted = False
    finally:
        with deferred():
            if loop.open:
                pool.stop()
                _drain(loop, messages)
            if not loop.open:
                ledger.finish()
            tell(events.BatchEnded(ledger.counts(), time.monotonic() - start, interrupted))
    return not loop.open


def _drain(loop: _Loop, messages: Messages) -> None:
    """What ended before it could be ended counts; the rest is queued again."""
    loop.stopping = True
    while not messages.empty():
        loop.take(messages.get())
    for name in list(loop.running):
        loop.ledger.requeue(name, "its batch was ended")


class _Loop:
    """The state of a running batch: `open` are the guests that have not ended."""

    def __init__(self, ledger: Ledger, pool: Pool, rules: Rules, tell: events.Listener,
                 work: dict[str, Task]) -> None:
        self.ledger = ledger
        self.open = dict(work)
        self.running: set[str] = set()
        self.over = False
        self.stopping = False
        self._pool = pool
        self._rules = rules
        self._tell = tell
        self._tries = dict.fromkeys(work, 0)

    def take(self, message: Message) -> None:
        match message:
            case Begun() if message.name in self.open:
                if message.name in self.running:  # its worker has died, and another has it now
                    self.ledger.requeue(message.name, "its worker was lost")
                attempt = self.ledger.started(message.name, message.worker, message.began)
                self.running.add(message.name)
                self._tell(events.GuestBegun(message.name, message.worker, attempt))
            case Phase():
                self._tell(events.GuestPhase(message.name, message.worker, message.phase,
                                             message.fraction))
            case Outcome() if message.name in self.open:
                self._ended(message)
            case Lost():
                raise message.error

    def _ended(self, outcome: Outcome) -> None:
        name = outcome.name
        if self.stopping and outcome.state is State.FAILED:
            return  # it was ended by us, or will do better in a batch that is not
        if name not in self.running:
            self.ledger.started(name, outcome.where, outcome.began)
        self.running.discard(name)
        again = outcome.again and self._tries[name] < self._rules.retries and not self.stopping
        self.ledger.finished(self.open[name], outcome, again=again)
        self._tell(events.ended(outcome, again=again))
        if again:
            self._tries[name] += 1
            self._pool.submit(self.open[name], self._tries[name])
            return
        del self.open[name]
        self.over |= self._rules.fail_fast and outcome.state is not State.DONE


# --- on this machine ------------------------------------------------------------------------------


def default_jobs(*, boot_test: bool = False, memory: int | None = None) -> int:
    """How many guests at once: one a processor, as far as the memory reaches. `memory` (MiB) is
    that of the machines which a boot test starts."""
    each = max(APPLIANCE, (memory + 512 if memory else BOOT) if boot_test else 0)
    room = (_available() - _RESERVE) // each
    return max(1, min(len(os.sched_getaffinity(0)), room))


def _available() -> int:
    """The memory that can be had, in MiB."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) >> 10
    return 0


class LocalPool:
    """As many threads as jobs, each waiting for one process after the other."""

    def __init__(self, jobs: int, batch: str, put: Callable[[Message], None]) -> None:
        self.size = jobs
        self._batch = batch
        self._put = put
        self._children = Children()
        self._waiting: queue.SimpleQueue[tuple[Task, int] | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(f"worker {number}",),
                                          daemon=True) for number in range(1, jobs + 1)]
        for thread in self._threads:
            thread.start()

    def submit(self, task: Task, attempts: int) -> None:
        self._waiting.put((task, attempts))

    def stop(self) -> None:
        self._stopping.set()
        self._children.stop()
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _work(self, worker: str) -> None:
        while (taken := self._waiting.get()) is not None and not self._stopping.is_set():
            task, attempts = taken

            def phase(name: str, fraction: float, of: str = task.name) -> None:
                self._put(Phase(of, worker, name, fraction))

            self._put(Begun(task.name, worker, time.time()))
            try:
                self._put(tasks.perform(task, self._batch, self._children, phase, worker,
                                        tasks.PATIENCE if attempts else 0.0))
            except Stopped:
                return
            except Exception as error:
                self._put(Lost(error))
                return


@contextmanager
def local(jobs: int, batch: str) -> Iterator[tuple[LocalPool, Messages]]:
    """A pool of processes on this machine and its messages."""
    messages: Messages = queue.SimpleQueue()
    pool = LocalPool(jobs, batch, messages.put)
    try:
        yield pool, messages
    finally:
        pool.stop()
