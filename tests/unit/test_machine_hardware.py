"""What of the source's hardware the machine gets."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imgconv.emit import qemu
from imgconv.errors import CannotConvert
from imgconv.machine import choose, mac_address
from imgconv.model import (
    Bus,
    Capabilities,
    Disk,
    Firmware,
    Hardware,
    Inspection,
    LinuxOs,
    Machine,
    Nic,
    SourceDisk,
    WindowsOs,
)

LINUX = LinuxOs("debian", "Debian GNU/Linux 12", "12.5")
DISK = Disk(Path("/images/legacy.qcow2"), "qcow2")
VIRTIO = Capabilities(Bus.VIRTIO_BLK, net=True)
NO_NET = replace(VIRTIO, net=False)


def machine(hardware: Hardware | None, capabilities: Capabilities = VIRTIO,
            firmware: Firmware = Firmware.BIOS, os: LinuxOs | WindowsOs = LINUX,
            disks: tuple[Disk, ...] = (DISK,), memory: int | None = None,
            cpus: int | None = None, arch: str = "x86_64") -> Machine:
    return choose(Inspection("/dev/sda1", arch, firmware, (), (), os), capabilities, disks,
                  name="legacy", memory=memory, cpus=cpus, hardware=hardware)


def test_memory_and_processors() -> None:
    hardware = Hardware(memory=3000, cpus=6, nics=(Nic(""),))
    it = machine(hardware)
    assert (it.memory, it.cpus, it.notes) == (3000, 6, ())
    assert "cpus=6,sockets=1" in qemu.argv(it, accel="tcg")
    it = machine(hardware, memory=512, cpus=1)
    assert (it.memory, it.cpus) == (512, 1)
    it = machine(Hardware())
    assert (it.memory, it.cpus) == (2048, 2)


def test_more_processors_than_a_machine_has() -> None:
    it = machine(Hardware(cpus=768, nics=(Nic(""),)))
    assert it.cpus == 255
    assert "768" in it.notes[0]
    assert machine(Hardware(cpus=768, nics=(Nic(""),)), cpus=8).notes == ()


def test_nothing_known_changes_nothing() -> None:
    assert machine(None).nics == (Nic("virtio-net-pci", "user", mac_address(DISK.path)),)


NICS = (Nic("vmxnet3", mac="00:50:56:00:00:01"), Nic("", mac="00:50:56:00:00:02"), Nic("pcnet"),
        Nic("virtio-net-pci"))


def test_virtio_cards_keep_their_addresses() -> None:
    it = machine(Hardware(nics=NICS))
    assert [nic.model for nic in it.nics] == ["virtio-net-pci"] * 4
    assert [nic.mac for nic in it.nics[:2]] == ["00:50:56:00:00:01", "00:50:56:00:00:02"]
    assert len({nic.mac for nic in it.nics}) == 4
    assert it.notes == ()


def test_without_virtio_a_card_stays_what_it_was() -> None:
    it = machine(Hardware(nics=NICS), NO_NET)
    assert [nic.model for nic in it.nics] == ["vmxnet3", "e1000e", "pcnet", "e1000e"]
    assert "vmxnet3, e1000e, pcnet" in it.notes[0]
    command = " ".join(qemu.argv(it, accel="tcg"))
    assert "vmxnet3,netdev=net0,mac=00:50:56:00:00:01" in command


def test_an_address_is_used_once() -> None:
    it = machine(Hardware(nics=(NICS[0], NICS[0])))
    assert it.nics[0].mac == NICS[0].mac
    assert it.nics[1].mac not in ("", NICS[0].mac)


def test_no_card_is_no_card() -> None:
    it = machine(Hardware())
    assert it.nics == ()
    assert "no network card" in it.notes[0]


@pytest.mark.parametrize(("bus", "disks", "nics", "fits"), [
    (Bus.VIRTIO_BLK, 20, 1, True), (Bus.VIRTIO_BLK, 20, 2, False), (Bus.VIRTIO_BLK, 11, 10, True),
    (Bus.VIRTIO_SCSI, 100, 20, True), (Bus.VIRTIO_SCSI, 1, 21, False)])
def test_slots(bus: Bus, disks: int, nics: int, fits: bool) -> None:
    def make() -> Machine:
        return machine(Hardware(nics=(Nic(""),) * nics), Capabilities(bus, net=True),
                       disks=tuple(Disk(Path(f"/d{n}"), "raw") for n in range(disks)))
    if fits:
        assert len(make().nics) == nics
    else:
        with pytest.raises(CannotConvert, match="network cards"):
            make()


@pytest.mark.parametrize(("said", "found", "noted"), [
    (Firmware.UEFI, Firmware.UEFI, False), (Firmware.BIOS, Firmware.BIOS, False),
    (None, Firmware.UEFI, False), (Firmware.UEFI, Firmware.BIOS, True),
    (Firmware.BIOS, Firmware.UEFI, True)])
def test_firmware_is_what_the_disk_wants(said: Firmware | None, found: Firmware,
                                         noted: bool) -> None:
    it = machine(Hardware(firmware=said, nics=(Nic(""),)), firmware=found)
    assert it.firmware is found
    assert [f"says {str(said).upper()}" in note for note in it.notes] == [True] * noted


SECURE = Hardware(firmware=Firmware.UEFI, secure_boot=True, tpm=True, nics=(Nic(""),))


def test_secure_boot_and_tpm() -> None:
    it = machine(SECURE, firmware=Firmware.UEFI)
    assert (it.secure_boot, it.tpm) == (True, True)
    assert ["sealed" in note for note in it.notes] == [True]


def test_secure_boot_and_tpm_where_there_are_none() -> None:
    it = machine(replace(SECURE, firmware=None))
    assert (it.secure_boot, it.tpm) == (False, False)
    assert any("no Secure Boot: it needs UEFI" in note for note in it.notes)
    assert any("no TPM: it needs UEFI" in note for note in it.notes)


def test_windows_11_as_it_was() -> None:
    it = machine(replace(SECURE, os="windows11-64"), firmware=Firmware.UEFI,
                 os=WindowsOs("Windows 11", "10.0.22631"))
    assert (it.secure_boot, it.tpm) == (True, True)
    assert not any("without it" in note or "another system" in note for note in it.notes)


@pytest.mark.parametrize(("said", "found", "noted"), [
    ("windows9-64", LINUX, True), ("debian11-64", LINUX, False), ("", LINUX, False),
    ("darwin20-64", LINUX, False), ("Windows2019_64", WindowsOs("W", "10.0"), False),
    ("http://microsoft.com/win/10", WindowsOs("W", "10.0"), False),
    ("ubuntu-64", WindowsOs("W", "10.0"), True)])
def test_a_description_of_another_system(said: str, found: LinuxOs | WindowsOs,
                                         noted: bool) -> None:
    notes = machine(Hardware(os=said, nics=(Nic(""),)), os=found).notes
    assert any("another system" in note for note in notes) == noted


def test_another_number_of_disks() -> None:
    both = (SourceDisk("a.vmdk"), SourceDisk("b.vmdk"))
    it = machine(Hardware(disks=both, nics=(Nic(""),)))
    assert it.notes == ("the source's description has 2 disk(s), and the machine 1",)
    assert machine(Hardware(disks=both[:1], nics=(Nic(""),))).notes == ()


def test_notes_are_passed_on() -> None:
    assert machine(Hardware(notes=("read me",), nics=(Nic(""),))).notes == ("read me",)
