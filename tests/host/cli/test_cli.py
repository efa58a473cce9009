from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from imgconv import __version__
from imgconv.cli import Group, app
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption, print_json
from imgconv.cli.text import sanitize
from imgconv.errors import CannotConvert, ImgconvError, NotProven
from imgconv.host import Check, Level

# A command line with commands that go wrong, ended by the code that ends all of them.
FAULTY = typer.Typer(cls=Group, pretty_exceptions_enable=False)
ERRORS = {
    "plain": ImgconvError("it is [bold]broken\x1b[31m", hint="mend it"),
    "convert": CannotConvert("no kernel"),
    "proven": NotProven("no proof"),
    "bug": KeyError("left\x1bright"),
    "full": OSError(28, "No space left on device"),
    "interrupt": KeyboardInterrupt(),
}


@FAULTY.command()
def go(kind: str, as_json: JsonOption = False, verbose: VerboseOption = False,
       log_file: LogFileOption = None) -> None:
    raise ERRORS[kind]


@FAULTY.command()
def other() -> None:
    pass


def imgconv(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "imgconv", *arguments], check=False,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize(("arguments", "status"), [
    (["--version"], 0), (["--help"], 0), (["-h"], 0), ([], 2), (["doctor", "--help"], 0),
    (["no-such-command"], 2), (["--no-such-option"], 2), (["doctor", "surplus"], 2),
    (["doctor", "--log-file", "/nonexistent/log"], 1)])
def test_status(arguments: Sequence[str], status: int) -> None:
    assert imgconv(*arguments).returncode == status


def test_version() -> None:
    assert imgconv("--version").stdout == f"imgconv {__version__}\n"


def test_every_command_has_examples() -> None:
    for command in app.registered_commands:
        assert command.callback
        name = command.name or command.callback.__name__.replace("_", "-")
        result = CliRunner().invoke(app, [name, "--help"])
        assert "Examples:" in result.output


def test_doctor_speaks_json_on_stdout_only() -> None:
    result = imgconv("doctor", "--json")
    document = json.loads(result.stdout)
    assert document["works"] == (result.returncode == 0)
    assert {"name", "level", "detail", "remedy"} == set(document["checks"][0])
    assert result.stderr == ""


def test_doctor_speaks_to_people_on_stderr() -> None:
    result = imgconv("doctor")
    assert result.stdout == ""
    assert "KVM" in result.stderr


INTERRUPTED = ("error: interrupted\nhint: a disk is as it was or, in the last second, completely "
               "converted: imgconv verify DISK tells which\n")


@pytest.mark.parametrize(("kind", "status", "said"), [
    ("plain", 1, "error: it is [bold]broken\\x1b[31m\nhint: mend it\n"),
    ("convert", 3, "error: no kernel\n"),
    ("proven", 4, "error: no proof\n"),
    ("interrupt", 130, INTERRUPTED)])
def test_errors_for_people(kind: str, status: int, said: str) -> None:
    result = CliRunner().invoke(FAULTY, ["go", kind])
    assert (result.exit_code, result.stdout, result.stderr) == (status, "", said)


@pytest.mark.parametrize(("arguments", "status", "message"), [
    (["go", "plain", "--json"], 1, "it is [bold]broken\x1b[31m"),
    (["go", "--json"], 2, "Missing argument 'kind'."),
    (["go", "interrupt", "--json"], 130, "interrupted")])
def test_errors_in_json(arguments: Sequence[str], status: int, message: str) -> None:
    result = CliRunner().invoke(FAULTY, arguments)
    assert (result.exit_code, result.stderr) == (status, "")
    assert json.loads(result.stdout)["error"]["message"] == message


@pytest.mark.parametrize(("kind", "said"), [
    ("bug", "error: internal error: KeyError: 'left\\x1bright'\nhint: this is a bug: report it, "
            "with the log (run with IMGCONV_DEBUG=1, it is on the screen)\n"),
    ("full", "error: [Errno 28] No space left on device\n")])
def test_a_traceback_goes_to_a_file(kind: str, said: str, tmp_path: Path,
                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    result = CliRunner().invoke(FAULTY, ["go", kind])
    [log] = tmp_path.iterdir()
    assert result.exit_code == 1
    assert result.stderr == f"{said}log: {log}\n"
    assert log.stat().st_mode & 0o777 == 0o600
    assert "Traceback (most recent call last)" in log.read_text()


def test_verbose_shows_the_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    log = tmp_path / "log"
    result = CliRunner().invoke(FAULTY, ["go", "bug", "-v", "--log-file", str(log)])
    for text in (result.stderr, log.read_text()):
        assert "Traceback (most recent call last)" in text
        assert "\x1b" not in text


@pytest.mark.parametrize(("number", "status", "said"), [
    (signal.SIGINT, 130, INTERRUPTED), (signal.SIGTERM, 143, ""), (signal.SIGHUP, 129, "")])
def test_signals_clean_up_and_end(number: signal.Signals, status: int, said: str) -> None:
    program = """
import sys, time
import imgconv.cli as cli
@cli.app.command()
def wait() -> None:
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)
sys.argv = ["imgconv", "wait"]
cli.main()
"""
    with subprocess.Popen([sys.executable, "-c", program], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
    assert (process.returncode, output, errors) == (status, "cleaned up\n", said)


def test_a_full_stdout_is_no_traceback(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run([sys.executable, "-m", "imgconv", "doctor", "--json"], check=False,
                                stdout=full, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, "TMPDIR": str(tmp_path)})
    assert result.returncode == 1
    assert result.stderr.startswith("error: [Errno 28] No space left on device\nlog: ")


def test_undo_speaks_of_what_there_is_not(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x" * 512)
    done = CliRunner().invoke(app, ["undo", str(tmp_path / "disk")])
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "✔ nothing to undo\n")
    done = CliRunner().invoke(app, ["undo", str(tmp_path / "disk"), "--json"])
    assert json.loads(done.stdout) == {"undone": None}
    done = CliRunner().invoke(app, ["undo", str(tmp_path / "missing")])
    assert done.exit_code == 1
    assert done.stderr == f"error: {tmp_path / 'missing'} does not exist\n"


def test_starting_imports_nothing_slow() -> None:
    program = ("import sys, imgconv.cli; "
               "print({'guestfs', 'nbd', 'rich', 'dask'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True,
                          text=True)
    assert done.stdout == "set()\n"


@pytest.mark.parametrize(("text", "shown"), [
    ("plain [bold]text[/bold]\n\tmore", "plain [bold]text[/bold]\n\tmore"),
    ("Grüße, 日本", "Grüße, 日本"),
    ("\x1b]0;title\x07\r\x7f\x9b", "\\x1b]0;title\\x07\\r\\x7f\\x9b"),
    ("a\u202eb\u2066", "a\\u202eb\\u2066"),
    (os.fsdecode(b"caf\xe9"), "caf\\udce9")])
def test_sanitize(text: str, shown: str) -> None:
    assert sanitize(text) == shown


def test_json_of_our_types(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"path": Path("/a"), "bytes": b"a\xff", "checks": (Check("n", Level.OK, "d\x1b"),)})
    output = capsys.readouterr().out
    assert output.isascii()
    assert json.loads(output) == {
        "path": "/a", "bytes": "a\\xff",
        "checks": [{"name": "n", "level": "ok", "detail": "d\x1b", "remedy": ""}]}
