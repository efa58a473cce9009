"""Host programs fail: status 1, a clear message, the log's path, the source as it was."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imgconv.cli import app


@pytest.mark.parametrize(("fails", "how", "said"), [
    ("create", "echo 'Could not write: No space left on device' >&2; exit 1", "No space left"),
    ("create", "kill -KILL $$", "qemu-img failed (status -9)"),
    ("info", "echo '{'; exit 1", "QEMU cannot open it as raw"),
])
def test_qemu_img_fails(fails: str, how: str, said: str, tmp_path: Path,
                        monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("qemu-img")
    assert real
    programs, scratch, disk = tmp_path / "bin", tmp_path / "scratch", tmp_path / "disk.img"
    programs.mkdir()
    scratch.mkdir()
    fake = programs / "qemu-img"
    fake.write_text(f'#!/bin/sh\nif [ "$1" = {fails} ]; then {how}; fi\nexec {real} "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    with disk.open("wb") as file:
        file.truncate(1 << 20)
    before = disk.stat()

    result = CliRunner().invoke(app, ["virtio-ize", str(disk), "--input-format", "raw"])
    assert result.exit_code == 1
    assert said in result.stderr
    [log] = scratch.iterdir()  # and nothing else is left
    assert f"log: {log}\n" in result.stderr
    assert f"qemu-img {fails}" in log.read_text()
    after = disk.stat()
    assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
