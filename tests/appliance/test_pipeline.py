"""The whole pipeline on a real guest, without booting it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imgconv import pipeline
from imgconv.guest.protocols import Guest
from imgconv.model import AppendFile, Level, Options, Plan, WriteFile

IMGCONV = [sys.executable, "-m", "imgconv"]


def content(disk: Path) -> str:
    """The hash of the image file itself."""
    return hashlib.sha256(disk.read_bytes()).hexdigest()


def imgconv(*args: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*IMGCONV, *args], capture_output=True, text=True, check=False,
                          env={**os.environ, **env}, stdin=subprocess.DEVNULL)


def test_in_place_then_again(legacy_guest: Path, copy_of: Callable[[Path], Path],
                             tmp_path: Path) -> None:
    disk = copy_of(legacy_guest)
    before = content(disk)

    dry = imgconv("virtio-ize", disk, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    assert "-/dev/sda2 swap swap defaults 0 0" in dry.stdout
    assert "+UUID=" in dry.stdout
    assert content(disk) == before

    unready = imgconv("verify", disk)
    assert unready.returncode == 4
    assert "virtio_blk is missing" in unready.stderr

    # Not proven for virtio, so the machine has the bus that its initramfs has drivers for.
    machine = imgconv("machine", disk)
    assert machine.returncode == 0, machine.stderr
    assert "-device ahci" in machine.stdout or "ide-hd" in machine.stdout
    assert "virtio-blk" not in machine.stdout

    done = imgconv("virtio-ize", disk, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["proven"]
    assert report["committed"]
    assert content(disk) != before
    script = tmp_path / "disk.qcow2.qemu.sh"
    assert os.access(script, os.X_OK)
    assert "virtio-blk-pci" in script.read_text()

    after = content(disk)
    again = imgconv("virtio-ize", disk)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr
    assert content(disk) == after

    ready = imgconv("verify", disk, "--json")
    assert ready.returncode == 0, ready.stderr
    assert json.loads(ready.stdout)["proven"]

    facts = json.loads(imgconv("inspect", disk, "--json").stdout)
    assert facts["linux"]["kernels"][0]["initramfs"]["drivers"] == {"virtio_pci": "",
                                                                    "virtio_blk": ""}

    # Looking at it is no change, so it can be undone, and then shows what it showed before.
    undone = imgconv("undo", disk, "--json")
    assert undone.returncode == 0, undone.stderr
    assert json.loads(undone.stdout)["undone"]["disks"] == [str(disk)]
    subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", disk, legacy_guest],
                   check=True)
    assert "nothing to undo" in imgconv("undo", disk).stderr


def test_copy_leaves_the_source_alone(legacy_guest: Path, tmp_path: Path) -> None:
    before = legacy_guest.stat()
    copy = tmp_path / "new.img"
    done = imgconv("virtio-ize", legacy_guest, "-o", copy)
    assert done.returncode == 0, done.stderr
    assert legacy_guest.stat().st_mtime_ns == before.st_mtime_ns
    assert copy.stat().st_blocks * 512 < copy.stat().st_size, "the copy is not sparse"
    # That the copy is what was proven: it needs nothing more.
    assert imgconv("verify", copy, "--input-format", "raw").returncode == 0


def test_unproven_is_not_committed(legacy_guest: Path, copy_of: Callable[[Path], Path],
                                   monkeypatch: pytest.MonkeyPatch) -> None:
    """An apply that forgets half of its work is found out by reading the disk again."""
    disk = copy_of(legacy_guest)
    before = content(disk)

    def careless(guest: Guest, plan: Plan) -> None:
        for change in plan.changes:
            if isinstance(change, WriteFile) and change.path != "/etc/fstab":
                guest.write(change.path, change.content, change.mode)
            if isinstance(change, AppendFile):
                guest.append(change.path, change.content[:-100_000])

    monkeypatch.setattr(pipeline, "apply", careless)
    report = pipeline.virtio_ize(pipeline.Job((disk,), Options()))
    failed = {finding.subject.split()[0] for finding in report.findings
              if finding.level is Level.FAILED}
    assert failed == {"/etc/fstab", "initramfs", "plan"}
    assert not report.committed
    assert report.machine is None
    assert content(disk) == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_interrupted(legacy_guest: Path, copy_of: Callable[[Path], Path], tmp_path: Path,
                     number: signal.Signals) -> None:
    """Ctrl-C (or worse) while the appliance works: the source is untouched, nothing is left."""
    disk = copy_of(legacy_guest)
    before = content(disk)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    log = tmp_path / "log"
    process = subprocess.Popen([*IMGCONV, "virtio-ize", disk, "--log-file", log],
                               env={**os.environ, "TMPDIR": str(scratch)}, text=True,
                               stderr=subprocess.PIPE, start_new_session=True,
                               # A shell's background jobs, this test among them, ignore SIGINT.
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
    deadline = time.monotonic() + 120
    while "guestfs: launch" not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.2)
    time.sleep(2)
    # A terminal's Ctrl-C reaches the whole group, the others are sent to one process.
    (os.killpg if number is signal.SIGINT else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=60)
    assert content(disk) == before
    if number is signal.SIGKILL:
        # Nobody could tidy up; the lock at least went with the process.
        assert imgconv("virtio-ize", disk, "--dry-run").returncode == 0
        return
    assert process.returncode == 128 + number
    assert "Traceback" not in errors
    assert [path.name for path in scratch.iterdir() if path.name.startswith("imgconv-")] == []


@pytest.fixture(scope="module")
def empty_disk() -> Path:
    path = Path(tempfile.mkdtemp()) / "empty.img"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    return path


def test_no_system(empty_disk: Path) -> None:
    done = imgconv("virtio-ize", empty_disk, "--input-format", "raw")
    assert done.returncode == 3
    assert "no operating system" in done.stderr
    assert "Traceback" not in done.stderr
