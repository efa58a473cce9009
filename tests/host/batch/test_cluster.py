"""A Dask cluster on this machine: a scheduler and workers that are processes of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("distributed")

IMGCONV = [sys.executable, "-m", "imgconv"]

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def begin(module: str, *words: str) -> subprocess.Popen[bytes]:
        log = (tmp_path / f"{module}-{len(running)}.log").open("wb")
        running.append(subprocess.Popen([sys.executable, "-m", module, *words], stdout=log,
                                        stderr=log, cwd=tmp_path, stdin=subprocess.DEVNULL))
        return running[-1]

    yield begin
    for process in running:
        process.kill()
        process.wait()


@pytest.fixture
def scheduler(start: Start) -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port),
          "--no-dashboard")
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return f"tcp://127.0.0.1:{port}"
        time.sleep(0.1)
    raise AssertionError("the scheduler does not come up")


def worker(start: Start, scheduler: str, name: str) -> subprocess.Popen[bytes]:
    # Without a nanny, which would start a killed worker again.
    return start("distributed.cli.dask_worker", scheduler, "--name", name, "--no-nanny",
                 "--no-dashboard", "--nthreads", "1", "--resources", "appliance=1")


def until_there(scheduler: str, count: int) -> None:
    from distributed import Client

    with Client(scheduler, set_as_default=False) as client:
        client.wait_for_workers(count, timeout=60)


def fleet(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"broken-{number}.qcow2").write_bytes(b"QFI\xfb\0\0\0\x03")
    return folder


def test_a_worker_is_killed(start: Start, scheduler: str, tmp_path: Path) -> None:
    images = fleet(tmp_path / "fleet", 8)
    workers = {name: worker(start, scheduler, name) for name in ("one", "two")}
    until_there(scheduler, 2)
    batch = subprocess.Popen([*IMGCONV, "batch", images, "--scheduler", scheduler, "--json-lines",
                              "--retries", "0", "--ledger", tmp_path / "ledger"],
                             stdout=subprocess.PIPE, text=True)
    assert batch.stdout
    events = []
    killed = ""
    for line in batch.stdout:
        events.append(json.loads(line))
        if events[-1]["event"] == "guest-begun" and events[-1]["worker"].startswith("one@"):
            killed = killed or events[-1]["guest"]
            workers["one"].send_signal(signal.SIGKILL)
    assert batch.wait() == 1
    assert killed
    ends = [event for event in events if event["event"] == "guest-ended"]
    assert sorted(event["guest"] for event in ends) == [f"broken-{n}" for n in range(8)]
    assert all("truncated" in event["message"] for event in ends)
    begun = [event["worker"].partition("@")[0] for event in events
             if event["event"] == "guest-begun" and event["guest"] == killed]
    assert begun == ["one", "two"]
    status = json.loads(subprocess.run(
        [*IMGCONV, "batch", "status", "--json", "--ledger", tmp_path / "ledger"],
        capture_output=True, check=True).stdout)
    assert {guest["name"]: guest["attempts"] for guest in status["guests"]} == {
        f"broken-{n}": 2 if f"broken-{n}" == killed else 1 for n in range(8)}


def test_ctrl_c_ends_what_the_workers_do(start: Start, scheduler: str, tmp_path: Path) -> None:
    images = fleet(tmp_path / "fleet", 30)
    worker(start, scheduler, "one")
    until_there(scheduler, 1)
    batch = subprocess.Popen([*IMGCONV, "batch", images, "--scheduler", scheduler, "--json-lines",
                              "--retries", "0", "--ledger", tmp_path / "ledger"],
                             stdout=subprocess.PIPE, text=True)
    assert batch.stdout
    next(line for line in batch.stdout if "guest-begun" in line)
    os.kill(batch.pid, signal.SIGINT)
    last = json.loads(batch.stdout.read().splitlines()[-1])
    assert batch.wait() == 130
    assert last["interrupted"]
    assert last["counts"]["running"] == 0
    assert last["counts"]["queued"] > 0


def test_there_is_nobody(start: Start, scheduler: str, tmp_path: Path) -> None:
    images = fleet(tmp_path / "fleet", 1)
    for address, says in ((scheduler, "has no worker"), ("tcp://127.0.0.1:1", "cannot be reached")):
        done = subprocess.run([*IMGCONV, "batch", images, "--scheduler", address, "--ledger",
                               tmp_path / says], capture_output=True, text=True, check=False)
        assert done.returncode == 1, done.stderr
        assert says in done.stderr
