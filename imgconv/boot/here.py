"""Booting with what this host has: KVM, firmware, a place for pictures of the screen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from imgconv import emit, host
from imgconv.boot import runner
from imgconv.model import BootEvidence, Disk, Firmware, Image, Machine, Verdict


def boot(
    machine: Machine,
    *,
    workspace: Path,
    timeout: float | None = None,
    on_line: Callable[[str], None] | None = None,
    on_look: Callable[[float], None] | None = None,
    screenshot: Path | None = None,
) -> BootEvidence:
    """As `runner.boot`. Raises ImgconvError, too, where there is no firmware for the machine."""
    machine = emit.as_here(machine)
    firmware = (host.ovmf(machine.arch, secure_boot=machine.secure_boot)
                if machine.firmware is Firmware.UEFI else None)
    return runner.boot(machine, kvm=emit.kvm_for(machine), workspace=workspace, timeout=timeout,
                       firmware_files=firmware, on_line=on_line, on_look=on_look,
                       screenshot=screenshot)


def limit(machine: Machine, timeout: float | None) -> float:
    """The seconds that a boot of `machine` may take."""
    if timeout is not None:
        return timeout
    return runner.KVM_TIMEOUT if emit.kvm_for(machine) else runner.TCG_TIMEOUT


def boot_all(machines: Sequence[Machine], overlays: Sequence[Image], workspace: Path,
             timeout: float | None, progress: Callable[[float], None]) -> tuple[BootEvidence, ...]:
    """Boot each of `machines` with `overlays` for disks; the first that fails is the last.

    The pictures of the screen go beside the machines' own disks. `progress` is told what part
    (0..1) of the time is over.
    """
    found: list[BootEvidence] = []
    for each in machines:
        layered = replace(each, disks=tuple(Disk(o.path, o.format) for o in overlays))
        found.append(boot(
            layered, workspace=workspace, timeout=timeout,
            screenshot=beside(each.disks[0].path) / picture_name(each),
            on_look=partial(_tell, progress, len(found), len(machines), limit(each, timeout))))
        if found[-1].verdict is not Verdict.BOOTED:
            break
    return tuple(found)


def _tell(progress: Callable[[float], None], done: int, parts: int, whole: float,
          seconds: float) -> None:
    progress((done + min(1.0, seconds / whole)) / parts)


def beside(path: Path) -> Path:
    """The folder for what belongs to the disk (or the description) at `path`."""
    return Path.cwd() if path.is_block_device() else path.absolute().parent


def picture_name(machine: Machine) -> str:
    """What a picture of the machine's screen is called: each bus has its own."""
    return f"{machine.disks[0].path.name}.{machine.bus}.png"
