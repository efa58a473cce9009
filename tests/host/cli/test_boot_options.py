from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(("words", "message"), [
    (["virtio-ize", "--prepare", "--names", "device"], "does not boot from the old one"),
    (["virtio-ize", "--boot-test", "--dry-run"], "a dry run makes nothing"),
    (["boot-test", "--bus", "floppy"], "floppy"),
    (["boot-test", "--timeout", "0"], "--timeout"),
])
def test_contradictions(tmp_path: Path, words: list[str], message: str) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    done = subprocess.run([sys.executable, "-m", "imgconv", *words, disk], check=False,
                          capture_output=True, text=True)
    assert done.returncode == 2
    assert message in done.stderr
