"""Real hives and drivers, where `../shared/data` is beside the checkout."""

from __future__ import annotations

import lzma
from functools import cache
from pathlib import Path

import pytest

DATA = Path(__file__).resolve().parents[2] / "shared/data/windows"
SAMPLE_ISO = DATA / "virtio-win-sample.iso"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is absent")


@cache
def hive(name: str) -> bytes:
    """The content of a real hive or log: "SYSTEM-win8.1-x64", "BCD"..."""
    return lzma.decompress((DATA / f"{name}.xz").read_bytes())
