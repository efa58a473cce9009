"""The ledger: what has become of every guest of a batch, in SQLite.

Only the batch itself writes it, and each change is on the disk (WAL, synchronous) before the next
guest is begun. What is told to have ended has ended; what was running when a batch was killed is
queued again by the next one: the conversion itself is a transaction, so that is harmless. Readers
(`imgconv batch status`) see a consistent state at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgconv.batch.tasks import Outcome, State, Task, from_json
from imgconv.errors import ImgconvError, UsageError

NAME = "imgconv-batch.sqlite"
SURVEY = "imgconv-survey.sqlite"

_VERSION = 1
_APPLICATION = 0x696D6762  # "imgb", in SQLite's header: what another program made is not written
_SCHEMA = """
CREATE TABLE batch (
    id TEXT NOT NULL, begun REAL NOT NULL, ended REAL, host TEXT NOT NULL);
CREATE TABLE guest (
    name TEXT PRIMARY KEY, number INTEGER NOT NULL, task TEXT NOT NULL, state TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, files TEXT NOT NULL DEFAULT '',
    began REAL, ended REAL, seconds REAL, status INTEGER, message TEXT NOT NULL DEFAULT '',
    hint TEXT NOT NULL DEFAULT '', log TEXT NOT NULL DEFAULT '', peak INTEGER,
    worker TEXT NOT NULL DEFAULT '', report TEXT NOT NULL DEFAULT '{}');
CREATE INDEX guest_state ON guest (state);
CREATE TABLE attempt (
    guest TEXT NOT NULL REFERENCES guest (name), number INTEGER NOT NULL, worker TEXT NOT NULL,
    began REAL NOT NULL, ended REAL, state TEXT NOT NULL, message TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (guest, number));
CREATE TABLE finding (
    guest TEXT NOT NULL REFERENCES guest (name), level TEXT NOT NULL, subject TEXT NOT NULL,
    message TEXT NOT NULL, evidence TEXT NOT NULL);
