"""The scripts as a user runs them; pytest itself runs from what scripts/install made."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from imgconv import __version__

ROOT = Path(__file__).parents[2]
SCRIPTS = [path for path in (*(ROOT / "scripts").iterdir(), ROOT / ".ci/run")
           if path.is_file() and path.read_text().startswith("#!/usr/bin/env bash")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_syntax_and_mode(script: Path) -> None:
    subprocess.run(["bash", "-n", script], check=True)
    assert script.stat().st_mode & 0o111 == 0o111


def test_imgconv_runs_from_anywhere_through_a_link(tmp_path: Path) -> None:
    link = tmp_path / "imgconv"
    link.symlink_to(ROOT / "scripts/imgconv")
    done = subprocess.run([link, "--version"], check=True, cwd=tmp_path, capture_output=True,
                          text=True)
    assert (done.stdout, done.stderr) == (f"imgconv {__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["--dev"], ["--if-stale"]])
def test_a_second_installation_is_quick_and_silent(arguments: list[str]) -> None:
    started = time.monotonic()
    done = subprocess.run([ROOT / "scripts/install", *arguments], check=True, text=True,
                          capture_output=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert time.monotonic() - started < 1


def test_install_knows_its_arguments() -> None:
    usage = subprocess.run([ROOT / "scripts/install", "--help"], check=True, text=True,
                           capture_output=True)
    assert "--if-stale" in usage.stdout
    wrong = subprocess.run([ROOT / "scripts/install", "--now"], check=False, text=True,
                           capture_output=True)
    assert wrong.returncode == 1
    assert "error: unknown argument: --now" in wrong.stderr
