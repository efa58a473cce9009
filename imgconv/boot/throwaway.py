"""A machine that may be ruined: its disks are overlays, its network leads nowhere."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from imgconv.emit import qemu
from imgconv.model import Disk, Machine
from imgconv.run import run

_X86 = ("x86_64", "i386")


def machine_on_overlays(machine: Machine, scratch: Path) -> Machine:
    """`machine` on overlays in `scratch`, cut off from the network.

    A clone must not show up in the real network beside its original.
    """
    return replace(
        machine,
        disks=tuple(_overlay(disk, scratch / f"disk{index}.qcow2")
                    for index, disk in enumerate(machine.disks)),
        nics=tuple(replace(nic, backend="isolated") for nic in machine.nics),
    )


def command(machine: Machine, *, kvm: bool, scratch: Path, monitor: int, frame_limit: int,
            firmware_files: tuple[Path, Path] | None = None) -> tuple[str, ...]:
    """QEMU's command for `machine` (that of `machine_on_overlays`): the emitted one, headless.

    The serial port is its standard output, the monitor (QMP) the file descriptor `monitor`. What
    passes the n-th network card is captured in `capture(scratch, n)`.
    """
    return qemu.argv(
        machine,
        accel="kvm" if kvm else "tcg",
        serial="stdio",
        firmware=_private_firmware(firmware_files, scratch),
        extra=(
            # graphics=off makes SeaBIOS show on the serial port, too, what it, and GRUB through
            # it, writes to the screen.
            "-machine", "graphics=off",
            # A guest that has panicked stands still for its picture.
            "-action", "panic=pause",
            *(("-device", "pvpanic") if machine.arch in _X86 else ()),
            "-chardev", f"socket,id=qmp,fd={monitor}", "-mon", "chardev=qmp,mode=control",
            *(word for index in range(len(machine.nics)) for word in (
                "-object", f"filter-dump,id=capture{index},netdev=net{index},"
                f"maxlen={frame_limit},file={_option(capture(scratch, index))}")),
        ),
    )


def capture(scratch: Path, index: int) -> Path:
    return scratch / f"net{index}.pcap"


def _option(path: Path) -> str:
    return str(path).replace(",", ",,")


def _overlay(disk: Disk, overlay: Path) -> Disk:
    """A qcow2 overlay of `disk`. An absolute path is never taken for a protocol's URL."""
    run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", disk.path.absolute(), "-F", disk.format,
         overlay])
    return Disk(overlay, "qcow2")


def _private_firmware(files: tuple[Path, Path] | None, scratch: Path) -> tuple[Path, Path] | None:
    if files is None:
        return None
    code, template = files
    return code, Path(shutil.copyfile(template, scratch / "vars.fd"))