CREATE INDEX finding_guest ON finding (guest);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A guest as the ledger knows it. Times are of the clock; `seconds` and `peak` (MiB) are those
    of the last attempt. `report` is the document of `virtio-ize --json`, empty without one."""

    name: str
    task: Task
    state: State
    report: dict[str, Any]
    attempts: int
    began: float | None
    ended: float | None
    seconds: float | None
    status: int | None
    message: str
    hint: str
    log: str
    peak: int | None
    worker: str


class Ledger:
    """An open ledger; `id` is the batch's name, which a resumed batch keeps."""

    def __init__(self, path: Path, database: sqlite3.Connection) -> None:
        self.path = path
        self._database = database
        row = database.execute("SELECT id, begun, ended FROM batch").fetchone()
        self.id: str = row[0]
        self.begun: float = row[1]
        self.ended: float | None = row[2]

    # --- reading ---

    def counts(self) -> dict[str, int]:
        """How many guests are in each state, all states in their order."""
        found = dict(self._database.execute("SELECT state, count(*) FROM guest GROUP BY state"))
        return {state.value: found.get(state.value, 0) for state in State}

    def entries(self, *, reports: bool = True) -> Iterator[Entry]:
        """All guests in order; without `reports` theirs are left out."""
        for name, task, state, report, *rest in self._database.execute(
                "SELECT name, task, state, CASE WHEN ? THEN report ELSE '{}' END, attempts, began, "
                "ended, seconds, status, message, hint, log, peak, worker FROM guest "
                "ORDER BY number", (reports,)):
            yield Entry(name, from_json(task), State(state), json.loads(report), *rest)

    def attempts(self) -> list[tuple[str, str, float, float, str]]:
        """(guest, worker, began, ended, state) of each attempt that is over, by their beginning."""
        return self._database.execute(
            "SELECT guest, worker, began, ended, state FROM attempt WHERE ended IS NOT NULL "
            "ORDER BY began").fetchall()

    # --- writing ---

    def add(self, tasks: Iterable[Task]) -> None:
        """Take the guests in, as queued.

        Known ones stay as they are when the same is to be done for the same files; what is not
        done, refused or not proven, and what was running when its batch died, is queued again.
        """
        with self._change() as change:
            change("UPDATE batch SET ended = NULL")
            change("UPDATE attempt SET state = ?, message = 'its batch was killed' "
                   "WHERE ended IS NULL", (State.FAILED,))
            change("UPDATE guest SET state = ? WHERE state = ?", (State.QUEUED, State.RUNNING))
            last = change("SELECT coalesce(max(number), 0) FROM guest").fetchone()[0]
            for number, task in enumerate(tasks, last + 1):
                known = change("SELECT task, state, files FROM guest WHERE name = ?",
                               (task.name,)).fetchone()
                if known is None:
                    change("INSERT INTO guest (name, number, task, state) VALUES (?, ?, ?, ?)",
                           (task.name, number, task.as_json(), State.QUEUED))
                elif not _is_settled(task, *known):
                    change("UPDATE guest SET task = ?, state = ? WHERE name = ?",
                           (task.as_json(), State.QUEUED, task.name))

    def queued(self) -> list[tuple[Task, int]]:
        """What is to be done, with the number of attempts that were made so far."""
        return [(from_json(task), attempts) for task, attempts in self._database.execute(
            "SELECT task, attempts FROM guest WHERE state = ? ORDER BY number", (State.QUEUED,))]

    def tasks(self) -> list[Task]:
        return [from_json(task) for (task,) in self._database.execute(
            "SELECT task FROM guest ORDER BY number")]

    def started(self, name: str, worker: str, began: float) -> int:
        """An attempt has begun; returns its number."""
        with self._change() as change:
            change("UPDATE guest SET state = ?, attempts = attempts + 1, began = ?, ended = NULL, "
                   "worker = ? WHERE name = ?", (State.RUNNING, began, worker, name))
            number: int = change("SELECT attempts FROM guest WHERE name = ?",
                                 (name,)).fetchone()[0]
            change("INSERT INTO attempt (guest, number, worker, began, state) "
                   "VALUES (?, ?, ?, ?, ?)", (name, number, worker, began, State.RUNNING))
        return number

    def finished(self, task: Task, outcome: Outcome, *, again: bool) -> None:
        """An attempt is over; `again` queues the guest once more."""
        with self._change() as change:
            change("UPDATE attempt SET ended = ?, state = ?, message = ?, worker = ? "
                   "WHERE guest = ? AND ended IS NULL AND state = ?",
                   (outcome.ended, outcome.state, outcome.message, outcome.where, outcome.name,
                    State.RUNNING))
            change("UPDATE guest SET state = ?, files = ?, began = ?, ended = ?, seconds = ?, "
                   "status = ?, message = ?, hint = ?, log = ?, peak = ?, worker = ?, report = ? "
                   "WHERE name = ?",
                   (State.QUEUED if again else outcome.state, fingerprint(task), outcome.began,
                    outcome.ended, outcome.seconds, outcome.status, outcome.message, outcome.hint,
                    outcome.log, outcome.peak, outcome.where, json.dumps(outcome.report),
                    outcome.name))
            change("DELETE FROM finding WHERE guest = ?", (outcome.name,))
            for found in outcome.report.get("findings", ()):
                change("INSERT INTO finding VALUES (?, ?, ?, ?, ?)",
                       (outcome.name, found["level"], found["subject"], found["message"],
                        found["evidence"]))

    def requeue(self, name: str, message: str) -> None:
        """What runs was interrupted, and is to be done again."""
        with self._change() as change:
            change("UPDATE attempt SET ended = ?, state = ?, message = ? "
                   "WHERE guest = ? AND ended IS NULL AND state = ?",
                   (time.time(), State.FAILED, message, name, State.RUNNING))
            change("UPDATE guest SET state = ? WHERE name = ? AND state = ?",
                   (State.QUEUED, name, State.RUNNING))

    def finish(self) -> None:
        """The batch has ended and nothing of it is left to do."""
        with self._change() as change:
            change("UPDATE batch SET ended = ?", (time.time(),))

    @contextmanager
    def _change(self) -> Iterator[Any]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield self._database.execute
        except BaseException:
            self._database.execute("ROLLBACK")
            raise
        self._database.execute("COMMIT")


def _is_settled(task: Task, known: str, state: str, files: str) -> bool:
    return (State(state) in (State.DONE, State.REFUSED, State.NOT_PROVEN)
            and _wanted(from_json(known)) == _wanted(task) and files == fingerprint(task))


def _wanted(task: Task) -> tuple[object, ...]:
    return task.arguments, task.files, task.output


