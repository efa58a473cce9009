"""What other programs may import."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import imgconv
from imgconv import errors, model, pipeline


def test_names_are_the_real_ones() -> None:
    assert imgconv.convert is pipeline.virtio_ize
    assert imgconv.Job is pipeline.Job
    assert imgconv.Report is model.Report
    assert imgconv.CannotConvert is errors.CannotConvert
    for name in imgconv.__all__:
        assert getattr(imgconv, name) is not None
    assert not hasattr(imgconv, "no_such_name")


def test_importing_it_costs_nothing() -> None:
    seen = "import sys, imgconv; sys.exit('imgconv.model' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", seen], check=False).returncode == 0


def test_the_documented_example_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a disk that is broken it ends where it says: in an ImgconvError."""
    text = (Path(imgconv.__file__).parent.parent / "docs/batch.md").read_text()
    lines = text[text.index("    from pathlib"):].partition("\n\n`convert(")[0]
    (tmp_path / "disk.qcow2").write_bytes(b"QFI\xfb\0\0\0\x03")
    monkeypatch.chdir(tmp_path)
    code = compile(textwrap.dedent(lines), "docs/batch.md", "exec")
    with pytest.raises(errors.ImgconvError, match="truncated"):
        exec(code, {})
