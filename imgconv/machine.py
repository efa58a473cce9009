"""The virtual machine that fits a guest, chosen from what the guest was proven able to drive."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from imgconv.errors import CannotConvert, UsageError
from imgconv.model import (
    Bus,
    Capabilities,
    Disk,
    Inspection,
    Machine,
    Nic,
    WindowsOs,
)

DEFAULT_MEMORY = 2048
DEFAULT_CPUS = 2

#: The architectures that there is a machine for (libguestfs' words); i386 runs on an x86_64 one.
ARCHES = ("x86_64", "i386", "aarch64")

#: How many disks each bus takes: two IDE channels of two, the six ports of q35's AHCI, the
#: slots of the root bus that other devices leave free, the targets of a SCSI controller.
DISK_LIMITS = {Bus.IDE: 4, Bus.SATA: 6, Bus.VIRTIO_BLK: 20, Bus.VIRTIO_SCSI: 255}

#: What a guest without virtio-net gets: the network card that QEMU itself gives each machine
#: type, because it is of the machine's age. osinfo-db agrees: e1000 since Windows XP, e1000e since
#: Windows 7, Linux has had both for as long as the chipset.
_FALLBACK_NICS = {"pc": "e1000", "q35": "e1000e", "virt": "e1000e"}

#: osinfo-db's first Windows on q35: 7 and Server 2008 R2. Older ones want the i440fx.
_FIRST_WINDOWS_ON_Q35 = (6, 1)
#: osinfo-db's first Windows with an e1000 driver in the box: XP. Windows 2000 has the rtl8139's.
_FIRST_WINDOWS_WITH_E1000 = (5, 1)

#: Linux takes 15 bytes for an interface's name; the characters are those QEMU's option syntax and
#: every tool for bridges leave alone.
_BRIDGE = re.compile(r"bridge=[A-Za-z0-9_.:-]{1,15}")


def choose(
    inspection: Inspection,
    capabilities: Capabilities,
    disks: tuple[Disk, ...],
    *,
    name: str,
    net: str = "user",
    memory: int | None = None,
    cpus: int | None = None,
) -> Machine:
    """The machine for a guest that can drive what `capabilities` says.

    `disks` are in the guest's order and come out with absolute paths. `net` is user, tap or
    bridge=NAME; `memory` is in MiB; None means the default. Raises UsageError for a wrong `net`,
    `memory` or `cpus`, CannotConvert for an architecture, a bus or a number of disks that no
    machine has.
    """
    check(net, memory, cpus)
    bus = capabilities.block
    _check_disks(bus, inspection.arch, disks)
    disks = tuple(Disk(disk.path.absolute(), disk.format) for disk in disks)
    machine_type = _machine_type(inspection, capabilities)
    model = "virtio-net-pci" if capabilities.net else _fallback_nic(inspection, machine_type)
    return Machine(
        name=_printable(name),
        arch=inspection.arch,
        machine_type=machine_type,
        firmware=inspection.firmware,
        # The best CPU that the accelerator has; the emitter knows its name. Fixed models are the
        # wrong choice at both ends: EL9 does not start below x86-64-v2.
        cpu="max",
        cpus=cpus or DEFAULT_CPUS,
        memory=memory or DEFAULT_MEMORY,
        bus=bus,
        disks=disks,
        nics=(Nic(model, net, mac_address(disks[0].path)),),
        rng=capabilities.rng,
        balloon=capabilities.balloon,
        localtime=isinstance(inspection.os, WindowsOs),
        notes=_notes(capabilities, model),
    )


def check(net: str, memory: int | None, cpus: int | None) -> None:
    """Raise UsageError for what `choose` would not take: before the work it is better known."""
    _check_net(net)
    _check_positive("memory", memory)
    _check_positive("cpus", cpus)


def mac_address(disk: Path) -> str:
    """A MAC that stays the same for the guest on `disk` and differs from other guests'.

    QEMU's own default is one address for all, which collides on a bridge. 52:54:00 is the prefix
    that QEMU and libvirt use.
    """
    digest = hashlib.sha256(str(disk).encode(errors="surrogateescape")).digest()
    return "52:54:00:" + ":".join(f"{byte:02x}" for byte in digest[:3])


def _machine_type(inspection: Inspection, capabilities: Capabilities) -> str:
    """QEMU's machine type: `pc` (i440fx) has the IDE, `q35` the SATA, `virt` is what ARM has."""
    if inspection.arch == "aarch64":
        return "virt"
    if capabilities.block is Bus.IDE:
        return "pc"
    if capabilities.block is Bus.SATA:
        return "q35"
    legacy = not capabilities.virtio_1_0 or _windows_before(inspection, _FIRST_WINDOWS_ON_Q35)
    return "pc" if legacy else "q35"


def _fallback_nic(inspection: Inspection, machine_type: str) -> str:
    if _windows_before(inspection, _FIRST_WINDOWS_WITH_E1000):
        return "rtl8139"
    return _FALLBACK_NICS[machine_type]


def _windows_before(inspection: Inspection, version: tuple[int, int]) -> bool:
    """Whether this is a Windows older than `version`; one of unknown version is a new one."""
    if not isinstance(inspection.os, WindowsOs):
        return False
    match = re.match(r"(\d+)\.(\d+)", inspection.os.version)
    return match is not None and (int(match[1]), int(match[2])) < version


def _notes(capabilities: Capabilities, nic: str) -> tuple[str, ...]:
    notes = []
    if not capabilities.block.is_virtio:
        why = capabilities.reason or "its virtio drivers are not proven"
        notes.append(f"the disk stays on {capabilities.block}: {why}")
    elif capabilities.reason:
        notes.append(f"the disk is on {capabilities.block}: {capabilities.reason}")
    if not capabilities.net:
        notes.append(f"the network card is an {nic}: the guest has no virtio-net driver")
    return tuple(notes)


def _printable(name: str) -> str:
    """`name` without what a terminal, a comment in a script or an encoder could trip over."""
    return "".join(char if char.isprintable() else "?" for char in name) or "guest"


def _check_net(net: str) -> None:
    if net not in ("user", "tap") and not _BRIDGE.fullmatch(net):
        raise UsageError(f"{net!r} is no network", hint="give user, tap or bridge=NAME")


def _check_positive(option: str, value: int | None) -> None:
    if value is not None and value < 1:
        raise UsageError(f"{option} must be at least 1, not {value}",
                         hint=f"leave --{option} out for the default")


def _check_disks(bus: Bus, arch: str, disks: tuple[Disk, ...]) -> None:
    if arch not in ARCHES:
        raise CannotConvert(f"imgconv knows no machine for {arch} guests",
                            hint=f"it knows {', '.join(ARCHES)}")
    if arch == "aarch64" and not bus.is_virtio:
        raise CannotConvert(f"QEMU's ARM machine has no {bus} controller",
                            hint="the guest needs a kernel with virtio drivers")
    if not disks:
        raise UsageError("a machine needs a disk")
    if len(disks) > DISK_LIMITS[bus]:
        raise CannotConvert(f"{len(disks)} disks are too many for {bus}, which takes "
                            f"{DISK_LIMITS[bus]}", hint="--block virtio-scsi takes 255")
