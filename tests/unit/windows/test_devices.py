"""The ids of PCI devices, as Windows spelled them in real Enum keys."""

from __future__ import annotations

import pytest

from imgconv.model import Bus
from imgconv.windows import devices
from imgconv.windows.devices import PciDevice
from imgconv.windows.registry import Hive
from tests.windows_data import hive, needs_data


def test_virtio_blk_has_the_ids_that_drivers_are_published_by() -> None:
    device = devices.controller(Bus.VIRTIO_BLK)
    assert device.hardware_ids == (
        "PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00", "PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4",
        "PCI\\VEN_1AF4&DEV_1001&CC_010000", "PCI\\VEN_1AF4&DEV_1001&CC_0100")
    assert device.compatible_ids == (
        "PCI\\VEN_1AF4&DEV_1001&REV_00", "PCI\\VEN_1AF4&DEV_1001", "PCI\\VEN_1AF4&CC_010000",
        "PCI\\VEN_1AF4&CC_0100", "PCI\\VEN_1AF4", "PCI\\CC_010000", "PCI\\CC_0100")


def test_the_modern_one_has_another_id() -> None:
    modern = devices.controller(Bus.VIRTIO_BLK, modern=True)
    assert modern.hardware_ids[0] == "PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01"
    scsi = devices.controller(Bus.VIRTIO_SCSI, modern=True)
    assert scsi.hardware_ids[0].startswith("PCI\\VEN_1AF4&DEV_1048&")


def test_a_machine_has_what_it_was_given() -> None:
    names = [device.name for device in devices.for_machine(
        Bus.SATA, "e1000e", rng=True, balloon=True)]
    assert names == ["SATA (ICH9)", "e1000e", "virtio-rng", "virtio-balloon"]
    assert devices.for_machine(Bus.IDE) == (devices.IDE,)
    assert devices.for_machine(Bus.VIRTIO_SCSI, "virtio-net-pci", modern=True) == (
        devices.VIRTIO_SCSI_MODERN, devices.VIRTIO_NET_MODERN)


@needs_data
@pytest.mark.parametrize(("name", "key", "device"), [
    # VMware's IDE, VirtualBox's AHCI (no subsystem), a laptop's RAID.
    ("SYSTEM-win7-x86", "VEN_8086&DEV_7111&SUBSYS_197615AD&REV_01",
     PciDevice("", 0x8086, 0x7111, (0x15AD, 0x1976), 1, 0x01018A)),
    ("SYSTEM-win8.1-x64", "VEN_8086&DEV_2829&SUBSYS_00000000&REV_02",
     PciDevice("", 0x8086, 0x2829, (0, 0), 2, 0x010601)),
    ("SYSTEM-win10-1709-x64", "VEN_8086&DEV_282A&SUBSYS_05341028&REV_04",
     PciDevice("", 0x8086, 0x282A, (0x1028, 0x0534), 4, 0x010400)),
])
def test_the_ids_are_those_of_windows(name: str, key: str, device: PciDevice) -> None:
    enum = Hive(hive(name)).key(f"ControlSet001\\Enum\\PCI\\{key}")
    assert enum is not None
    instance = next(enum.subkeys())
    assert instance.strings("HardwareID") == device.hardware_ids
    assert instance.strings("CompatibleIDs") == device.compatible_ids
