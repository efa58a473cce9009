r"""What can only be done by the guest's own Windows, done when it first starts.

Everything that can be staged is: a guest must never depend on this. What is left are installers and
addresses of network cards that Windows has not met yet.

The steps are a batch file, and a service starts it. cmd.exe is no service, so the one that Windows
starts only starts another in the background and ends: Windows notes an error (1053) and goes on at
once. It would end the process that it started itself after 30 seconds; it does not know the other.
This works from XP to 11, as SYSTEM, before anybody logs on. What else there is:

- RunOnce waits until an administrator logs on.
- The command line in SYSTEM\Setup runs before Windows does; when it hangs, nothing starts.
- Group Policy's scripts need files and registry values that are undone by the policy of a domain.
- A scheduled task needs hashes in the registry that differ between versions.
- A proper service needs a program of ours, signed.

Its one drawback: programs that look for intruders know such services too, and may report it.

A batch file that cannot loop: it counts its starts before anything else, and three are all it gets;
it never restarts Windows; steps that are done are not done again; and when all are, or the starts
used up, it leaves FILE.done beside it, forever, and deletes its service. A start that finds
FILE.done does nothing else. FILE.log says what happened. The file's name has a hash of the
steps, so other steps of a later conversion run again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from imgconv.errors import ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.model import RegistryValue, WriteFile
from imgconv.windows import control_sets, guest_files, registry
from imgconv.windows.edits import Edits

#: The folder of the batch file and what belongs to it, below the system root.
FOLDER: Final = "imgconv"
SERVICE: Final = "imgconv-first-boot"

#: How many starts of Windows the steps get.
STARTS: Final = 3
#: Seconds between two attempts of a step.
PAUSE: Final = 10

#: XP's cmd.exe takes lines of 8191 characters.
_LONGEST_LINE = 8000
_MANY_STEPS = 200
_MANY_LINES = 10_000
_MANY_ATTEMPTS = 60
_TITLE = re.compile(r"[A-Za-z0-9 .,:'/_-]{1,100}")
#: What cmd.exe and the C runtime leave alone without quotes.
_PLAIN = re.compile(r"[A-Za-z0-9_.:/\\+@=-]+")

_OWN_PROCESS, _AUTOMATIC, _NO_ERROR = 0x10, 2, 0


class BadStep(ImgconvError):
    """A step that a batch file cannot hold."""


@dataclass(frozen=True, slots=True)
class Step:
    """A line for cmd.exe, such as `quote` makes, or the lines of a PowerShell script; in ASCII.

    A line that is a batch file begins with `call`. PowerShell is there from Windows 7 on. The step
    is done when its exit code is one of `success`. Each start of Windows attempts it `attempts`
    times, `PAUSE` seconds apart: enough to wait for what Windows is still busy with.
    """

    title: str
    line: str = ""
    success: tuple[int, ...] = (0,)
    attempts: int = 3
    powershell: tuple[str, ...] = ()


def plan(reader: Reader, system: Edits, systemroot: str,
         steps: Sequence[Step]) -> tuple[WriteFile, ...]:
    """Have `steps` carried out in this order when Windows next starts.

    `systemroot` is the guest's path. Nothing is planned without steps, nor when these very steps
    have been carried out already. Raises BadStep.
    """
    if not steps:
        return ()
    files = {".cmd": script(steps).encode("ascii")} | {
        f"-{number}.ps1": _lines(step.powershell).encode("ascii")
        for number, step in enumerate(steps, 1) if step.powershell}
    name = f"first-boot-{hashlib.sha256(repr(files).encode()).hexdigest()[:8]}"
    if reader.find(f"{systemroot}/{FOLDER}/{name}.done") is not None:
        return ()
    why = "when Windows first starts: " + "; ".join(step.title for step in steps)
    for control_set in control_sets.names(system.hive):
        system.set(rf"{control_set}\Services\{SERVICE}", _service(name), why)
    return tuple(change for ending, content in files.items() for change in guest_files.write(
        reader, f"{systemroot}/{FOLDER}/{name}{ending}", content, why))


def _service(name: str) -> tuple[RegistryValue, ...]:
    shell = r"%SystemRoot%\System32\cmd.exe /d /c"
    return (
        registry.dword("Type", _OWN_PROCESS),
        registry.dword("Start", _AUTOMATIC),
        # Nobody is told that the service did not answer.
        registry.dword("ErrorControl", _NO_ERROR),
        registry.expand_sz("ImagePath", rf'{shell} start "{SERVICE}" /b '
                                        rf"{shell} %SystemRoot%\{FOLDER}\{name}.cmd"),
        registry.sz("DisplayName", "imgconv: first start on new hardware"),
        registry.sz("ObjectName", "LocalSystem"),
        registry.multi_sz("DependOnService", ("PlugPlay", "RpcSs")),
    )


def quote(words: Iterable[str]) -> str:
    """A command as a line for a batch file. Raises BadStep for a word that no quotes can hold."""
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    # cmd.exe and programs disagree about a quote inside of quotes, and a backslash before one.
    if '"' in word or word.endswith("\\"):
        raise BadStep(f"{word!r} cannot be quoted for Windows' command line")
    return word if _PLAIN.fullmatch(word) else '"' + word.replace("%", "%%") + '"'


# --- the batch file -----------------------------------------------------------------------------


def script(steps: Sequence[Step]) -> str:
    """The batch file: ASCII, because cmd.exe reads whatever code page the guest has."""
    if len(steps) > _MANY_STEPS:
        raise BadStep(f"{len(steps)} steps are too many for the first start")
    for step in steps:
        _check(step)
    lines = [*_HEAD, *(f"call :step_{number}" for number in range(1, len(steps) + 1)), *_TAIL]
    for number, step in enumerate(steps, 1):
        lines += _step(number, step)
    return _lines(lines)


def _lines(lines: Iterable[str]) -> str:
    return "".join(line + "\r\n" for line in lines)


def _check(step: Step) -> None:
    if not _TITLE.fullmatch(step.title):
        raise BadStep(f"{step.title!r} is no title of a step")
    if bool(step.line.strip()) == bool(step.powershell):
        raise BadStep(f"the step {step.title!r} is neither a line nor a PowerShell script")
    lines = step.powershell or (step.line,)
    if not all(line.isascii() and line.isprintable() for line in lines):
        raise BadStep(f"the step {step.title!r} has other characters than ASCII's")
    if len(lines) > _MANY_LINES or any(len(line) > _LONGEST_LINE for line in lines):
        raise BadStep(f"the step {step.title!r} is too long")
    if not 1 <= step.attempts <= _MANY_ATTEMPTS or not step.success:
        raise BadStep(f"the step {step.title!r} can never be done")


# `set /p` reads the count back: where it cannot be kept, nothing is run. A damaged count is not
# believed. Redirections stand before `echo`, which would take a digit before one as its own.
_HEAD = rf"""@echo off
rem Written by imgconv: what is left to do when this Windows first starts on its new hardware.
rem The service {SERVICE} runs it, at most {STARTS} times. The log is beside this file.
setlocal enableextensions disabledelayedexpansion
set "PATH=%SystemRoot%\System32;%SystemRoot%;%SystemRoot%\System32\Wbem;%PATH%"
cd /d "%~dp0"
if errorlevel 1 goto remove
set "name=%~n0"
if exist "%name%.done" goto remove
set "before=0"
if exist "%name%.tries" set /p "before=" <"%name%.tries"
set "starts=99"
set /a "starts=before+1" >nul 2>nul
if %starts% GTR {STARTS} goto used_up
>"%name%.tries" echo %starts%
set "kept="
set /p "kept=" <"%name%.tries"
if not "%kept%"=="%starts%" goto remove
call :steps <nul >>"%name%.log" 2>&1
if not exist "%name%.done" exit /b 0
:remove
sc.exe delete {SERVICE} >nul 2>nul
exit /b 0
:used_up
>"%name%.done" echo given up
goto remove
:steps
echo == %DATE% %TIME% start %starts% of {STARTS}
set "failed="
""".splitlines()

_TAIL = rf"""if not defined failed goto all_done
if %starts% LSS {STARTS} exit /b 0
echo == %DATE% %TIME% given up
>"%name%.done" echo given up
exit /b 0
:all_done
echo == %DATE% %TIME% done
>"%name%.done" echo done
exit /b 0
""".splitlines()


def _step(number: int, step: Step) -> list[str]:
    codes = " ".join(str(code) for code in step.success)
    line = step.line or ("powershell.exe -NoProfile -NonInteractive -ExecutionPolicy Bypass "
                         rf'-File "%CD%\%name%-{number}.ps1"')
    # `ver` makes the exit code 0; `ping` waits, as `timeout` does not without a keyboard.
    return rf""":step_{number}
if exist "%name%.step{number}" exit /b 0
set "left={step.attempts}"
:again_{number}
echo -- %DATE% %TIME% {step.title}
ver >nul
{line}
set "code=%ERRORLEVEL%"
echo -- exit code %code%
for %%c in ({codes}) do if "%code%"=="%%c" goto done_{number}
set /a "left-=1" >nul
if %left% GTR 0 goto wait_{number}
set "failed=1"
exit /b 0
:wait_{number}
ping.exe -n {PAUSE + 1} 127.0.0.1 >nul
goto again_{number}
:done_{number}
>"%name%.step{number}" echo %code%
exit /b 0
""".splitlines()
