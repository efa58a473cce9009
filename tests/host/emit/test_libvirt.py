"""libvirt's own validator reads every domain."""

from __future__ import annotations

import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from imgconv.emit import libvirt
from imgconv.errors import UsageError
from imgconv.model import Bus, Disk, Machine

from .machines import MACHINES, check_golden, several_nics

needs_validator = pytest.mark.skipif(shutil.which("virt-xml-validate") is None,
                                     reason="virt-xml-validate is not installed")


def validate(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "domain.xml"
    file.write_text(text, encoding="utf-8")
    return subprocess.run(["virt-xml-validate", file, "domain"], check=False, text=True,
                          capture_output=True)


@pytest.mark.parametrize("name", MACHINES)
def test_golden(name: str) -> None:
    check_golden(libvirt, name, libvirt.emit(MACHINES[name], kvm=name != "linux"))


@needs_validator
@pytest.mark.parametrize("kvm", [True, False])
@pytest.mark.parametrize("name", MACHINES)
def test_validates(tmp_path: Path, name: str, kvm: bool) -> None:
    done = validate(libvirt.emit(MACHINES[name], kvm=kvm), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_validator
def test_the_validator_can_refuse(tmp_path: Path) -> None:
    text = libvirt.emit(MACHINES["linux"]).replace('bus="virtio"', 'bus="warp"')
    assert validate(text, tmp_path).returncode != 0


@needs_validator
def test_many_disks_and_cards_validate(tmp_path: Path) -> None:
    machine = several_nics(replace(MACHINES["linux-uefi-scsi"], disks=tuple(
        Disk(Path(f"/images/{n}.raw"), "raw") for n in range(60))))
    text = libvirt.emit(machine)
    assert validate(text, tmp_path).returncode == 0
    targets = [target.get("dev") for target in ET.fromstring(text).iter("target")
               if target.get("dev")]
    assert (targets[0], targets[25], targets[26], targets[59]) == ("sda", "sdz", "sdaa", "sdbh")
    assert len(set(targets)) == 60


def domain(machine: Machine, *, kvm: bool = True) -> ET.Element:
    return ET.fromstring(libvirt.emit(machine, kvm=kvm))


def test_only_kvm_has_the_features_of_hyper_v() -> None:
    hyperv = domain(MACHINES["windows-11"]).find("features/hyperv")
    assert hyperv is not None
    assert {feature.tag for feature in hyperv} == {
        "relaxed", "vapic", "spinlocks", "vpindex", "runtime", "synic", "stimer", "frequencies",
        "tlbflush", "ipi"}
    emulated = domain(MACHINES["windows-11"], kvm=False)
    assert emulated.find("features/hyperv") is None
    assert emulated.find("clock/timer[@name='hypervclock']") is None


def test_a_block_device_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_block_device", lambda self: self.name == "sdb")
    machine = replace(MACHINES["linux"], disks=(Disk(Path("/dev/sdb"), "raw"),))
    source = domain(machine).find("devices/disk[@type='block']/source")
    assert source is not None
    assert source.attrib == {"dev": "/dev/sdb"}


def test_usb_controller_is_one_that_the_guest_has_a_driver_for() -> None:
    found = {name: domain(MACHINES[name]).find("devices/controller[@type='usb']")
             for name in ("linux", "windows-xp", "windows-7", "windows-11")}
    assert {name: usb is not None and usb.get("model") for name, usb in found.items()} == {
        "linux": "none", "windows-xp": "piix3-uhci", "windows-7": "ehci",
        "windows-11": "qemu-xhci"}


def test_every_bus_has_its_targets() -> None:
    for bus, prefix in {Bus.VIRTIO_BLK: "vd", Bus.VIRTIO_SCSI: "sd", Bus.SATA: "sd",
                        Bus.IDE: "hd"}.items():
        target = domain(replace(MACHINES["linux"], bus=bus)).find("devices/disk/target")
        assert target is not None
        assert target.get("dev") == f"{prefix}a"


@pytest.mark.parametrize("path", ["/images/a\x01.raw", "/images/\udcff.raw"])
def test_what_xml_cannot_hold_is_refused(path: str) -> None:
    with pytest.raises(UsageError, match="XML"):
        libvirt.emit(replace(MACHINES["linux"], disks=(Disk(Path(path), "raw"),)))


def test_a_name_is_a_file_name_too() -> None:
    name = domain(replace(MACHINES["linux"], name="../a/b")).findtext("name")
    assert name == ".._a_b"