def fingerprint(task: Task) -> str:
    """What tells whether the guest's files (and its copy) are still those that they were: of each
    the path, inode, size in bytes and time of change in ns; of a copy, which may be in use, only
    that it is there. Zeros for what is not."""
    found: list[tuple[str, int, int, int]] = []
    for path in task.files:
        try:
            entry = Path(path).stat()
            found.append((path, entry.st_ino, entry.st_size, entry.st_mtime_ns))
        except OSError:
            found.append((path, 0, 0, 0))
    if task.output:
        found.append((task.output, int(Path(task.output).exists()), 0, 0))
    return json.dumps(found)


# --- opening --------------------------------------------------------------------------------------


@contextmanager
def held(path: Path, *, resume: bool) -> Iterator[Ledger]:
    """The ledger at `path`, for a batch; nobody else's batch has it meanwhile.

    An earlier one's is continued with `resume`. Without, one that has ended is kept with "~" behind
    its name, and one that has not is a UsageError. Raises ImgconvError when there is no ledger to
    resume, or it cannot be made.
    """
    if not path.exists() and resume:
        raise UsageError(f"there is no ledger {path} to resume",
                         hint="name it: --ledger PATH; or leave out --resume")
    with _alone(path):
        if path.exists() and not resume:
            with _opened(path) as old:
                if old.ended is None:
                    raise UsageError(f"{path} is the ledger of a batch that has not ended",
                                     hint="continue it: --resume; or begin another: --ledger PATH")
            path.replace(path.with_name(path.name + "~"))
        if not path.exists():
            _create(path)
        with _opened(path, writable=True) as ledger:
            yield ledger


@contextmanager
def looked_at(path: Path) -> Iterator[tuple[Ledger, bool]]:
    """The ledger at `path` for reading, and whether its batch runs now, on this host."""
    if not path.exists():
        raise ImgconvError(f"there is no ledger {path}", hint="name it: --ledger PATH")
    running = False
    try:
        with _alone(path, make=False):
            pass
    except UsageError:
        running = True
    with _opened(path) as ledger:
        yield ledger, running


@contextmanager
def _alone(path: Path, *, make: bool = True) -> Iterator[None]:
    """Have the ledger for oneself; the kernel ends that with the process."""
    lock = path.with_name(f".{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, (os.O_RDWR | os.O_CREAT if make else os.O_RDONLY)
                             | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if not make:
            yield
            return
        raise ImgconvError(f"the ledger {path} cannot be made: {error.strerror}",
                           hint="name another place: --ledger PATH") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"another batch is running with the ledger {path}",
                             hint="imgconv batch status shows it; or name another: --ledger PATH"
                             ) from error
        yield
    finally:
        os.close(descriptor)


def _create(path: Path) -> None:
    """Make an empty ledger; it appears under its name when it is complete."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    try:
        with contextlib.closing(sqlite3.connect(new, isolation_level=None)) as database:
            database.executescript(
                f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {_VERSION}; BEGIN;"
                + _SCHEMA + "COMMIT;")
            database.execute("INSERT INTO batch (id, begun, host) VALUES (?, ?, ?)",
                             (uuid.uuid4().hex, time.time(), os.uname().nodename))
        new.replace(path)
    except (sqlite3.Error, OSError) as error:
        raise ImgconvError(f"the ledger {path} cannot be made: {error}",
                           hint="name another place: --ledger PATH") from error


@contextmanager
def _opened(path: Path, *, writable: bool = False) -> Iterator[Ledger]:
    try:
        # Readers open it for writing, too: WAL needs its index; nothing is changed by them.
        with contextlib.closing(sqlite3.connect(path, isolation_level=None,
                                                timeout=30)) as database:
            numbers = [database.execute(f"PRAGMA {name}").fetchone()[0]
                       for name in ("application_id", "user_version")]
            if numbers != [_APPLICATION, _VERSION]:
                raise ImgconvError(f"{path} is no ledger of this version of imgconv",
                                   hint="name another: --ledger PATH")
            if writable:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
            yield Ledger(path, database)
    except sqlite3.Error as error:
        raise ImgconvError(f"the ledger {path} cannot be used: {error}",
                           hint="it must be on a local disk with room; name another: --ledger PATH"
                           ) from error


def named(entries: Sequence[Entry], *states: State) -> list[str]:
    """The names of those that are in one of `states`."""
    return [entry.name for entry in entries if entry.state in states]
