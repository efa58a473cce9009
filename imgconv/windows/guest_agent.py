"""QEMU's guest agent, installed when Windows first starts: its installer cannot run before."""

from __future__ import annotations

import re

from imgconv.errors import ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.model import WriteFile
from imgconv.windows import control_sets, guest_files
from imgconv.windows.first_boot import FOLDER, Step
from imgconv.windows.registry import Hive

#: The agent's service, as its installer calls it.
_SERVICE = "QEMU-GA"
_INSTALLER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,60}\.msi", re.IGNORECASE)

#: Windows Installer's exit codes: a restart would be needed; another version is installed.
_RESTART, _OTHER_VERSION = 3010, 1638
#: Another installation may be running (1618) when Windows has just started.
_ATTEMPTS = 6


class BadInstaller(ImgconvError):
    """A guest agent that is no Windows Installer package."""


def installed(system: Hive) -> bool:
    """Whether the guest has the agent. Raises CannotConvert as `control_sets.current`."""
    return system.key(rf"{control_sets.current(system)}\Services\{_SERVICE}") is not None


def plan(reader: Reader, system: Hive, systemroot: str,
         agent: tuple[str, bytes] | None) -> tuple[tuple[WriteFile, ...], tuple[Step, ...]]:
    """The installer as a file of the guest, and the step for `first_boot` that runs it.

    `agent` is `Selection.agent`. Both are () without one, and where the guest has the agent.
    Raises BadInstaller.
    """
    if agent is None or installed(system):
        return (), ()
    name, content = agent
    if not _INSTALLER.fullmatch(name):
        raise BadInstaller(f"{name!r} is no installer of QEMU's guest agent",
                           hint="its name ends in .msi in virtio-win")
    place = rf"%SystemRoot%\{FOLDER}"
    step = Step("install QEMU's guest agent",
                rf'start "" /wait msiexec.exe /i "{place}\{name}" /qn /norestart '
                rf'/l* "{place}\{name}.log"',
                success=(0, _RESTART, _OTHER_VERSION), attempts=_ATTEMPTS)
    return guest_files.write(reader, f"{systemroot}/{FOLDER}/{name}", content,
                             "QEMU's guest agent: the host can ask for clean shutdowns"), (step,)
