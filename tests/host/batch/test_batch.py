"""Whole batches of guests that end at once: broken, of an unknown kind, in use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgconv.batch import tasks
from imgconv.batch.tasks import Children, State
from imgconv.disk import formats, lock
from imgconv.pipeline import Job

IMGCONV = [sys.executable, "-m", "imgconv"]


def batch(folder: Path, *words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*IMGCONV, "batch", *words], cwd=folder, check=False, text=True,
                          capture_output=True, stdin=subprocess.DEVNULL, timeout=300)


@contextmanager
def in_use(disk: Path) -> Iterator[None]:
    """Another imgconv has the disk."""
    with lock.locked([formats.open_image(disk, writable=True)], writable=True):
        yield


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """Three guests that fail in a second: `locked` only while somebody has it."""
    folder = tmp_path / "fleet"
    folder.mkdir()
    (folder / "broken.qcow2").write_bytes(b"QFI\xfb\0\0\0\x03")
    (folder / "empty.img").touch()
    (folder / "iso.img").write_bytes(bytes(0x8001) + b"CD001" + bytes(1 << 20))
    return folder


def test_one_bad_image_stops_no_other(fleet: Path, tmp_path: Path) -> None:
    (fleet / "locked.raw").write_bytes(bytes(1 << 20))
    with in_use(fleet / "locked.raw"):
        done = batch(tmp_path, fleet, "--json", "--retries", "0", "--report", "report.html")
    assert done.returncode == 1, done.stderr
    found = {guest["name"]: guest for guest in json.loads(done.stdout)["guests"]}
    assert {guest["state"] for guest in found.values()} == {"failed"}
    assert "truncated" in found["broken"]["message"]
    assert "is empty" in found["empty"]["message"]
    assert "another imgconv" in found["locked"]["message"]
    assert all(guest["attempts"] == 1 and guest["hint"] for guest in found.values())
    assert "locked" in (tmp_path / "report.html").read_text()
    status = batch(tmp_path, "status", "--json")
    assert status.returncode == 0
    assert json.loads(status.stdout)["counts"]["failed"] == 4
    assert not json.loads(status.stdout)["running"]


def test_events_retries_and_resume(fleet: Path, tmp_path: Path) -> None:
    done = batch(tmp_path, fleet, "--json-lines", "-j", "2", "--output-dir", "out")
    assert done.returncode == 1
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert events[0]["event"] == "batch-begun"
    assert events[0]["jobs"] == 2
    assert events[-1]["event"] == "batch-ended"
    assert events[-1]["counts"]["failed"] == 3
    ends = [event for event in events if event["event"] == "guest-ended"]
    assert [event["again"] for event in ends if event["guest"] == "empty"] == [True, False]
    assert list((tmp_path / "out").iterdir()) == [tmp_path / "out/imgconv-batch.sqlite"] or all(
        path.name.lstrip(".").startswith("imgconv-batch") for path in (tmp_path / "out").iterdir())
    again = batch(tmp_path, "--resume", "--output-dir", "out", "--retries", "0")
    assert again.returncode == 1
    assert "3 guests, " in again.stderr
    assert "0 of 3 guests done; not: broken, empty, iso" in again.stderr


def test_fail_fast(fleet: Path, tmp_path: Path) -> None:
    done = batch(tmp_path, fleet, "--fail-fast", "-j", "1", "--retries", "0", "--json")
    assert done.returncode == 1
    counts = json.loads(done.stdout)["counts"]
    assert counts["failed"] == 1
    assert counts["queued"] == 2
    assert "interrupted" in batch(tmp_path, "status").stderr


@pytest.mark.parametrize(("words", "says"), [
    ([], "no guests"), (["nowhere.img"], "does not exist"), (["--resume"], "no ledger"),
    ([".", "-j", "0"], "-j"), ([".", "--json", "--json-lines"], "leave one"),
    ([".", "--tls-ca", "x"], "--scheduler"), ([".", "--emit", "teapot"], "teapot"),
    ([".", "--net", "moon"], "moon"), ([".", "--boot-test", "--dry-run"], "dry run"),
    ([".", "--scheduler", "tcp://h:1", "-j", "2"], "-j is for this machine")])
def test_wrong_usage(fleet: Path, words: list[str], says: str) -> None:
    done = batch(fleet, *words)
    assert done.returncode == 2, done.stderr
    assert says in done.stderr + done.stdout


# --- one task -------------------------------------------------------------------------------------


def perform(task: tasks.Task,
            tell: Callable[[str, float], None] = lambda phase, fraction: None) -> tasks.Outcome:
    return tasks.perform(task, "this batch", Children(), tell)


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    task = tasks.task("a", Job((disk,), output=tmp_path / "out.qcow2"))

    def kill(phase: str, fraction: float) -> None:
        for entry in Path("/proc").glob("[0-9]*/stat"):
            words = entry.read_text().rpartition(")")[2].split()
            if int(words[1]) == os.getpid() and words[0] != "Z" and phase == "open":
                command = (entry.parent / "cmdline").read_bytes()
                if b"imgconv.batch.child" in command:
                    os.kill(int(entry.parent.name), 9)

    outcome = perform(task, tell=kill)
    assert (outcome.state, outcome.status) == (State.FAILED, -9)
    assert "SIGKILL" in outcome.message
    assert outcome.again
    # What it was about to write is known to be this batch's own, and nobody else's.
    note = tmp_path / ".out.qcow2.imgconv-batch"
    assert note.read_text() == "this batch"
    (tmp_path / "out.qcow2").write_text("half done")
    other = tasks.perform(task, "another batch", Children())
    assert "exists" in other.message


def test_an_output_of_somebody_else_is_kept(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    (tmp_path / "out.qcow2").write_text("precious")
    outcome = perform(tasks.task("a", Job((disk,), output=tmp_path / "out.qcow2")))
    assert outcome.state is State.FAILED
    assert "exists" in outcome.message
    assert (tmp_path / "out.qcow2").read_text() == "precious"
    assert not (tmp_path / ".out.qcow2.imgconv-batch").exists()


def test_waiting_for_a_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    with in_use(disk):
        begun = time.monotonic()
        lock.wait([disk, tmp_path / "none"], 0.5)
        assert 0.5 <= time.monotonic() - begun < 5
    begun = time.monotonic()
    lock.wait([disk], 60)
    assert time.monotonic() - begun < 5
