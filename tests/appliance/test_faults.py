"""The appliance hangs, dies, or is not waited for any more; the place of the overlay is full."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imgconv import host, pipeline
from imgconv.cli import app
from imgconv.disk import overlay
from imgconv.disk.formats import open_image
from imgconv.errors import ImgconvError
from imgconv.guest import appliance, watchdog
from imgconv.guest.appliance import Appliance
from imgconv.guest.watchdog import ApplianceGone, Limits
from imgconv.model import Image, Mount, Options
from tests.appliance.test_pipeline import IMGCONV, content


def start(image: Image, limits: Limits | None = None) -> AbstractContextManager[Appliance]:
    return appliance.launch([image], writable=True, limits=limits,
                            tcg=not host.kvm_usable().usable)


def qemu(parent: int | None = None) -> list[int]:
    """The appliances of this process, or of another one."""
    return [pid for pid in watchdog._children(parent) if b"imgconv.id=" in watchdog._cmdline(pid)]


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path], check=True)
    return path


def test_a_stopped_appliance_is_given_up(disk: Path) -> None:
    """Its QEMU does nothing any more; the call ends at its limit, and closing does not hang."""
    before = content(disk)
    with pytest.raises(ApplianceGone, match="did not answer"), \
            start(open_image(disk, writable=True), Limits(call=4)) as running:
        for pid in qemu():
            os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
        with pytest.raises(ApplianceGone, match="did not answer for 4 seconds"):
            running.names("/")
        assert 3 < time.monotonic() - begun < 15
        running.size("/etc/fstab")  # must not say that there is no such file
    assert qemu() == []
    assert content(disk) == before


def test_launching_is_given_up(disk: Path) -> None:
    with pytest.raises(ApplianceGone, match="did not answer for 3 seconds"), \
            start(open_image(disk, writable=True), Limits(launch=3)):
        pass
    assert qemu() == []


def test_the_appliance_dies_in_the_middle(
        legacy_guest: Path, copy_of: Callable[[Path], Path], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch) -> None:
    disk = copy_of(legacy_guest)
    before = content(disk)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))

    def died(*_: object) -> None:
        for pid in qemu():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.5)

    def planned(*args: object) -> object:
        died()
        return original(*args)  # type: ignore[arg-type]
    original = pipeline.planned
    monkeypatch.setattr(pipeline, "planned", planned)
    with pytest.raises(ApplianceGone, match="died"):
        pipeline.virtio_ize(pipeline.Job((disk,), Options()))
    assert content(disk) == before
    assert list(scratch.iterdir()) == []


def test_a_signal_does_not_wait_for_a_call(legacy_guest: Path, copy_of: Callable[[Path], Path],
                                           tmp_path: Path) -> None:
    """SIGTERM while the appliance does not answer at all: the limit need not be waited for."""
    disk = copy_of(legacy_guest)
    before = content(disk)
    log = tmp_path / "log"
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    process = subprocess.Popen([*IMGCONV, "virtio-ize", disk, "--log-file", log],
                               env={**os.environ, "TMPDIR": str(scratch)}, text=True,
                               stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while "guestfs: mount" not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)
    for pid in qemu(process.pid):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(1)
    begun = time.monotonic()
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - begun < 10
    assert process.returncode == 143, errors
    assert content(disk) == before
    assert qemu(process.pid) == []
    assert [path.name for path in scratch.iterdir() if path.name.startswith("imgconv-")] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs takes root")
def test_a_full_disk_under_the_overlay(disk: Path, tmp_path: Path) -> None:
    """QEMU would stop the appliance and wait for room; nobody is there to make any."""
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], check=True)
    try:
        layer = overlay.create(open_image(disk, writable=False), small)
        with pytest.raises(ApplianceGone, match="is full, so the overlay"), \
                start(layer) as running:
            running.mount([Mount("/dev/sda", "/")], writable=True)
            running.write("/full", os.urandom(16 << 20), 0o600)
            running.call("sync")
    finally:
        subprocess.run(["umount", small], check=True)


def test_commands_of_the_guest(legacy_guest: Path, copy_of: Callable[[Path], Path]) -> None:
    """One that says too much, and one that never ends."""
    disk = copy_of(legacy_guest)
    with pytest.raises(ApplianceGone, match=r"did not answer for 10 seconds .sleep 600."), \
            start(open_image(disk, writable=True), Limits(command=10)) as running:
        running.mount([Mount("/dev/sda1", "/")], writable=True)
        with pytest.raises(ImgconvError) as caught:
            running.run(("sh", "-c", "head -c 100000 /dev/zero | tr '\\0' '\\033' >&2; exit 1"))
        assert len(caught.value.message) < 2500
        running.run(("sleep", "600"))
    assert qemu() == []


def test_the_source_vanishes(legacy_guest: Path, copy_of: Callable[[Path], Path], tmp_path: Path,
                             monkeypatch: pytest.MonkeyPatch) -> None:
    disk = copy_of(legacy_guest)
    away, scratch = tmp_path / "away", tmp_path / "scratch"
    scratch.mkdir()
    before = content(disk)

    def planned(*args: object) -> object:
        disk.rename(away)
        return original(*args)  # type: ignore[arg-type]
    original = pipeline.planned
    monkeypatch.setattr(pipeline, "planned", planned)
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    result = CliRunner().invoke(app, ["virtio-ize", str(disk)])
    assert result.exit_code == 1, result.output
    assert str(disk) in result.stderr
    assert "internal error" not in result.stderr
    [log] = [path for path in scratch.iterdir() if path.name.startswith("imgconv-")]
    assert f"log: {log}" in result.stderr
    assert "guestfs: launch" in log.read_text()
    assert content(away) == before
    assert not disk.exists()
