"""The core types. READ FIRST.

Everything that flows through `pipeline.py` is one of these: frozen, slotted, tuples inside. An
`Image` is opened, an `Inspection` says what is on it, a `Plan` is a list of `Change`s, `Finding`s
say what was proven of the result, and a `Machine` is the virtual machine that fits.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Names(StrEnum):
    """How the guest names its disks afterwards (`--names`)."""

    UUID = "uuid"
    DEVICE = "device"


class InitramfsMode(StrEnum):
    """How drivers get into the initramfs (`--initramfs`)."""

    AUTO = "auto"
    SPLICE = "splice"
    REBUILD = "rebuild"


class Bus(StrEnum):
    """What the guest's disks hang on."""

    VIRTIO_BLK = "virtio-blk"
    VIRTIO_SCSI = "virtio-scsi"
    SATA = "sata"
    IDE = "ide"

    @property
    def is_virtio(self) -> bool:
        return self in (Bus.VIRTIO_BLK, Bus.VIRTIO_SCSI)

    @property
    def disk_prefix(self) -> str:
        """The letters that today's Linux kernels begin a disk's name with: libata is sd."""
        return "vd" if self is Bus.VIRTIO_BLK else "sd"


class Firmware(StrEnum):
    BIOS = "bios"
    UEFI = "uefi"


@dataclass(frozen=True, slots=True)
class Image:
    """A disk image as it was opened.

    `format` is QEMU's driver name (raw, qcow2, vmdk, vdi, vhdx, vpc); `virtual_size` is in bytes.
    `references` are the other host files it is made of: backing files, extents, a data file.
    """

    path: Path
    format: str
    virtual_size: int
    references: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """What the user asked of the conversion (not of the command line around it).

    `drivers` is a virtio-win ISO or folder, None for the usual places. `discard_hibernation` gives
    up the session that a hibernated Windows would resume.
    """

    names: Names = Names.UUID
    block: Bus = Bus.VIRTIO_BLK
    initramfs: InitramfsMode = InitramfsMode.AUTO
    root: str | None = None
    drivers: Path | None = None
    discard_hibernation: bool = False


# --- what is on the disk ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filesystem:
    """One block device of the guest with something on it.

    `device` is the appliance's name for it (/dev/sda1, /dev/vg/root); the appliance names the
    disks sda, sdb... in the order in which they were given. `type` is blkid's word (ext4, swap,
    crypto_LUKS, LVM2_member...), "" when it holds nothing known.
    """

    device: str
    type: str
    uuid: str = ""
    label: str = ""
    partuuid: str = ""
    partlabel: str = ""


@dataclass(frozen=True, slots=True)
class Mount:
    """A filesystem of the guest and the guest's own path for it."""

    device: str
    path: str


@dataclass(frozen=True, slots=True)
class LinuxOs:
    distro: str
    product: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class WindowsOs:
    """`version` is major.minor.build ("10.0.16299"); `systemroot` the guest's path as it is spelled
    there. `server` and `service_pack` tell apart what shares a version."""

    product: str
    version: str = ""
    systemroot: str = "/Windows"
    server: bool = False
    service_pack: int = 0


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a disk (or the several disks of one guest) holds.

    `arch` is libguestfs' word (x86_64, i386, aarch64...); `filesystems` covers partitions, LVM
    and swap; `mounts` are in the order in which they must be mounted.
    """

    root: str
    arch: str
    firmware: Firmware
    filesystems: tuple[Filesystem, ...]
    mounts: tuple[Mount, ...]
    os: LinuxOs | WindowsOs


# --- what will be done --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Replace (or create, when `before` is None) a file; owner, mode and labels are kept."""

    path: str
    content: bytes
    before: bytes | None
    why: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class AppendFile:
    """Add bytes at the end of an existing file; `summary` says in words what they are."""

    path: str
    content: bytes
    why: str
    summary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RunInGuest:
    """Run the guest's own program inside the appliance, in the guest's root."""

    argv: tuple[str, ...]
    why: str


