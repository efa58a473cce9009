from __future__ import annotations

from pathlib import Path

import pytest

from imgconv.errors import CannotConvert, UsageError
from imgconv.machine import choose, mac_address
from imgconv.model import (
    Bus,
    Capabilities,
    Disk,
    Firmware,
    Inspection,
    LinuxOs,
    Machine,
    WindowsOs,
)

LINUX = LinuxOs("debian", "Debian GNU/Linux 12", "12.5")
DISK = Disk(Path("/images/legacy.qcow2"), "qcow2")
VIRTIO = Capabilities(Bus.VIRTIO_BLK, net=True, rng=True, balloon=True)


def inspection(os: LinuxOs | WindowsOs = LINUX, arch: str = "x86_64") -> Inspection:
    return Inspection("/dev/sda1", arch, Firmware.BIOS, (), (), os)


def machine(capabilities: Capabilities = VIRTIO, os: LinuxOs | WindowsOs = LINUX,
            arch: str = "x86_64", disks: tuple[Disk, ...] = (DISK,), net: str = "user",
            memory: int | None = None, cpus: int | None = None) -> Machine:
    return choose(inspection(os, arch), capabilities, disks, name="legacy", net=net,
                  memory=memory, cpus=cpus)


def test_everything_virtio() -> None:
    it = machine()
    assert (it.machine_type, it.bus, it.nics[0].model) == ("q35", Bus.VIRTIO_BLK, "virtio-net-pci")
    assert (it.rng, it.balloon, it.localtime) == (True, True, False)
    assert (it.memory, it.cpus, it.notes) == (2048, 2, ())


@pytest.mark.parametrize(("capabilities", "arch", "expected"), [
    (Capabilities(Bus.VIRTIO_BLK), "x86_64", "q35"),
    (Capabilities(Bus.VIRTIO_SCSI), "i386", "q35"),
    (Capabilities(Bus.VIRTIO_BLK, virtio_1_0=False), "x86_64", "pc"),
    (Capabilities(Bus.IDE), "x86_64", "pc"),
    (Capabilities(Bus.SATA), "x86_64", "q35"),
    (Capabilities(Bus.SATA, virtio_1_0=False), "x86_64", "q35"),
    (Capabilities(Bus.VIRTIO_BLK), "aarch64", "virt"),
])
def test_machine_type(capabilities: Capabilities, arch: str, expected: str) -> None:
    assert machine(capabilities, arch=arch).machine_type == expected


@pytest.mark.parametrize(("version", "bus", "machine_type", "nic"), [
    ("5.0", Bus.IDE, "pc", "rtl8139"),
    ("5.1", Bus.IDE, "pc", "e1000"),
    ("6.0", Bus.VIRTIO_BLK, "pc", "e1000"),
    ("6.1", Bus.VIRTIO_BLK, "q35", "e1000e"),
    ("10.0", Bus.VIRTIO_BLK, "q35", "e1000e"),
    ("", Bus.VIRTIO_BLK, "q35", "e1000e"),
])
def test_windows_by_version(version: str, bus: Bus, machine_type: str, nic: str) -> None:
    it = machine(Capabilities(bus), os=WindowsOs("Windows", version))
    assert (it.machine_type, it.nics[0].model, it.localtime) == (machine_type, nic, True)


def windows(version: str, bus: Bus = Bus.VIRTIO_BLK, firmware: Firmware = Firmware.BIOS,
            arch: str = "x86_64", *, localtime: bool | None = None,
            secure_boot: bool = False) -> Machine:
    found = Inspection("/dev/sda2", arch, firmware, (), (), WindowsOs("Windows", version))
    return choose(found, Capabilities(bus), (DISK,), name="w", localtime=localtime,
                  secure_boot=secure_boot)


OLD = {"hv_relaxed", "hv_vapic", "hv_spinlocks=0x1fff", "hv_time"}
NEW = OLD | {"hv_vpindex", "hv_runtime", "hv_synic", "hv_stimer", "hv_frequencies"}
NEWEST = NEW | {"hv_tlbflush", "hv_ipi"}


@pytest.mark.parametrize(("version", "firmware", "arch", "expected"), [
    ("5.0.2195", Firmware.BIOS, "i386", set()),
    ("5.1.2600", Firmware.BIOS, "i386", set()),
    ("5.2.3790", Firmware.BIOS, "x86_64", set()),
    ("6.0.6002", Firmware.BIOS, "x86_64", OLD),
    ("6.1.7601", Firmware.BIOS, "i386", OLD),
    ("6.1.7601", Firmware.UEFI, "x86_64", set()),
    ("6.2.9200", Firmware.UEFI, "x86_64", NEW),
    ("6.3.9600", Firmware.BIOS, "x86_64", NEW),
    ("10.0.16299", Firmware.BIOS, "x86_64", NEWEST),
    ("", Firmware.BIOS, "x86_64", NEWEST),
    ("10.0.26100", Firmware.UEFI, "aarch64", set()),
])
def test_hyperv_by_version(version: str, firmware: Firmware, arch: str, expected: set[str]) -> None:
    it = windows(version, firmware=firmware, arch=arch)
    assert set(it.hyperv) == expected
    assert len(it.hyperv) == len(expected)


