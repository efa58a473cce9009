"""What the ledger keeps, over crashes and changes."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from imgconv.batch import ledger
from imgconv.batch.tasks import Outcome, State, Task
from imgconv.errors import ImgconvError, UsageError

FINDING = {"level": "proven", "subject": "plan", "message": "is empty", "evidence": ""}


def work(folder: Path, *names: str) -> list[Task]:
    made = []
    for name in names:
        disk = folder / f"{name}.img"
        if not disk.exists():
            disk.write_text(name)
        made.append(Task(name, ("--", str(disk)), (str(disk),)))
    return made


def ended(task: Task, state: State = State.DONE) -> Outcome:
    return Outcome(task.name, state, 0, "said", "hint", "", {"findings": [FINDING]}, 10.0, 12.5, 99,
                   "worker 1")


def test_a_batch_from_beginning_to_end(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "x.sqlite"
    tasks = work(tmp_path, "b", "a")
    with ledger.held(place, resume=False) as book:
        book.add(tasks)
        assert [task.name for task, _ in book.queued()] == ["b", "a"]
        for task in tasks:
            assert book.started(task.name, "worker 1", 10.0) == 1
            book.finished(task, ended(task), again=False)
        book.finish()
    with ledger.looked_at(place) as (book, running):
        assert not running
        assert book.ended is not None
        first, second = book.entries()
        assert (first.name, first.state, first.seconds, first.peak) == ("b", State.DONE, 2.5, 99)
        assert second.report["findings"] == [FINDING]
        assert book.attempts() == [("b", "worker 1", 10.0, 12.5, "done"),
                                   ("a", "worker 1", 10.0, 12.5, "done")]
        assert book.counts() == {"queued": 0, "running": 0, "done": 2, "failed": 0, "refused": 0,
                                 "not-proven": 0}
    with sqlite3.connect(place) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert database.execute("SELECT guest, subject FROM finding").fetchall() == [
            ("b", "plan"), ("a", "plan")]


def test_what_is_resumed(tmp_path: Path) -> None:
    place = tmp_path / "x.sqlite"
    tasks = work(tmp_path, "done", "refused", "failed", "running", "changed", "other", "gone")
    with ledger.held(place, resume=False) as book:
        book.add(tasks)
        for task in tasks:
            book.started(task.name, "worker 1", 10.0)
        for task in tasks:
            state = State(task.name) if task.name in ("refused", "failed") else State.DONE
            if task.name != "running":
                book.finished(task, ended(task, state), again=False)
    (tmp_path / "changed.img").write_text("something else")
    (tmp_path / "gone.img").unlink()
    tasks[5] = Task("other", ("--prepare", *tasks[5].arguments), tasks[5].files)
    with ledger.held(place, resume=True) as book:
        book.add([*tasks, *work(tmp_path, "new")])
        assert [task.name for task, _ in book.queued()] == [
            "failed", "running", "changed", "other", "gone", "new"]
        assert book.counts()["running"] == 0
        assert {task.name: tries for task, tries in book.queued()}["running"] == 1
        assert book.started("running", "worker 2", 20.0) == 2


def test_retries_and_what_was_interrupted(tmp_path: Path) -> None:
    (task,) = work(tmp_path, "a")
    with ledger.held(tmp_path / "x", resume=False) as book:
        book.add([task])
        book.started("a", "worker 1", 1.0)
        book.finished(task, ended(task, State.FAILED), again=True)
        assert book.counts()["queued"] == 1
        book.started("a", "worker 1", 2.0)
        book.requeue("a", "why")
        assert book.counts()["queued"] == 1
        assert [state for *_, state in book.attempts()] == ["failed", "failed"]


def test_earlier_ledgers(tmp_path: Path) -> None:
    place = tmp_path / "x.sqlite"
    with pytest.raises(UsageError, match="no ledger"), ledger.held(place, resume=True):
        pass
    with ledger.held(place, resume=False) as book:
        book.add(work(tmp_path, "a"))
    with pytest.raises(UsageError, match="has not ended"), ledger.held(place, resume=False):
        pass
    with ledger.held(place, resume=True) as book:
        assert len(book.tasks()) == 1
        book.finish()
    with ledger.held(place, resume=False) as book:
        assert book.tasks() == []
    assert (tmp_path / "x.sqlite~").exists()


def test_one_batch_at_a_time(tmp_path: Path) -> None:
    place = tmp_path / "x.sqlite"
    with ledger.held(place, resume=False) as book:
        book.add(work(tmp_path, "a"))
        with pytest.raises(UsageError, match="another batch"), ledger.held(place, resume=True):
            pass
        with ledger.looked_at(place) as (seen, running):
            assert running
            assert seen.counts()["queued"] == 1
    with ledger.looked_at(place) as (_, running):
        assert not running


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_what_is_no_ledger(tmp_path: Path, content: bytes) -> None:
    place = tmp_path / "x.sqlite"
    place.write_bytes(content)
    with pytest.raises(ImgconvError), ledger.held(place, resume=True):
        pass
    assert place.read_bytes() == content
    with pytest.raises(ImgconvError), ledger.looked_at(tmp_path / "none"):
        pass
    with pytest.raises(ImgconvError, match="cannot be made"), \
            ledger.held(tmp_path / "x.sqlite" / "y", resume=False):
        pass
