"""libvirt's own validator reads every domain, and libvirt itself makes QEMU's command of it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ET
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from imgconv.emit import libvirt, qemu
from imgconv.errors import UsageError
from imgconv.model import Bus, Disk, Firmware, Machine

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


# --- what libvirt makes of it -------------------------------------------------------------------


def native(machine: Machine) -> tuple[str, ...]:
    """The QEMU command that libvirt would run, computed by the driver inside virsh.

    It refuses to be root without the system user that the whole daemon's package makes, and makes
    a tap device for every card, so there are none.
    """
    driver = "libvirt/connection-driver/libvirt_driver_qemu.so"
    if shutil.which("virsh") is None or not any(
            list(Path("/usr").glob(f"{where}/{driver}")) for where in ("lib*", "lib/*")):
        pytest.skip("libvirt's driver for QEMU is not installed")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "domain.xml")
        file.write_text(libvirt.emit(replace(machine, nics=())), encoding="utf-8")
        as_nobody = []
        if os.geteuid() == 0:
            os.chown(folder, 65534, 65534)
            as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
        done = subprocess.run(
            [*as_nobody, "virsh", "-q", "-c", f"qemu:///embed?root={folder}/root",
             "domxml-to-native", "qemu-argv", file],
            check=False, capture_output=True, text=True, timeout=60,
            env={"PATH": os.environ["PATH"], "HOME": folder})
    assert done.returncode == 0, done.stderr
    return tuple(shlex.split(done.stdout))


@pytest.mark.parametrize("name", [name for name in MACHINES if name != "linux-arm"])
def test_libvirt_makes_the_command_that_was_meant(name: str) -> None:
    """Compared with the command that imgconv itself makes of the machine."""
    if shutil.which("qemu-system-x86_64") is None:
        pytest.skip("qemu-system-x86_64 is not installed")
    machine = MACHINES[name]
    if machine.tpm and shutil.which("swtpm") is None:
        machine = replace(machine, tpm=False)
    files = Path("/code"), Path("/vars")
    uefi = machine.firmware is Firmware.UEFI
    ours = qemu.argv(machine, accel="tcg", firmware=files if uefi else None)
    theirs = native(machine)
    assert files_of(theirs) == files_of(ours) == [str(disk.path) for disk in machine.disks]
    assert places(theirs) == places(ours)
    for device in ("usb-tablet", "virtio-rng-pci", "virtio-balloon-pci", "virtio-scsi-pci"):
        assert (device in drivers(theirs)) == (device in drivers(ours)), device
    one = dict(pairwise(theirs))
    assert one["-m"].removeprefix("size=").removesuffix("k") in (
        str(machine.memory), str(machine.memory * 1024))
    assert one["-smp"].startswith(f"{machine.cpus},sockets=1,")
    assert one["-rtc"] == dict(pairwise(ours))["-rtc"]
    assert ("pflash0" in one["-machine"], "smm=on" in one["-machine"]) == (
        uefi, machine.secure_boot)
    assert machine.hpet is not ("-no-hpet" in theirs or "hpet=off" in one["-machine"])


def devices(words: tuple[str, ...]) -> list[dict[str, str]]:
    """The devices of a command, in either of the two syntaxes that QEMU has for them."""
    found = []
    for option, value in pairwise(words):
        if option == "-device":
            if value.startswith("{"):
                found.append({key: str(said) for key, said in json.loads(value).items()})
            else:
                driver, *rest = value.split(",")
                found.append({"driver": driver, **dict(word.split("=", 1) for word in rest)})
    return found


def drivers(words: tuple[str, ...]) -> set[str]:
    return {device["driver"] for device in devices(words)}


def places(words: tuple[str, ...]) -> list[tuple[str | None, ...]]:
    """What the disks are and where on their controllers, and which one is booted from."""
    return [(device["driver"], device.get("scsi-id"), device.get("bootindex"), device.get("unit"),
             device["bus"] if device["driver"] == "ide-hd" else None)
            for device in devices(words) if "drive" in device]


def files_of(words: tuple[str, ...]) -> list[str]:
    """The files of the disks, in the disks' order."""
    nodes = {node["node-name"]: node for node in (
        json.loads(value) for option, value in pairwise(words) if option == "-blockdev")}
    found = []
    for device in devices(words):
        if "drive" in device:
            file = nodes[device["drive"]]["file"]
            found.append((nodes[file] if isinstance(file, str) else file)["filename"])
    return found
