"""The batch file as a cmd.exe understands it: Wine's."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from imgconv.windows import first_boot
from imgconv.windows.first_boot import Step, quote, script

pytestmark = pytest.mark.skipif(shutil.which("wine") is None, reason="wine is not installed")

STEPS = (
    Step("one", "echo one>>ran.txt"),
    Step("fails", "cmd.exe /d /c exit 7", attempts=2),
    Step("wants a restart", "cmd.exe /d /c exit 3010", success=(0, 3010)),
    Step("is not there", "no-such-program.exe", attempts=1),
    Step("quoted", quote(["cmd.exe", "/d", "/c", "echo", "a & b", "100%", "x^y"]) + ">quoted.txt"),
)


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("wine")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(first_boot, "PAUSE", 0)
    return tmp_path


def start(folder: Path, prefix: Path) -> set[str]:
    """One start of Windows; the endings of what lies beside the batch file then."""
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    environment |= {"WINEPREFIX": str(prefix), "WINEDEBUG": "-all",
                    "WINEDLLOVERRIDES": "mscoree=;mshtml="}
    batch = "Z:" + str(folder / "first.cmd").replace("/", "\\")
    subprocess.run(["wine", "cmd", "/d", "/c", batch], env=environment, check=True, timeout=300,
                   stdin=subprocess.DEVNULL, capture_output=True)
    return {path.suffix for path in folder.iterdir()}


def test_three_starts_and_never_again(folder: Path, prefix: Path) -> None:
    (folder / "first.cmd").write_bytes(script(STEPS).encode())
    for number in range(1, first_boot.STARTS + 1):
        endings = start(folder, prefix)
        assert (".done" in endings) is (number == first_boot.STARTS)
        assert {".step1", ".step3", ".step5"} <= endings
        assert not {".step2", ".step4"} & endings
    assert (folder / "first.done").read_text().strip() == "given up"
    assert (folder / "ran.txt").read_text().split() == ["one"]
    assert (folder / "quoted.txt").read_text().strip() == '"a & b" "100%" "x^y"'
    log = (folder / "first.log").read_text()
    assert log.count("exit code 7") == 2 * first_boot.STARTS
    start(folder, prefix)
    assert (folder / "first.log").read_text() == log


@pytest.mark.parametrize(("count", "runs"), [
    ("3", False), ("many", True), ("1 & echo x>x.txt", True),
])
def test_the_count(folder: Path, prefix: Path, count: str, runs: bool) -> None:
    """What is damaged starts anew, and is not run as a command."""
    (folder / "first.cmd").write_bytes(script(STEPS[:1]).encode())
    (folder / "first.tries").write_text(count + "\r\n", newline="")
    assert ".done" in start(folder, prefix)
    assert (folder / "ran.txt").exists() is runs
    assert not (folder / "x.txt").exists()


def test_nothing_runs_when_the_count_cannot_be_kept(folder: Path, prefix: Path) -> None:
    (folder / "first.cmd").write_bytes(script(STEPS[:1]).encode())
    (folder / "first.tries").mkdir()
    start(folder, prefix)
    assert not (folder / "ran.txt").exists()
