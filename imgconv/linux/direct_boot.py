"""Kernel, initramfs and command line of a guest that has no boot loader, for the machine to start.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from imgconv import linux
from imgconv.guest.protocols import Reader
from imgconv.linux.bootloader import direct
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import compression
from imgconv.model import Bus, DirectBoot, Inspection, Machine, Names

#: A larger kernel is none.
KERNEL_LIMIT = 256 << 20

_SERIAL = {"aarch64": "ttyAMA0"}


@dataclass(frozen=True, slots=True)
class Files:
    """What is in the guest: the files' content (`initrd` b"" when there is none), the command line.
    """

    kernel: bytes
    initrd: bytes
    cmdline: str


def read(reader: Reader, inspection: Inspection, bus: Bus) -> Files | None:
    """What the machine with the disks on `bus` is to start; None when there is a boot loader.

    Raises CannotConvert as planning does, HostileInput for files that are too large.
    """
    loader, offered = linux.boot_chain(reader)
    if loader.NAME != direct.NAME:
        return None
    kernel = offered[0]
    initrd = b"".join(reader.read(path, compression.LIMIT) for path in kernel.initrds)
    return Files(reader.read(kernel.image, KERNEL_LIMIT), initrd,
                 command_line(
                     inspection, bus, initrd=bool(initrd),
                     writable=not any("root=" in entry.cmdline for entry in kernel.entries)))


def command_line(inspection: Inspection, bus: Bus, *, initrd: bool,
                 writable: bool = False) -> str:
    """The root as the kernel (or, with one, its initramfs) finds it, and the consoles.

    `writable` is for a guest whose fstab does not have it, so that nobody would make it so later.
    """
    root = next((f for f in inspection.filesystems if f.device == inspection.root), None)
    if initrd and root is not None and root.uuid:
        spec = f"UUID={root.uuid}"
    elif root is not None and root.partuuid:
        spec = f"PARTUUID={root.partuuid}"
    else:
        spec = Renamer.of(inspection, Names.DEVICE, bus).rename(inspection.root)
    kind = f" rootfstype={root.type}" if root is not None and root.type else ""
    serial = _SERIAL.get(inspection.arch, "ttyS0")
    mode = "ro"
    if writable:
        # mkinitfs only looks at rootflags; the kernel itself and initramfs-tools take the first.
        mode = "rw rootflags=rw" if initrd else "rw"
    return f"root={spec}{kind} {mode} console=tty0 console={serial}"


def beside(machine: Machine, files: Files | None) -> Machine:
    """`machine` with the names that `write` gives the files beside its first disk."""
    if files is None:
        return machine
    disk = machine.disks[0].path
    folder = Path.cwd() if disk.is_block_device() else disk.parent
    return _named(machine, files, folder, disk.name)


def write(machine: Machine, files: Files | None, folder: Path | None = None) -> Machine:
    """Write the files (into `folder`, or where `beside` says), and the machine that names them.

    A file is replaced in one step. Raises OSError.
    """
    if files is None:
        return machine
    machine = (_named(machine, files, folder.absolute(), "guest") if folder is not None
               else beside(machine, files))
    assert machine.direct is not None
    _write(machine.direct.kernel, files.kernel)
    if machine.direct.initrd is not None:
        _write(machine.direct.initrd, files.initrd)
    return machine


def outputs(machine: Machine) -> tuple[Path, ...]:
    """The files that the machine names."""
    if machine.direct is None:
        return ()
    return tuple(path for path in (machine.direct.kernel, machine.direct.initrd) if path)


def _named(machine: Machine, files: Files, folder: Path, name: str) -> Machine:
    return replace(machine, direct=DirectBoot(
        folder / f"{name}.vmlinuz", folder / f"{name}.initrd" if files.initrd else None,
        files.cmdline))


def _write(path: Path, content: bytes) -> None:
    with tempfile.TemporaryDirectory(prefix=".imgconv-", dir=path.parent) as folder:
        partial = Path(folder) / "output"
        with open(partial, "wb", opener=lambda name, flags: os.open(name, flags, 0o666)) as file:
            file.write(content)
        partial.replace(path)
