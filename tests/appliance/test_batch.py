"""A batch of real guests: killed, resumed, and with the right verdict for each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import windows_disks, windows_payloads
from tests.appliance.test_pipeline import content, imgconv
from tests.windows_guests import RELEASES, WindowsTree


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    folder = tmp_path / "fleet"
    folder.mkdir()
    for name in ("first", "second"):
        windows_disks.image(WindowsTree(RELEASES["10"]), folder, name, "qcow2")
    windows_disks.image(WindowsTree(RELEASES["10"], hibernated=True), folder, "asleep", "qcow2")
    (folder / "broken.qcow2").write_bytes(b"QFI\xfb\0\0\0\x03")
    windows_payloads.write(tmp_path / "payload", windows_payloads.tree({
        "viostor/w10/amd64": windows_payloads.package()}))
    return folder


def _children(of: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(words[1]) == of and words[0] != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_killed_and_resumed(fleet: Path, tmp_path: Path, number: signal.Signals) -> None:
    before = {path.name: content(path) for path in fleet.glob("*.qcow2")}
    ledger = tmp_path / "ledger"
    words: list[str | Path] = ["batch", fleet, "-j", "2", "--retries", "0", "--ledger", ledger,
                               "--drivers", tmp_path / "payload"]
    batch = subprocess.Popen([sys.executable, "-m", "imgconv", *words, "--json-lines"],
                             stdout=subprocess.PIPE, text=True)
    assert batch.stdout
    for line in batch.stdout:
        event = json.loads(line)
        # "asleep" and "broken" come first by name: the first that is done is a good one.
        if event["event"] == "guest-ended" and event["state"] == "done":
            break
    done = event["guest"]
    committed = content(fleet / f"{done}.qcow2")
    assert committed != before[f"{done}.qcow2"]
    time.sleep(3)
    working = _children(batch.pid)
    os.kill(batch.pid, number)
    batch.wait()
    assert batch.returncode == (130 if number == signal.SIGINT else -9)
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in working):
        assert time.monotonic() < deadline, "its processes live on"
        time.sleep(0.2)

    resumed = imgconv(*words, "--resume", "--json", "--report", tmp_path / "report.html")
    assert resumed.returncode == 1, resumed.stderr
    guests = {guest["name"]: guest for guest in json.loads(resumed.stdout)["guests"]}
    assert {name: guest["state"] for name, guest in guests.items()} == {
        "asleep": "refused", "broken": "failed", "first": "done", "second": "done"}
    assert guests[done]["attempts"] == 1
    assert guests["asleep"]["attempts"] == 1
    assert content(fleet / f"{done}.qcow2") == committed
    assert all(guests[name]["report"]["committed"] for name in ("first", "second"))
    assert content(fleet / "asleep.qcow2") == before["asleep.qcow2"]
    assert "3 of 4" not in (tmp_path / "report.html").read_text()


def test_a_survey_changes_nothing(fleet: Path, tmp_path: Path) -> None:
    (fleet / "second.qcow2").unlink()
    before = {path.name: content(path) for path in fleet.glob("*.qcow2")}
    page = tmp_path / "survey.html"
    done = imgconv("batch", fleet, "--dry-run", "--drivers", tmp_path / "payload", "--ledger",
                   tmp_path / "ledger", "--report", page, "--retries", "0")
    assert done.returncode == 1
    assert "1 of 3 guests can be converted; not: asleep, broken" in done.stderr
    assert "viostor" in page.read_text()
    assert {path.name: content(path) for path in fleet.glob("*.qcow2")} == before