@dataclass(frozen=True, slots=True)
class RegistryValue:
    """`type` is Windows' number of the type (1 is REG_SZ); the default value has the name ""."""

    name: str
    type: int
    data: bytes


@dataclass(frozen=True, slots=True)
class SetRegistry:
    """Set values of a registry key, which is made, with those above it, where it is missing.

    `hive` is the path of the hive's file in the guest, `key` the path below the hive's root, with
    backslashes. `before` are the values of these names that were there.
    """

    hive: str
    key: str
    values: tuple[RegistryValue, ...]
    why: str
    before: tuple[RegistryValue, ...] = ()


@dataclass(frozen=True, slots=True)
class DeleteRegistryKey:
    """Delete a registry key with all that is below it; `before` are the key's own values."""

    hive: str
    key: str
    why: str
    before: tuple[RegistryValue, ...] = ()


@dataclass(frozen=True, slots=True)
class PatchDevice:
    """Replace bytes of a filesystem's own structures, `offset` bytes from the device's beginning,
    where no filesystem driver could: nothing is mounted meanwhile."""

    device: str
    offset: int
    before: bytes
    after: bytes
    why: str


Change = WriteFile | AppendFile | SetRegistry | DeleteRegistryKey | PatchDevice | RunInGuest


def target(change: Change) -> str:
    """What a change changes, in a few words."""
    match change:
        case WriteFile() | AppendFile():
            return change.path
        case SetRegistry() | DeleteRegistryKey():
            return f"{change.hive.rpartition('/')[2]}\\{change.key}"
        case PatchDevice():
            return f"{change.device} at {change.offset:#x}"
        case RunInGuest():
            return " ".join(change.argv)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What the guest can drive; before verification a claim, after it a proven one.

    `virtio_1_0` is False where the guest's drivers only know the legacy (0.9) interface.
    `reason` says why `block` is not what was asked for. `localtime` says whether the guest keeps
    local time in the hardware's clock; None means what its kind does when nobody changed it.
    """

    block: Bus
    net: bool = False
    rng: bool = False
    balloon: bool = False
    virtio_1_0: bool = True
    reason: str = ""
    localtime: bool | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    changes: tuple[Change, ...]
    capabilities: Capabilities
    warnings: tuple[str, ...] = ()


# --- what came of it ----------------------------------------------------------------------------


class Level(StrEnum):
    PROVEN = "proven"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """One boot-critical fact of the disk as it is now, with what shows it."""

    level: Level
    subject: str
    message: str
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk of the machine: QEMU never probes, so the format always goes along."""

    path: Path
    format: str


@dataclass(frozen=True, slots=True)
class Nic:
    """`model` is QEMU's device name; `backend` is user, tap or bridge=NAME; `mac` "" is QEMU's."""

    model: str
    backend: str = "user"
    mac: str = ""


@dataclass(frozen=True, slots=True)
class SourceDisk:
    """A disk as a description names it: `name` is foreign text, and no path until it is checked.

    `format` is QEMU's driver name, "" where it is not said. `obstacle` says why imgconv cannot
    take the disk from there.
    """

    name: str
    format: str = ""
    obstacle: str = ""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What the machine was made of that the disks come from, as its description says.

    `memory` is in MiB. 0, "" and None are what is not said. `cpus` are all that the guest sees,
    whatever sockets they were on. A network card without `model` is one that QEMU does not have.
    `disks` are in the order in which the firmware took them. `os` is the describing program's own
    word. `notes` are sentences about what is not carried over.
    """

    name: str = ""
    memory: int = 0
    cpus: int = 0
    firmware: Firmware | None = None
    secure_boot: bool = False
    tpm: bool = False
    nics: tuple[Nic, ...] = ()
    disks: tuple[SourceDisk, ...] = ()
    os: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DirectBoot:
    """What a machine starts that needs no boot loader: files on the host (`initrd` None: the guest
    has none) and the kernel's command line."""

    kernel: Path
    initrd: Path | None
    cmdline: str


