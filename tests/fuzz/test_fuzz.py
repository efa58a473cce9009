"""Every input that is kept is replayed; and new ones are looked for, for some seconds."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import targets

ROOT = Path(__file__).parents[2]
SEEDS = Path(__file__).parent / "seeds"
FILES = sorted(path for path in SEEDS.rglob("*") if path.is_file())

#: In all; each target has its share, and takes a second more to start.
SECONDS = 13


@pytest.fixture
def limit() -> Iterator[None]:
    """No input may take longer than this."""
    signal.alarm(10)
    yield
    signal.alarm(0)


@pytest.mark.usefixtures("limit")
@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_replay(path: Path) -> None:
    targets.run(path.parent.name, path.read_bytes())


@given(data=st.data())
@settings(max_examples=60, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
@pytest.mark.parametrize("name", targets.TARGETS)
def test_mutations_of_seeds(name: str, data: st.DataObject) -> None:
    """What atheris does at length, on every Python, and where it is not installed."""
    seeds = [path for path in FILES if path.parent.name == name]
    content = bytearray(data.draw(st.sampled_from(seeds)).read_bytes())
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(content)))
        end = data.draw(st.integers(at, min(at + 8, len(content))))
        content[at:end] = data.draw(st.binary(max_size=8) | st.sampled_from([
            b"\0", b"\n", b"\xff" * 8, b"\r", b"'", b'"', b"\\", b"=", b"/dev/sda1", b" " * 99]))
    targets.run(name, bytes(content))


def test_every_target_has_small_seeds() -> None:
    assert {path.parent.name for path in FILES} == set(targets.TARGETS)
    assert sum(path.stat().st_size for path in FILES) < 1 << 20


@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris is not installed")
def test_fuzz() -> None:
    done = subprocess.run([ROOT / "scripts/fuzz", str(SECONDS)], capture_output=True, text=True,
                          check=False, timeout=300)
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
