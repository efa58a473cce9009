"""Outputs computed from a Machine. To add one: write a module, add it to EMITTERS."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from imgconv import host
from imgconv.emit import incus, kubevirt, libvirt, openstack, proxmox, qemu
from imgconv.errors import UsageError
from imgconv.model import Firmware, Machine


class Emitter(Protocol):
    """A module that turns a Machine into the text of one file."""

    @property
    def NAME(self) -> str:  # noqa: N802 - modules have constants
        """What `--emit` calls it."""
        ...

    @property
    def SUFFIX(self) -> str:  # noqa: N802
        """What the output's name adds to that of the first disk."""
        ...

    @property
    def HERE(self) -> bool:  # noqa: N802
        """Whether it is for this host, whose firmware and KVM count then."""
        ...

    def emit(self, machine: Machine, *, kvm: bool = False,
             firmware_files: tuple[Path, Path] | None = None) -> str:
        """The text, UTF-8 encodable; it begins with `#!` when the file is to be executable.

        `kvm` says whether this host can use KVM; `firmware_files` are the code and the template
        of the variables that a UEFI guest needs (`imgconv.host.ovmf`). Raises ImgconvError when
        the machine cannot be expressed.
        """
        ...


EMITTERS: tuple[Emitter, ...] = (qemu, libvirt, proxmox, kubevirt, openstack, incus)


def check_names(names: Iterable[str]) -> None:
    """Raises UsageError when there is no emitter of one of these names."""
    for name in names:
        _emitter(name)


def text(machine: Machine, name: str) -> str:
    """What the emitter called `name` makes of `machine` on this host.

    Raises UsageError for an unknown name, ImgconvError as the emitter does; the latter is worth
    knowing before a result is committed.
    """
    emitter = _emitter(name)
    if not emitter.HERE:
        return emitter.emit(machine)
    machine = as_here(machine)
    firmware = (host.ovmf(machine.arch, secure_boot=machine.secure_boot)
                if machine.firmware is Firmware.UEFI else None)
    return emitter.emit(machine, kvm=kvm_for(machine), firmware_files=firmware)


def as_here(machine: Machine) -> Machine:
    """`machine` without Secure Boot, and with a note, where this host has no firmware for it."""
    if not machine.secure_boot or host.ovmf(machine.arch, secure_boot=True) is not None:
        return machine
    return replace(machine, secure_boot=False, notes=(
        *machine.notes, "there is no Secure Boot: this host has no firmware with Microsoft's keys"))


def write_all(machine: Machine, names: Iterable[str]) -> tuple[Path, ...]:
    """Write the outputs called `names` where they belong. Raises as `text`.

    An older one that differs, because somebody may have edited it, is kept with "~" behind its
    name.
    """
    texts = {output_path(_emitter(name), machine): text(machine, name) for name in names}
    for path, content in texts.items():
        _write(path, content)
    return tuple(texts)


def output_path(emitter: Emitter, machine: Machine) -> Path:
    """Where the output belongs: beside the machine's first disk, or in the current folder when that
    is a block device."""
    disk = machine.disks[0].path
    folder = Path.cwd() if disk.is_block_device() else disk.parent
    return folder / (disk.name + emitter.SUFFIX)


def kvm_for(machine: Machine) -> bool:
    """Whether this host runs `machine` with KVM: it must be able to, and of that architecture."""
    native = qemu.EMULATORS[machine.arch] == f"qemu-system-{platform.machine()}"
    return native and host.kvm_usable().usable


def _emitter(name: str) -> Emitter:
    for emitter in EMITTERS:
        if name == emitter.NAME:
            return emitter
    raise UsageError(f"there is no output called {name!r}",
                     hint="there are: " + ", ".join(emitter.NAME for emitter in EMITTERS))


def _write(path: Path, content: str) -> None:
    """Replace `path` in one step, with the mode that a program (or a file) usually gets."""
    if path.exists() and path.read_bytes() != content.encode():
        shutil.copyfile(path, path.with_name(path.name + "~"))
    with tempfile.TemporaryDirectory(prefix=".imgconv-", dir=path.parent) as folder:
        partial = Path(folder) / "output"
        mode = 0o777 if content.startswith("#!") else 0o666
        with open(partial, "w", encoding="utf-8",
                  opener=lambda name, flags: os.open(name, flags, mode)) as file:
            file.write(content)
        partial.replace(path)
