"""The virtual machine that fits a guest, chosen from what the guest was proven able to drive."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from imgconv import osinfo
from imgconv.errors import CannotConvert, UsageError
from imgconv.model import (
    Bus,
    Capabilities,
    Disk,
    Firmware,
    Hardware,
    Inspection,
    Machine,
    Nic,
    WindowsOs,
)

DEFAULT_MEMORY = 2048
DEFAULT_CPUS = 2
#: More need an interrupt remapper, which the machine has not: an APIC's number has 8 bits.
MAX_CPUS = 255
#: Windows 10 and newer hardly move with 2 GiB, and 11 asks for so much.
WINDOWS_MEMORY = 4096

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

#: Microsoft's own hypervisor, and so the interface, is of Server 2008's age. Older Windows never
#: look for it.
_HYPERV = ("hv_relaxed", "hv_vapic", "hv_spinlocks=0x1fff", "hv_time")
#: What QEMU's docs/system/i386/hyperv.rst recommends besides, without the features for nested
#: hypervisors, for certain processors and for debugging; hv_crash would cost the crash dump.
#: Older Windows hardly use them, and so they are a risk without a gain there.
_HYPERV_SINCE_8 = ("hv_vpindex", "hv_runtime", "hv_synic", "hv_stimer", "hv_frequencies")
#: Hypercalls in place of interrupts between processors.
_HYPERV_SINCE_10 = ("hv_tlbflush", "hv_ipi")

#: Windows has USB drivers in the box: for UHCI since 98, EHCI since XP SP1, xHCI since 8 (of which
#: osinfo-db knows).
_FIRST_WINDOWS_WITH_XHCI = (6, 2)

#: The first build that wants a TPM 2.0: Windows 11. Server 2022 (20348) does not; 2025 can use one.
_FIRST_BUILD_WITH_TPM = 22000

_UNKNOWN = Hardware()

#: A word for Windows in the names that hypervisors have for systems, and none for Darwin.
_WINDOWS_WORD = re.compile(r"(?<!dar)win", re.IGNORECASE)

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
    localtime: bool | None = None,
    secure_boot: bool = False,
    hardware: Hardware | None = None,
    facts: osinfo.Facts | None = None,
) -> Machine:
    """The machine for a guest that can drive what `capabilities` says.

    `disks` are in the guest's order and come out with absolute paths. `net` is user, tap or
    bridge=NAME; `memory` is in MiB; None means the default. `localtime` says whether the guest
    keeps local time in the hardware's clock; None means what its kind does when nobody changed it.
    `secure_boot` is for a guest that is known to start so; where no machine can, it is a note.
    `hardware` is what the guest ran on before: its memory, processors (all on one socket), network
    cards, Secure Boot and TPM are carried over where the arguments do not say otherwise; where it
    contradicts what was found on the disks, the disks are believed, and a note says so.
    `facts` are what libosinfo knows of the guest's system; they go before the rules here.
    Raises UsageError for a wrong `net`, `memory` or `cpus`, CannotConvert for an architecture, a
    bus or a number of disks that no machine has.
    """
    check(net, memory, cpus)
    bus = capabilities.block
    _check_disks(bus, inspection.arch, disks)
    disks = tuple(Disk(disk.path.absolute(), disk.format) for disk in disks)
    machine_type = _machine_type(inspection, capabilities, facts)
    before = hardware or _UNKNOWN
    nics = _nics(inspection, capabilities, machine_type, net, disks[0].path, hardware)
    _check_slots(bus, disks, nics)
    windows = isinstance(inspection.os, WindowsOs)
    wants_tpm = _wants_tpm(inspection, machine_type)
    tpm = wants_tpm or (before.tpm and _can_tpm(inspection, machine_type))
    secure_boot = secure_boot or before.secure_boot
    secure = secure_boot and _can_secure_boot(inspection, machine_type)
    return Machine(
        name=_printable(name),
        arch=inspection.arch,
        machine_type=machine_type,
        firmware=inspection.firmware,
        # The best CPU that the accelerator has; the emitter knows its name. Fixed models are the
        # wrong choice at both ends: EL9 does not start below x86-64-v2.
        cpu="max",
        cpus=cpus or min(before.cpus, MAX_CPUS) or DEFAULT_CPUS,
        memory=(memory or before.memory
                or max(_default_memory(inspection), facts.memory if facts else 0)),
        bus=bus,
        disks=disks,
        nics=nics,
        rng=capabilities.rng,
        balloon=capabilities.balloon,
        localtime=windows if localtime is None else localtime,
        notes=(_notes(capabilities, nics) + _secure_boot_notes(secure_boot, secure, wants_tpm)
               + _hardware_notes(inspection, before, disks, tpm, cpus)),
        hyperv=_hyperv(inspection),
        # Windows prefers it to all but Hyper-V's clock, and an emulated one is slow; virt-install
        # leaves it out as well.
        hpet=not windows,
        catch_up=windows,
        tablet=_tablet(inspection, machine_type) if windows else "",
        tpm=tpm,
        secure_boot=secure,
        os=osinfo.short_id(inspection.os),
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


def _nics(inspection: Inspection, capabilities: Capabilities, machine_type: str, net: str,
          disk: Path, hardware: Hardware | None) -> tuple[Nic, ...]:
    """As many network cards as before, with their addresses; one where that is not known.

    What is no virtio card stays what it was, if QEMU has it: the guest has a driver for that.
    """
    before = (Nic(""),) if hardware is None else hardware.nics
    found: list[Nic] = []
    for index, nic in enumerate(before):
        old = "" if nic.model == "virtio-net-pci" else nic.model
        model = ("virtio-net-pci" if capabilities.net
                 else old or _fallback_nic(inspection, machine_type))
        mac = "" if any(nic.mac == other.mac for other in found) else nic.mac
        own = mac_address(disk if index == 0 else disk.with_name(f"{disk.name}#{index}"))
        found.append(Nic(model, net, mac or own))
    return tuple(found)


def _machine_type(inspection: Inspection, capabilities: Capabilities,
                  facts: osinfo.Facts | None) -> str:
    """QEMU's machine type: `pc` (i440fx) has the IDE, `q35` the SATA, `virt` is what ARM has."""
    if inspection.arch == "aarch64":
        return "virt"
    if capabilities.block is Bus.IDE:
        return "pc"
    if capabilities.block is Bus.SATA:
        return "q35"
    legacy = not capabilities.virtio_1_0 or _windows_before(inspection, _FIRST_WINDOWS_ON_Q35)
    return "pc" if legacy or _known_older(inspection, facts) else "q35"