@pytest.mark.parametrize(("version", "bus", "tablet"), [
    ("5.1.2600", Bus.IDE, "piix3-usb-uhci"),
    ("6.1.7601", Bus.IDE, "piix3-usb-uhci"),
    ("6.1.7601", Bus.VIRTIO_BLK, "usb-ehci"),
    ("6.2.9200", Bus.IDE, "qemu-xhci"),
    ("10.0.20348", Bus.VIRTIO_SCSI, "qemu-xhci"),
])
def test_tablet_on_a_controller_with_a_driver_in_the_box(version: str, bus: Bus,
                                                         tablet: str) -> None:
    assert windows(version, bus).tablet == tablet


@pytest.mark.parametrize(("version", "bus", "firmware", "expected"), [
    ("10.0.19045", Bus.VIRTIO_BLK, Firmware.UEFI, False),
    ("10.0.20348", Bus.VIRTIO_BLK, Firmware.UEFI, False),
    ("10.0.22000", Bus.VIRTIO_BLK, Firmware.UEFI, True),
    ("10.0.26100", Bus.SATA, Firmware.UEFI, True),
    ("10.0.22000", Bus.VIRTIO_BLK, Firmware.BIOS, False),
    ("10.0.22000", Bus.IDE, Firmware.UEFI, False),
    ("", Bus.VIRTIO_BLK, Firmware.UEFI, False),
])
def test_tpm(version: str, bus: Bus, firmware: Firmware, expected: bool) -> None:
    it = windows(version, bus, firmware)
    assert it.tpm is expected
    assert any("Secure Boot" in note for note in it.notes) is expected


@pytest.mark.parametrize(("bus", "firmware", "expected"), [
    (Bus.VIRTIO_BLK, Firmware.UEFI, True),
    (Bus.VIRTIO_BLK, Firmware.BIOS, False),
    (Bus.IDE, Firmware.UEFI, False),
])
def test_secure_boot_where_a_machine_can(bus: Bus, firmware: Firmware, expected: bool) -> None:
    it = windows("10.0.19045", bus, firmware, secure_boot=True)
    assert it.secure_boot is expected
    assert any("Secure Boot" in note for note in it.notes) is not expected


@pytest.mark.parametrize(("given", "expected"), [(None, True), (True, True), (False, False)])
def test_localtime_can_be_told(given: bool | None, expected: bool) -> None:
    assert windows("10.0.16299", localtime=given).localtime is expected


def test_clock_and_memory_of_windows() -> None:
    new, old, linux = windows("10.0.16299"), windows("5.1.2600", Bus.IDE), machine()
    assert (new.hpet, new.catch_up, new.memory) == (False, True, 4096)
    assert (old.hpet, old.catch_up, old.memory) == (False, True, 2048)
    assert (linux.hpet, linux.catch_up, linux.tablet, linux.hyperv) == (True, False, "", ())


@pytest.mark.parametrize(("bus", "nic"), [(Bus.IDE, "e1000"), (Bus.SATA, "e1000e")])
def test_fallback_nic_is_of_the_machines_age(bus: Bus, nic: str) -> None:
    assert machine(Capabilities(bus)).nics[0].model == nic


def test_notes_say_why_not_virtio() -> None:
    it = machine(Capabilities(Bus.IDE, reason="kernel 2.4 has no virtio"))
    assert it.notes[0] == "the disk stays on ide: kernel 2.4 has no virtio"
    assert "no virtio-net" in it.notes[1]


@pytest.mark.parametrize("net", ["user", "tap", "bridge=br0", "bridge=vmbr0.12"])
def test_good_networks(net: str) -> None:
    assert machine(net=net).nics[0].backend == net


@pytest.mark.parametrize("net", ["", "bridge", "bridge=", "bridge=a,script=/x", "bridge=br0\n",
                                 "bridge=sixteencharacter", "User", "none", "isolated"])
def test_bad_networks(net: str) -> None:
    with pytest.raises(UsageError) as caught:
        machine(net=net)
    assert "bridge=NAME" in caught.value.hint


@pytest.mark.parametrize(("memory", "cpus"), [(0, None), (-1, None), (None, 0)])
def test_bad_sizes(memory: int | None, cpus: int | None) -> None:
    with pytest.raises(UsageError):
        machine(memory=memory, cpus=cpus)


@pytest.mark.parametrize(("bus", "arch", "disks"), [
    (Bus.IDE, "x86_64", 5),
    (Bus.SATA, "x86_64", 7),
    (Bus.IDE, "aarch64", 1),
    (Bus.VIRTIO_BLK, "ppc64le", 1),
])
def test_no_such_machine(bus: Bus, arch: str, disks: int) -> None:
    with pytest.raises(CannotConvert):
        machine(Capabilities(bus), arch=arch, disks=(DISK,) * disks)


def test_relative_paths_become_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert machine(disks=(Disk(Path("a.raw"), "raw"),)).disks[0].path == tmp_path / "a.raw"


@pytest.mark.parametrize("name", ["a\nb", "\x1b[2J", "\udc80", "\u202e"])
def test_names_are_made_printable(name: str) -> None:
    assert choose(inspection(), VIRTIO, (DISK,), name=name).name.isprintable()


def test_mac_addresses_are_stable_and_differ() -> None:
    one, other = mac_address(Path("/images/a")), mac_address(Path("/images/b"))
    assert one == mac_address(Path("/images/a"))
    assert one != other
    assert one.startswith("52:54:00:")
    assert len(one) == 17
