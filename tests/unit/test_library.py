"""What other programs may import."""

from __future__ import annotations

import subprocess
import sys

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