def _known_older(inspection: Inspection, facts: osinfo.Facts | None) -> bool:
    """Whether libosinfo knows this Linux to be older than q35 or virtio 1.0.

    Windows' virtio drivers are not its own, so the database cannot know them; and UEFI is at home
    on q35.
    """
    return (facts is not None and not (facts.q35 and facts.virtio_1_0)
            and not isinstance(inspection.os, WindowsOs)
            and inspection.firmware is Firmware.BIOS)


def _fallback_nic(inspection: Inspection, machine_type: str) -> str:
    if _windows_before(inspection, _FIRST_WINDOWS_WITH_E1000):
        return "rtl8139"
    return _FALLBACK_NICS[machine_type]


def _windows_before(inspection: Inspection, version: tuple[int, ...]) -> bool:
    """Whether this is a Windows older than `version`; one of unknown version is a new one."""
    if not isinstance(inspection.os, WindowsOs):
        return False
    match = re.match(r"(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?", inspection.os.version)
    return match is not None and tuple(int(part or 0) for part in match.groups()) < version


def _default_memory(inspection: Inspection) -> int:
    if isinstance(inspection.os, WindowsOs) and not _windows_before(inspection, (10, 0)):
        return WINDOWS_MEMORY
    return DEFAULT_MEMORY


def _hyperv(inspection: Inspection) -> tuple[str, ...]:
    """The Hyper-V features that this Windows is safe with."""
    if (not isinstance(inspection.os, WindowsOs) or inspection.arch == "aarch64"
            or _windows_before(inspection, (6, 0))):
        return ()
    if _windows_before(inspection, (6, 2)):
        # 7 and 2008 R2 do not start by UEFI with them: launchpad.net/bugs/1593605.
        return () if inspection.firmware is Firmware.UEFI else _HYPERV
    if _windows_before(inspection, (10, 0)):
        return _HYPERV + _HYPERV_SINCE_8
    return _HYPERV + _HYPERV_SINCE_8 + _HYPERV_SINCE_10


