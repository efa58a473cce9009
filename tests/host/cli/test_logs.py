"""What the log holds, where it is kept, and what it never holds."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from imgconv import __version__, redact
from imgconv.cli import Group
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption
from imgconv.cli.text import one_line
from imgconv.errors import CannotConvert, ImgconvError
from imgconv.run import run

KEY = "pass phrase's \"key\""
APP = typer.Typer(cls=Group, pretty_exceptions_enable=False)


@APP.command()
def work(end: str, as_json: JsonOption = False, verbose: VerboseOption = False,
         log_file: LogFileOption = None) -> None:
    run(["printf", f"key={KEY}"])
    logging.getLogger("imgconv.guest").debug("luks_open %r \x1b[31m", KEY)
    match end:
        case "wrong":
            raise ImgconvError(f"it does not work with {KEY}", hint=f"try {KEY}")
        case "impossible":
            raise CannotConvert("no kernel")
        case "bug":
            raise KeyError(KEY)
        case "interrupted":
            raise KeyboardInterrupt


@APP.command()
def other() -> None:
    pass


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    redact.register(KEY)
    yield tmp_path
    redact.forget()


@pytest.mark.parametrize("end", ["wrong", "bug"])
def test_kept_on_failure(end: str, place: Path) -> None:
    result = CliRunner().invoke(APP, ["work", end])
    [log] = place.iterdir()
    assert f"log: {log}\n" in result.stderr
    assert log.stat().st_mode & 0o777 == 0o600
    head, command, *rest = log.read_text().splitlines()
    assert f"imgconv {__version__}, Python 3." in head
    assert all(f", {name} " in head for name in ("libguestfs", "qemu-img", "kernel"))
    assert "command: " in command
    assert any("run: printf" in line for line in rest)
    assert any("Traceback" in line for line in rest)
    assert "\x1b" not in log.read_text()


@pytest.mark.parametrize("end", ["well", "impossible", "interrupted"])
def test_removed_otherwise(end: str, place: Path) -> None:
    result = CliRunner().invoke(APP, ["work", end])
    assert "log:" not in result.stderr
    assert list(place.iterdir()) == []


def test_a_named_log_is_the_only_one(place: Path) -> None:
    named = place / "mine"
    result = CliRunner().invoke(APP, ["work", "wrong", "--log-file", str(named)])
    assert f"log: {named}\n" in result.stderr
    assert list(place.iterdir()) == [named]
    assert "libguestfs" in named.read_text().splitlines()[0]
    CliRunner().invoke(APP, ["work", "well"])
    assert list(place.iterdir()) == [named]


def test_json_tells_where(place: Path) -> None:
    result = CliRunner().invoke(APP, ["work", "wrong", "--json"])
    [log] = place.iterdir()
    assert json.loads(result.stdout)["error"]["log"] == str(log)


@pytest.mark.parametrize("arguments", [["wrong", "-v"], ["bug", "-v"], ["wrong", "--json"]])
def test_secrets_are_nowhere(arguments: list[str], place: Path) -> None:
    result = CliRunner().invoke(APP, ["work", *arguments])
    [log] = place.iterdir()
    for text in (result.stderr, result.stdout, log.read_text()):
        assert "phrase" not in text
    assert redact.SHOWN in log.read_text()


def test_a_log_that_cannot_be_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nonexistent")
    assert CliRunner().invoke(APP, ["work", "well"]).exit_code == 0
    assert CliRunner().invoke(APP, ["work", "wrong"]).exit_code == 1


def test_names_stay_on_one_line() -> None:
    assert one_line("a\n# nothing to do\x1b[2J\u202e\t") == "a\\n# nothing to do\\x1b[2J\\u202e\\t"