@dataclass(frozen=True, slots=True)
class Machine:
    """The virtual machine that fits the guest; `memory` is in MiB, `cpu` is QEMU's model name.

    `hyperv` are the Hyper-V features that KVM shall offer, as QEMU's CPU options. `catch_up` makes
    interrupts of the clock that the host missed come later. `tablet` is QEMU's name of a USB
    controller for an absolute pointer, "" for none. `tpm` is one of version 2.0, which a script
    starts if it can; `secure_boot` is firmware that starts only what Microsoft signed.

    `notes` are sentences for the user, such as why the disk is not on virtio. `os` is libosinfo's
    short id of the guest's system (`imgconv.osinfo`), "" when that is not known. `direct` is for a
    guest without boot loader.
    """

    name: str
    arch: str
    machine_type: str
    firmware: Firmware
    cpu: str
    cpus: int
    memory: int
    bus: Bus
    disks: tuple[Disk, ...]
    nics: tuple[Nic, ...]
    rng: bool = False
    balloon: bool = False
    localtime: bool = False
    notes: tuple[str, ...] = ()
    hyperv: tuple[str, ...] = ()
    hpet: bool = True
    catch_up: bool = False
    tablet: str = ""
    tpm: bool = False
    secure_boot: bool = False
    os: str = ""
    direct: DirectBoot | None = None


class Verdict(StrEnum):
    """What became of a guest that was booted."""

    BOOTED = "booted"
    NOT_BOOTED = "not-booted"
    NOT_PROVEN = "not-proven"


@dataclass(frozen=True, slots=True)
class DiskActivity:
    """What the machine has asked of its disks, all together; `written` is in bytes."""

    writes: int = 0
    written: int = 0
    flushes: int = 0


@dataclass(frozen=True, slots=True)
class NetworkActivity:
    """Frames that the guest itself (not its firmware) has sent; `dhcp` are those that ask for an
    address, `arp` those that look for a neighbour."""

    frames: int = 0
    dhcp: int = 0
    arp: int = 0


@dataclass(frozen=True, slots=True)
class BootEvidence:
    """What a boot showed.

    `reason` is a sentence, or several joined by "; ", with the guest's own lines in it.
    `root_device` (/dev/vda1; "" when the consoles are too quiet to tell) is the first filesystem
    that the kernel mounted; `swap_devices` are those that it enabled; `drivers` are the drivers of
    disks that it named (virtio_blk). `serial` is the text of the serial console, `screen` that of
    the screen as far as it could be read, both free of control characters and limited.
    `screenshot` is a PNG of the screen as it was last. `resets` counts the guest's own.
    """

    verdict: Verdict
    reason: str
    root_device: str
    swap_devices: tuple[str, ...]
    serial: str
    seconds: float
    bus: Bus = Bus.VIRTIO_BLK
    drivers: tuple[str, ...] = ()
    screen: str = ""
    screenshot: Path | None = None
    disk: DiskActivity = DiskActivity()
    network: NetworkActivity = NetworkActivity()
    resets: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """Everything there is to say about one guest; `seconds` has the duration of each phase.

    `boots` are the boots of a boot test. `outputs` are the files that were written, `warnings`
    what went wrong after the commit.
    """

    images: tuple[Image, ...]
    inspection: Inspection | None = None
    plan: Plan | None = None
    findings: tuple[Finding, ...] = ()
    machine: Machine | None = None
    boots: tuple[BootEvidence, ...] = ()
    committed: bool = False
    outputs: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def proven(self) -> bool:
        return (bool(self.findings) and all(f.level is not Level.FAILED for f in self.findings)
                and all(boot.verdict is Verdict.BOOTED for boot in self.boots))
