"""A tmpfs of a few MiB plays the full disk, in every place that can be full."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgconv.disk import commit as module
from imgconv.disk import overlay
from imgconv.disk.commit import RolledBack, commit, fingerprint
from imgconv.disk.formats import open_image
from imgconv.disk.overlay import create, workspace
from imgconv.disk.undo import undo
from imgconv.errors import CommitFailed, ImgconvError
from imgconv.model import Image
from tests.host.disk.images import MIB, content, digest, make, write


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", folder], check=False,
                          capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def changed(path: Path, place: Path, size: int = 3 * MIB) -> tuple[Image, Image]:
    """The image and an overlay that changes `size` bytes of it, which it has not allocated yet."""
    source = open_image(path, writable=True)
    layer = create(source, place)
    write(layer.path, "qcow2", (0x22, MIB, size))
    return source, layer


def leave(folder: Path, size: int) -> None:
    """Fill the filesystem until `size` bytes are left."""
    free = os.statvfs(folder)
    with (folder / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize - size)


def unlimited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check before the work is wrong: someone else fills the disk meanwhile."""
    monkeypatch.setattr(module, "require_space", lambda *arguments: None)


def no_state(folder: Path) -> bool:
    return not list(folder.glob(".*.imgconv"))


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
@pytest.mark.parametrize("checked", [True, False])
def test_the_source(fmt: str, checked: bool, small: Path, tmp_path: Path,
                    monkeypatch: pytest.MonkeyPatch) -> None:
    """In mid-write, what was written is put back."""
    path = make(small / "disk", fmt, 16 * MIB, pattern=0x11)
    before = content(path, fmt, tmp_path)
    source, layer = changed(path, tmp_path)
    monkeypatch.setenv("IMGCONV_STATE_DIR", str(tmp_path / "state"))
    leave(small, 2 * MIB)
    if not checked:
        unlimited(monkeypatch)
    with pytest.raises(ImgconvError) as caught:
        commit([(source, layer)], [fingerprint(source)])
    if checked:
        assert "has 2 MiB free, but" in caught.value.message
        assert "-o OUTPUT" in caught.value.hint
    else:
        assert isinstance(caught.value, RolledBack)
        assert "no room left" in caught.value.message
    assert content(path, fmt, tmp_path) == before
    assert no_state(small)
    assert undo([path]) is None


@pytest.mark.parametrize("checked", [True, False])
def test_the_undo_pack(checked: bool, small: Path, tmp_path: Path,
                       monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "disk", "raw", 16 * MIB)
    write(path, "raw", (0x11, 0, 16 * MIB))
    before = digest(path)
    source, layer = changed(path, tmp_path)
    if not checked:
        unlimited(monkeypatch)
    with pytest.raises(ImgconvError) as caught:
        commit([(source, layer)], [fingerprint(source)], state_dir=small)
    assert "--no-undo" in caught.value.hint if checked else "room" in caught.value.message
    assert digest(path) == before
    assert no_state(tmp_path)
    assert list(small.iterdir()) == []


def test_no_undo_takes_half_the_room(small: Path, tmp_path: Path) -> None:
    path = make(tmp_path / "disk", "raw", 16 * MIB)
    source, layer = changed(path, tmp_path)
    wanted = content(layer.path, "qcow2", tmp_path)
    commit([(source, layer)], [fingerprint(source)], undo=False, state_dir=small)
    assert digest(path) == wanted


def test_without_undo_the_journal_waits_for_room(small: Path, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(small / "disk", "raw", 16 * MIB, pattern=0x11)
    source, layer = changed(path, tmp_path)
    wanted = content(layer.path, "qcow2", tmp_path)
    monkeypatch.setenv("IMGCONV_STATE_DIR", str(tmp_path / "state"))
    leave(small, 2 * MIB)
    unlimited(monkeypatch)
    with pytest.raises(CommitFailed, match="only in part") as caught:
        commit([(source, layer)], [fingerprint(source)], undo=False)
    assert "any imgconv command" in caught.value.hint
    (small / "filler").unlink()
    assert undo([path]) is None
    assert content(path, "raw", tmp_path) == wanted


def test_the_journal(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a folder can be made."""
    path = make(small / "disk", "raw", 2 * MIB, pattern=0x11)
    before = digest(path)
    source, layer = changed(path, tmp_path, MIB)
    leave(small, 0)
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    unlimited(monkeypatch)
    with pytest.raises(ImgconvError):
        commit([(source, layer)], [fingerprint(source)])
    assert digest(path) == before
    assert no_state(small)


def test_the_workspace(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImgconvError, match="4 MiB free, but 256 MiB are needed") as caught, \
            workspace(small):
        pass
    assert "TMPDIR" in caught.value.hint
    monkeypatch.setattr(overlay, "_WORK_BYTES", 0)
    leave(small, 0)
    path = make(small.parent / "disk", "raw", 2 * MIB)
    with pytest.raises(ImgconvError), workspace(small) as directory:
        create(open_image(path, writable=True), directory)
    assert [entry.name for entry in small.iterdir()] == ["filler"]


def test_a_source_that_vanishes(tmp_path: Path) -> None:
    path = make(tmp_path / "disk", "raw", 2 * MIB)
    source, layer = changed(path, tmp_path, MIB)
    before = fingerprint(source)
    path.rename(tmp_path / "elsewhere")
    with pytest.raises(ImgconvError, match="disk has vanished"):
        commit([(source, layer)], [before])
