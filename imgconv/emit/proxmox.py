"""A shell script that makes the machine in Proxmox VE, where it runs as root: `qm create`.

Options and their values as qm(1) and qm.conf(5) of Proxmox VE 8 and 9 list them.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from imgconv.emit import loader, shell
from imgconv.emit.names import dns_label
from imgconv.errors import CannotConvert, UsageError
from imgconv.model import Bus, Disk, Firmware, Machine, Nic

NAME = "proxmox"
SUFFIX = ".proxmox.sh"
HERE = False

#: How qm calls the disks of each bus, and how many it takes.
_BUSES = {Bus.VIRTIO_BLK: ("virtio", 16), Bus.VIRTIO_SCSI: ("scsi", 31), Bus.SATA: ("sata", 6),
          Bus.IDE: ("ide", 4)}
_NIC_MODELS = {"virtio-net-pci": "virtio", "e1000": "e1000", "e1000e": "e1000e",
               "rtl8139": "rtl8139", "pcnet": "pcnet", "vmxnet3": "vmxnet3"}

#: qm's word for a Windows, by how libosinfo's short id (`Machine.os`) begins; the first that fits.
#: With it Proxmox VE chooses Hyper-V's features and leaves out the HPET itself.
_OS_TYPES = (("win2k25", "win11"), ("win2k22", "win11"), ("win2k19", "win10"), ("win2k16", "win10"),
             ("win2k12", "win8"), ("win2k8r2", "win7"), ("win2k8", "w2k8"), ("win2k3", "w2k3"),
             ("win2k", "w2k"), ("winxp", "wxp"), ("winvista", "wvista"), ("win7", "win7"),
             ("win8", "win8"), ("win10", "win10"), ("win", "win11"))

_ARGUMENTS = (
    shell.Argument("VMID", "$(pvesh get /cluster/nextid)", "0-9",
                   "the machine's number; the next free one by default"),
    shell.Argument("STORAGE", "local-lvm", "A-Za-z0-9_.-",
                   "where its disks are copied to; local-lvm by default"),
    shell.Argument("BRIDGE", "vmbr0", "A-Za-z0-9_.:-",
                   "the bridge for its network; vmbr0 by default"),
)


def emit(machine: Machine, *, kvm: bool = False,
         firmware_files: tuple[Path, Path] | None = None) -> str:
    """The script. Proxmox VE has KVM and firmware of its own, so neither argument is used.

    Raises UsageError for a path that qm's options cannot hold, CannotConvert for a device or a
    number of disks that Proxmox VE does not have.
    """
    loader.require(machine, "Proxmox VE")
    name, limit = _BUSES[machine.bus]
    if len(machine.disks) > limit:
        raise CannotConvert(f"Proxmox VE takes {limit} disks on {machine.bus}, not "
                            f"{len(machine.disks)}", hint="--block virtio-scsi takes 31")
    words = ["qm", "create", '"$vmid"', *_options(machine)]
    for index, disk in enumerate(machine.disks):
        words += [f"--{name}{index}", _disk(disk)]
    for index, nic in enumerate(machine.nics):
        words += [f"--net{index}", _nic(nic)]
    about = (f"{machine.name}: makes this machine in Proxmox VE; run it there, as root.",
             *machine.notes,
             "The disks are copied. Nothing is started: qm start VMID does.")
    return "\n".join([shell.header(about, _ARGUMENTS), shell.command(words),
                      'echo "machine $vmid is there: qm start $vmid"', ""])


def _options(machine: Machine) -> list[str]:
    options = {
        "name": dns_label(machine.name),
        "ostype": os_type(machine.os),
        "machine": machine.machine_type,
        "bios": "ovmf" if machine.firmware is Firmware.UEFI else "seabios",
        "cpu": "host" if machine.cpu == "max" else machine.cpu,
        "sockets": "1",
        "cores": str(machine.cpus),
        "memory": str(machine.memory),
        "balloon": str(machine.memory) if machine.balloon else "0",
        "localtime": _flag(machine.localtime),
        "tdf": _flag(machine.catch_up),
        "tablet": _flag(bool(machine.tablet)),
        "scsihw": "virtio-scsi-pci",
        "serial0": "socket",
        "vga": "virtio" if machine.arch == "aarch64" else "std",
        "boot": f"order={_BUSES[machine.bus][0]}0",
    }
    if machine.arch == "aarch64":
        options["arch"] = "aarch64"
    if machine.rng:
        options["rng0"] = "source=/dev/urandom"
    words = [word for key, value in options.items()
             for word in (f"--{key}", shlex.quote(value))]
    if machine.firmware is Firmware.UEFI:
        keys = _flag(machine.secure_boot)
        words += ["--efidisk0", shell.inside(
            "storage", f":1,efitype=4m,pre-enrolled-keys={keys}")]
    if machine.tpm:
        words += ["--tpmstate0", shell.inside("storage", ":1,version=v2.0")]
    return words


def os_type(short_id: str) -> str:
    """What `--ostype` is for libosinfo's short id; "other" when that is not known."""
    if short_id.startswith("win"):
        return next(kind for start, kind in _OS_TYPES if short_id.startswith(start))
    return "l26" if short_id else "other"


def _disk(disk: Disk) -> str:
    """The value of an option that copies a disk.

    qm splits such values at commas and has no way to write one; newer ones take quotes apart.
    """
    path = shell.one_line(shell.utf8(str(disk.path), "Proxmox VE"), "Proxmox VE")
    if any(char in path for char in ',"') or path != path.strip():
        raise UsageError(f"qm cannot be told of {path!r}: its options end at a comma, a quote and "
                         "a space", hint="rename the file")
    return shell.inside("storage", f":0,import-from={path},discard=on")


def _nic(nic: Nic) -> str:
    model = _NIC_MODELS.get(nic.model)
    if model is None:
        raise CannotConvert(f"Proxmox VE has no network card {nic.model}",
                            hint="it has " + ", ".join(_NIC_MODELS))
    card = f"{model}={nic.mac.upper()}" if nic.mac else model
    kind, _, bridge = nic.backend.partition("=")
    if kind == "bridge":
        return shlex.quote(f"{card},bridge={bridge}")
    return f'{shlex.quote(f"{card},bridge=")}"$bridge"'


def _flag(value: bool) -> str:
    return "1" if value else "0"
