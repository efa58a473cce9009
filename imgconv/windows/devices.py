"""The PCI devices of the machines that imgconv emits, by the names that Windows gives them.

Windows' PCI bus driver makes a device's ids out of its configuration space: the hardware ids name
the very device, the compatible ids what it is like, and both go from the closest to the widest
("Identifiers for PCI Devices" in Microsoft's documentation; real Enum keys show the same). Drivers
are looked for in that order. The numbers here are what QEMU's devices have in their configuration
space; tests/host/test_windows_devices.py asks QEMU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imgconv.model import Bus


@dataclass(frozen=True, slots=True)
class Device:
    """`name` is for people; ids as Windows spells them ("PCI\\VEN_1AF4..."), closest first."""

    name: str
    hardware_ids: tuple[str, ...]
    compatible_ids: tuple[str, ...] = ()

    @property
    def ids(self) -> tuple[str, ...]:
        return self.hardware_ids + self.compatible_ids


@dataclass(frozen=True, slots=True)
class PciDevice:
    """A device's numbers; `subsystem` is (vendor, device), `class_code` has all three bytes.

    """

    name: str
    vendor: int
    device: int
    subsystem: tuple[int, int]
    revision: int
    class_code: int

    @property
    def hardware_ids(self) -> tuple[str, ...]:
        subsystem = f"{self._id}&SUBSYS_{self.subsystem[1]:04X}{self.subsystem[0]:04X}"
        ids = (f"{subsystem}&REV_{self.revision:02X}", subsystem)
        # Without a subsystem (as of VirtualBox's AHCI) the two without it move up here.
        return (*ids, *(self._plain if self.subsystem == (0, 0) else ()),
                *(f"{self._id}&CC_{code}" for code in self._classes))

    @property
    def compatible_ids(self) -> tuple[str, ...]:
        vendor = f"PCI\\VEN_{self.vendor:04X}"
        return (*(self._plain if self.subsystem != (0, 0) else ()),
                *(f"{vendor}&CC_{code}" for code in self._classes), vendor,
                *(f"PCI\\CC_{code}" for code in self._classes))

    @property
    def as_device(self) -> Device:
        return Device(self.name, self.hardware_ids, self.compatible_ids)

    @property
    def _id(self) -> str:
        return f"PCI\\VEN_{self.vendor:04X}&DEV_{self.device:04X}"

    @property
    def _plain(self) -> tuple[str, str]:
        return f"{self._id}&REV_{self.revision:02X}", self._id

    @property
    def _classes(self) -> tuple[str, str]:
        return f"{self.class_code:06X}", f"{self.class_code >> 8:04X}"


_RED_HAT: Final = 0x1AF4
_INTEL: Final = 0x8086
#: What QEMU gives a device without a subsystem of its own.
_QEMU: Final = (_RED_HAT, 0x1100)
_STORAGE, _NETWORK, _OTHER = 0x010000, 0x020000, 0x00FF00


def _virtio(name: str, legacy: int, kind: int, class_code: int) -> tuple[PciDevice, PciDevice]:
    """A virtio device, transitional and modern; `kind` is its number in the virtio specification,
    of which 4.1.2 says how both are recognised."""
    return (PciDevice(name, _RED_HAT, legacy, (_RED_HAT, kind), 0, class_code),
            PciDevice(f"{name} (modern)", _RED_HAT, 0x1040 + kind, _QEMU, 1, class_code))


VIRTIO_BLK, VIRTIO_BLK_MODERN = _virtio("virtio-blk", 0x1001, 2, _STORAGE)
VIRTIO_SCSI, VIRTIO_SCSI_MODERN = _virtio("virtio-scsi", 0x1004, 8, _STORAGE)
VIRTIO_NET, VIRTIO_NET_MODERN = _virtio("virtio-net", 0x1000, 1, _NETWORK)
VIRTIO_RNG, VIRTIO_RNG_MODERN = _virtio("virtio-rng", 0x1005, 4, _OTHER)
VIRTIO_BALLOON, VIRTIO_BALLOON_MODERN = _virtio("virtio-balloon", 0x1002, 5, _OTHER)

#: What `pc` and `q35` have on board.
IDE: Final = PciDevice("IDE (PIIX3)", _INTEL, 0x7010, _QEMU, 0, 0x010180)
AHCI: Final = PciDevice("SATA (ICH9)", _INTEL, 0x2922, _QEMU, 2, 0x010601)

E1000: Final = PciDevice("e1000", _INTEL, 0x100E, _QEMU, 3, _NETWORK)
E1000E: Final = PciDevice("e1000e", _INTEL, 0x10D3, (_INTEL, 0), 0, _NETWORK)
RTL8139: Final = PciDevice("rtl8139", 0x10EC, 0x8139, _QEMU, 0x20, _NETWORK)

#: By QEMU's name of the device.
NICS: Final = {"virtio-net-pci": VIRTIO_NET, "e1000": E1000, "e1000e": E1000E, "rtl8139": RTL8139}

_CONTROLLERS = {Bus.VIRTIO_BLK: (VIRTIO_BLK, VIRTIO_BLK_MODERN),
                Bus.VIRTIO_SCSI: (VIRTIO_SCSI, VIRTIO_SCSI_MODERN),
                Bus.SATA: (AHCI, AHCI), Bus.IDE: (IDE, IDE)}

# --- devices that are not PCI's own, on the way from the processor to the volume ------------------

PCI_BUS: Final = Device("PCI bus", ("ACPI\\PNP0A08", "*PNP0A08"), ("ACPI\\PNP0A03", "*PNP0A03"))
IDE_CHANNEL: Final = Device("IDE channel", ("Internal_IDE_Channel",), ("*PNP0600",))
DISK: Final = Device("disk", ("GenDisk",), ("SCSI\\Disk", "SCSI\\RAW"))
VOLUME: Final = Device("volume", ("STORAGE\\Volume",))
VOLUME_MANAGER: Final = Device("volume manager", ("ROOT\\VOLMGR",))


def controller(bus: Bus, *, modern: bool = False) -> PciDevice:
    """What the disks hang on. imgconv puts virtio devices on the root bus of `pc` and `q35`, where
    they are transitional, whatever the guest knows; `modern` is behind a PCI Express port."""
    return _CONTROLLERS[bus][modern]


def for_machine(bus: Bus, nic: str = "", *, rng: bool = False, balloon: bool = False,
                modern: bool = False) -> tuple[PciDevice, ...]:
    """The devices of a machine that need a driver; `nic` is QEMU's name, "" without one."""
    devices = [controller(bus, modern=modern)]
    if nic:
        devices.append(VIRTIO_NET_MODERN if modern and NICS[nic] is VIRTIO_NET else NICS[nic])
    if rng:
        devices.append(VIRTIO_RNG_MODERN if modern else VIRTIO_RNG)
    if balloon:
        devices.append(VIRTIO_BALLOON_MODERN if modern else VIRTIO_BALLOON)
    return tuple(devices)