def _tablet(inspection: Inspection, machine_type: str) -> str:
    """The USB controller that this Windows has a driver for."""
    if not _windows_before(inspection, _FIRST_WINDOWS_WITH_XHCI):
        return "qemu-xhci"
    return "piix3-usb-uhci" if machine_type == "pc" else "usb-ehci"


def _wants_tpm(inspection: Inspection, machine_type: str) -> bool:
    """Windows 11 and Server 2025 on UEFI; of version 2.0 there is none without UEFI."""
    system = inspection.os
    return (isinstance(system, WindowsOs) and system.version != ""
            and not _windows_before(inspection, (10, 0, _FIRST_BUILD_WITH_TPM))
            and inspection.firmware is Firmware.UEFI and machine_type == "q35")


def _can_secure_boot(inspection: Inspection, machine_type: str) -> bool:
    """Whether there is firmware for it: it guards its variables with SMM, which q35 has."""
    return (inspection.firmware is Firmware.UEFI and inspection.arch == "x86_64"
            and machine_type == "q35")


def _can_tpm(inspection: Inspection, machine_type: str) -> bool:
    """Whether the machine can have a TPM 2.0, for which a BIOS has no interface."""
    return inspection.firmware is Firmware.UEFI and machine_type == "q35"


def _hardware_notes(inspection: Inspection, before: Hardware, disks: tuple[Disk, ...], tpm: bool,
                    cpus: int | None) -> tuple[str, ...]:
    """What of the source's hardware is not carried over, or does not fit the disks."""
    notes = list(before.notes)
    if before.firmware not in (None, inspection.firmware):
        notes.append(f"the source's description says {str(before.firmware).upper()}, but the disk "
                     f"starts by {inspection.firmware.upper()}: the machine has what the disk "
                     "wants")
    if before.tpm:
        notes.append("the machine's TPM is new: what the guest had sealed in the old one "
                     "(BitLocker) wants its recovery key" if tpm else
                     "there is no TPM: it needs UEFI on a q35 machine")
    if before.cpus > MAX_CPUS and not cpus:
        notes.append(f"the source had {before.cpus} processors, of which the machine has "
                     f"{MAX_CPUS}")
    if before.disks and len(before.disks) != len(disks):
        notes.append(f"the source's description has {len(before.disks)} disk(s), and the machine "
                     f"{len(disks)}")
    windows = isinstance(inspection.os, WindowsOs)
    if before.os and windows != bool(_WINDOWS_WORD.search(before.os)):
        notes.append(f"the source's description is of another system ({_printable(before.os)}): is "
                     "it the right one?")
    return tuple(notes)


def _secure_boot_notes(wanted: bool, given: bool, tpm: bool) -> tuple[str, ...]:
    if wanted and not given:
        return ("there is no Secure Boot: it needs UEFI on a q35 machine",)
    if tpm and not given:
        return ("there is no Secure Boot: this Windows starts without it",)
    return ()


def _notes(capabilities: Capabilities, nics: tuple[Nic, ...]) -> tuple[str, ...]:
    notes = []
    if not capabilities.block.is_virtio:
        why = capabilities.reason or "its virtio drivers are not proven"
        notes.append(f"the disk stays on {capabilities.block}: {why}")
    elif capabilities.reason:
        notes.append(f"the disk is on {capabilities.block}: {capabilities.reason}")
    if not nics:
        notes.append("there is no network card, as the source had none")
    elif not capabilities.net:
        models = ", ".join(dict.fromkeys(nic.model for nic in nics))
        notes.append(f"the network card is an {models}: the guest has no virtio-net driver")
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


def _check_slots(bus: Bus, disks: tuple[Disk, ...], nics: tuple[Nic, ...]) -> None:
    """Each network card takes a slot of the root bus, too, of which one is left for it."""
    slots = DISK_LIMITS[Bus.VIRTIO_BLK] + 1
    if (len(disks) if bus is Bus.VIRTIO_BLK else 1) + len(nics) > slots:
        raise CannotConvert(f"{len(disks)} disks and {len(nics)} network cards are more than the "
                            f"{slots} devices that the machine takes", hint=(
                                "--block virtio-scsi takes one place for all disks"))


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
