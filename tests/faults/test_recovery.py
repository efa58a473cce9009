"""Completing what was interrupted: by any command, in the right order, never over newer data."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imgconv import pipeline
from imgconv.disk import journal
from imgconv.disk.commit import commit, fingerprint
from imgconv.disk.formats import open_image
from imgconv.disk.lock import locked
from imgconv.disk.overlay import create
from imgconv.disk.recovery import recover
from imgconv.disk.steps import watched
from imgconv.disk.undo import undo
from imgconv.errors import ImgconvError
from tests.host.disk.images import MIB, content, make, write


class Stopped(BaseException):
    """Ends the commit where nothing can tidy up."""


def stop_at(step: str) -> None:
    if step == "range written":
        raise Stopped


def interrupted(path: Path, fmt: str = "raw", *, keep: bool = True) -> tuple[str, str]:
    """A disk with one of three ranges written; returns the old and the new view's hash."""
    source = open_image(make(path, fmt, 4 * MIB, pattern=0x11), writable=True)
    layer = create(source, path.parent)
    write(layer.path, "qcow2", (0x22, MIB, 65536), (0x33, 2 * MIB, 65536), (0x44, 3 * MIB, 65536))
    views = content(path, fmt, path.parent), content(layer.path, "qcow2", path.parent)
    with pytest.raises(Stopped), watched(stop_at):
        commit([(source, layer)], [fingerprint(source)], undo=keep)
    assert content(path, fmt, path.parent) not in views
    return views


def test_any_command_completes_it_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    interrupted(path)
    done = subprocess.run([sys.executable, "-m", "imgconv", "undo", path, "--json"], check=True,
                          capture_output=True, text=True)
    assert "an interrupted conversion was completed" in done.stderr
    assert json.loads(done.stdout)["undone"]["ranges"] == 3
    again = subprocess.run([sys.executable, "-m", "imgconv", "undo", path], check=True,
                           capture_output=True, text=True)
    assert "nothing to undo" in again.stderr


def test_it_is_completed_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "disk"
    _, new = interrupted(path, "qcow2")
    # With this every command begins, those that only look as well
    pipeline.open_images(pipeline.Job((path,)), writable=False)
    assert content(path, "qcow2", tmp_path) == new
    assert "interrupted conversion was completed" in caplog.text
    caplog.clear()
    recover([path, tmp_path / "missing"])
    assert caplog.text == ""


def test_a_disk_that_was_renamed_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    _, new = interrupted(path)
    path.rename(tmp_path / "other")
    recover([tmp_path / "other"])
    assert content(tmp_path / "other", "raw", tmp_path) == new


def test_a_torn_write_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    _, new = interrupted(path)
    write(path, "raw", (0x33, 2 * MIB, 1536))
    recover([path])
    assert content(path, "raw", tmp_path) == new


def test_what_someone_else_wrote_since_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    old, _ = interrupted(path)
    write(path, "raw", (0x77, 2 * MIB, 512))
    now = content(path, "raw", tmp_path)
    with pytest.raises(ImgconvError, match="someone else has written to it since") as caught:
        recover([path])
    assert "undo --force" in caught.value.hint
    assert content(path, "raw", tmp_path) == now
    assert undo([path], force=True)
    assert content(path, "raw", tmp_path) == old


def test_a_damaged_pack_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    interrupted(path)
    before = content(path, "raw", tmp_path)
    [redo] = tmp_path.glob(".disk.imgconv/*/0.redo.qcow2")
    write(redo, "qcow2", (1, 3 * MIB, 512))
    with pytest.raises(ImgconvError, match="another checksum"):
        recover([path])
    assert content(path, "raw", tmp_path) == before


def test_without_undo_packs(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    _, new = interrupted(path, keep=False)
    with pytest.raises(ImgconvError, match="--no-undo"):
        undo([path], force=True)
    assert undo([path]) is None
    assert content(path, "raw", tmp_path) == new


def test_a_disk_in_use_or_read_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgconv.disk.lock._PATIENCE", 0.0)
    path = tmp_path / "disk"
    interrupted(path)
    image = open_image(path, writable=True)
    with (locked([image]), pytest.raises(ImgconvError, match="must be completed first: another")):
        recover([path])
    monkeypatch.setattr("imgconv.disk.formats._check_writable", _refuse)
    with pytest.raises(ImgconvError, match="must be completed first: read-only"):
        recover([path])


def _refuse(path: Path) -> None:
    raise ImgconvError("read-only")


@pytest.mark.parametrize("direction", ["commit", "undo"])
def test_all_is_on_the_disk_before_the_first_byte(direction: str, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut loses what was not synced: the order of syncs, renames and writes decides."""
    events: list[str] = []
    sync, rename = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        events.append(f"rename {target.name}")
        return rename(path, target)

    path = make(tmp_path / "disk", "raw", 4 * MIB, pattern=0x11)
    source = open_image(path, writable=True)
    layer = create(source, tmp_path)
    write(layer.path, "qcow2", (0x22, MIB, 65536))
    if direction == "undo":
        commit([(source, layer)], [fingerprint(source)])
    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    with watched(events.append):
        if direction == "commit":
            commit([(source, layer)], [fingerprint(source)])
        else:
            undo([path])
    first_write = events.index("range written")
    assert events.index(f"sync {journal.PENDING}.new") < events.index(f"rename {journal.PENDING}")
    named = events.index(f"rename {journal.PENDING}")
    assert "sync 0001" in events[named:first_write]
    if direction == "commit":
        for pack in ("0.redo.qcow2", "0.undo.qcow2"):
            assert events.index(f"sync {pack}") < events.index(f"rename {journal.PENDING}")
        assert first_write < events.index("sync disk") < events.index(f"rename {journal.DONE}")
    else:
        assert first_write < events.index("sync disk") < events.index(f"{journal.DONE} removed")
