"""Locks against a second imgconv and against a real, running QEMU."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgconv.disk.formats import open_image
from imgconv.disk.lock import locked
from imgconv.disk.overlay import create
from imgconv.errors import ImgconvError, UsageError
from imgconv.model import Image
from tests.host.disk.images import make, qemu, write


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgconv.disk.lock._PATIENCE", 0.0)


def image(path: Path, fmt: str = "qcow2") -> Image:
    return open_image(make(path, fmt), writable=True)


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_two_writers(fmt: str, tmp_path: Path) -> None:
    disk = image(tmp_path / "disk", fmt)
    with locked([disk]), pytest.raises(ImgconvError, match="another imgconv"), locked([disk]):
        pass
    with locked([disk]):
        pass


def test_readers_share_but_exclude_a_writer(tmp_path: Path) -> None:
    disk = image(tmp_path / "disk")
    with (locked([disk], writable=False), locked([disk], writable=False),
          pytest.raises(ImgconvError, match="another imgconv"), locked([disk])):
        pass


def test_guests_may_share_a_base_that_nobody_writes(tmp_path: Path) -> None:
    base = image(tmp_path / "base")
    first, second = create(base, tmp_path), create(base, tmp_path)
    with (locked([first]), locked([second]),
          pytest.raises(ImgconvError, match="another imgconv"), locked([base])):
        pass


def test_read_only_files_can_be_locked_for_reading(tmp_path: Path) -> None:
    disk = image(tmp_path / "disk")
    disk.path.chmod(0o444)
    with locked([disk], writable=False):
        pass


def test_an_image_given_twice(tmp_path: Path) -> None:
    disk = image(tmp_path / "disk")
    (tmp_path / "link").symlink_to(disk.path)
    again = open_image(tmp_path / "link", writable=True)
    for pair in ([disk, again], [create(disk, tmp_path), disk]):
        with pytest.raises(UsageError), locked(pair):
            pass


def test_our_lock_does_not_keep_our_own_qemu_out(tmp_path: Path) -> None:
    disk = image(tmp_path / "disk")
    with locked([disk]):
        write(disk.path, "qcow2", (7, 0, 512))


@contextmanager
def running(path: Path, options: str = "") -> Iterator[None]:
    """A virtual machine that has `path` as its disk; it never executes an instruction."""
    child = subprocess.Popen(["qemu-system-x86_64", "-S", "-accel", "tcg", "-display", "none",
                              "-nodefaults", "-m", "16", "-monitor", "stdio",
                              "-drive", f"file={path},format=qcow2{options}"],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout is not None
        while b"(qemu)" not in (line := child.stdout.read1()):  # type: ignore[attr-defined]
            assert line, "QEMU did not start"
            time.sleep(0.01)
        yield
    finally:
        child.kill()
        child.communicate()


def test_a_running_virtual_machine(tmp_path: Path) -> None:
    base = image(tmp_path / "base")
    top = create(base, tmp_path)
    with running(top.path):
        assert open_image(top.path, writable=True) == top  # looking is always allowed
        for writable in (True, False):
            with (pytest.raises(ImgconvError, match="open for writing") as caught,
                  locked([top], writable=writable)):
                pass
            assert "shut the virtual machine down" in caught.value.hint
        with pytest.raises(ImgconvError, match="relies on its content"), locked([base]):
            pass
        with locked([base], writable=False):
            pass
    with locked([top]):
        qemu("qemu-img", "commit", "-q", "-f", "qcow2", top.path)
