"""Every output says the same machine: each is read back by the parser of its own language."""

from __future__ import annotations

import json
import re
import shlex
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from imgconv import host
from imgconv.emit import (
    EMITTERS,
    Emitter,
    incus,
    kubevirt,
    libvirt,
    openstack,
    proxmox,
    qemu,
    text,
)
from imgconv.errors import CannotConvert
from imgconv.model import Bus, Firmware, Machine

from .machines import MACHINES, run_script, several_nics
from .test_openstack import properties
from .test_proxmox import options


@dataclass(frozen=True)
class Seen:
    """What an output says; None where its language has no word for it."""

    disks: tuple[str, ...]
    bus: Bus
    macs: tuple[str, ...]
    models: tuple[str, ...] | None
    firmware: Firmware
    memory: int
    cpus: int
    tpm: bool
    secure_boot: bool
    machine_type: str | None
    localtime: bool | None = None
    tablet: bool | None = None
    rng: bool | None = None
    balloon: bool | None = None
    hpet: bool | None = None
    hyperv: frozenset[str] | None = None


def meant(machine: Machine) -> Seen:
    return Seen(
        tuple(str(disk.path) for disk in machine.disks), machine.bus,
        tuple(nic.mac for nic in machine.nics), tuple(nic.model for nic in machine.nics),
        machine.firmware, machine.memory, machine.cpus, machine.tpm, machine.secure_boot,
        machine.machine_type, machine.localtime, bool(machine.tablet), machine.rng,
        machine.balloon, machine.hpet,
        frozenset(option.partition("=")[0] for option in machine.hyperv))


def qemu_model(model: str) -> str:
    return "virtio-net-pci" if model == "virtio" else model


BUSES = {"virtio": Bus.VIRTIO_BLK, "scsi": Bus.VIRTIO_SCSI, "sata": Bus.SATA, "ide": Bus.IDE,
         "virtio-blk": Bus.VIRTIO_BLK, "virtio-scsi": Bus.VIRTIO_SCSI}


def _qemu(machine: Machine, folder: Path) -> Seen:
    files = Path("/code.fd"), Path("/vars.fd")
    words = qemu.argv(machine, accel="kvm", firmware=(
        files if machine.firmware is Firmware.UEFI else None))
    pairs = list(pairwise(words))
    devices = [value for option, value in pairs if option == "-device"]
    one = dict(pairs)
    nodes = [json.loads(value) for option, value in pairs if option == "-blockdev"]
    disks = [node["file"]["filename"] for node in nodes if node["node-name"].startswith("disk")]
    cards = [device.split(",") for device in devices if ",netdev=" in device]
    first = next(device for device in devices if ",drive=disk0," in device)
    bus = {"virtio-blk-pci": Bus.VIRTIO_BLK, "scsi-hd": Bus.VIRTIO_SCSI,
           "ide-hd": Bus.SATA if one["-machine"].startswith("q35") else Bus.IDE}
    return Seen(
        tuple(disks), bus[first.split(",")[0]],
        tuple(word[4:] for card in cards for word in card if word.startswith("mac=")),
        tuple(card[0] for card in cards),
        Firmware.UEFI if "pflash0" in one["-machine"] else Firmware.BIOS,
        int(re.sub("[^0-9]", "", one["-m"])), int(re.sub(",.*|[^0-9]", "", one["-smp"])),
        "-device tpm-crb" in qemu.emit(machine, firmware_files=files),  # the script adds it
        "smm=on" in one["-machine"], one["-machine"].split(",")[0],
        "localtime" in one["-rtc"], any("usb-tablet" in device for device in devices),
        "virtio-rng-pci" in devices, "virtio-balloon-pci" in devices,
        "hpet=off" not in one["-machine"],
        frozenset(word.partition("=")[0] for word in one["-cpu"].split(",") if "hv_" in word))


def _libvirt(machine: Machine, folder: Path) -> Seen:
    domain = ET.fromstring(libvirt.emit(machine, kvm=True))

    def every(path: str, attribute: str) -> tuple[str, ...]:
        return tuple(element.get(attribute, "") for element in domain.iterfind(path))

    hyperv = {f"hv_{feature.tag}" for feature in domain.iterfind("features/hyperv/*")}
    if domain.find("clock/timer[@name='hypervclock']") is not None:
        hyperv.add("hv_time")
    assert every("devices/disk/driver", "type") == tuple(d.format for d in machine.disks)
    assert every("devices/disk/boot", "order") == ("1",)
    return Seen(
        every("devices/disk/source", "file"), BUSES[every("devices/disk/target", "bus")[0]],
        every("devices/interface/mac", "address"),
        tuple(map(qemu_model, every("devices/interface/model", "type"))),
        Firmware.UEFI if every("os", "firmware") == ("efi",) else Firmware.BIOS,
        int(domain.findtext("memory", "")), int(domain.findtext("vcpu", "")),
        every("devices/tpm/backend", "version") == ("2.0",),
        every("os/firmware/feature[@name='secure-boot']", "enabled") == ("yes",),
        every("os/type", "machine")[0], every("clock", "offset") == ("localtime",),
        every("devices/input[@type='tablet']", "bus") == ("usb",),
        every("devices/rng", "model") == ("virtio",),
        every("devices/memballoon", "model") == ("virtio",),
        every("clock/timer[@name='hpet']", "present") != ("no",), frozenset(hyperv))


def _proxmox(machine: Machine, folder: Path) -> Seen:
    said = options(run_script(proxmox.emit(machine), folder, record=("qm", "pvesh")))
    disks = {key: value for key, value in said.items()
             if re.fullmatch("(virtio|scsi|sata|ide)[0-9]+", key)}
    bus = next(iter(disks)).rstrip("0")
    assert list(disks) == [f"{bus}{n}" for n in range(len(disks))]
    assert said["boot"] == f"order={bus}0"
    cards = [said[f"net{n}"].split(",")[0].split("=") for n in range(len(machine.nics))]
    return Seen(
        tuple(value.split("import-from=")[1].removesuffix(",discard=on")
              for value in disks.values()),
        BUSES[bus], tuple(mac.lower() for _, mac in cards),
        tuple(qemu_model(model) for model, _ in cards),
        Firmware.UEFI if said["bios"] == "ovmf" and "efidisk0" in said else Firmware.BIOS,
        int(said["memory"]), int(said["cores"]), "tpmstate0" in said,
        "pre-enrolled-keys=1" in said.get("efidisk0", ""), said["machine"],
        said["localtime"] == "1", said["tablet"] == "1", "rng0" in said, said["balloon"] != "0")


def _kubevirt(machine: Machine, folder: Path) -> Seen:
    manifest = kubevirt.emit(machine)
    spec = yaml.safe_load(manifest)["spec"]["template"]["spec"]
    domain = spec["domain"]
    devices, loader = domain["devices"], domain["firmware"]["bootloader"]
    timer = domain["clock"].get("timer", {})
    names = {"synictimer": "stimer"}
    hyperv = {f"hv_{names.get(key, key)}" for key in domain["features"].get("hyperv", {})}
    if "hyperv" in timer:
        hyperv.add("hv_time")
    # Disk to volume, volume to claim, claim to the file that is uploaded to it.
    uploads = [shlex.split(line[1:]) for line in manifest.splitlines() if "image-upload" in line]
    files = {words[3]: words[-1].removeprefix("--image-path=") for words in uploads}
    claims = {volume["name"]: volume["persistentVolumeClaim"]["claimName"]
              for volume in spec["volumes"]}
    assert [disk.get("bootOrder") for disk in devices["disks"]] == (
        [1] + [None] * (len(machine.disks) - 1))
    return Seen(
        tuple(files[claims[disk["name"]]] for disk in devices["disks"]),
        BUSES[devices["disks"][0]["disk"]["bus"]],
        tuple(card["macAddress"] for card in devices["interfaces"]),
        tuple(qemu_model(card["model"]) for card in devices["interfaces"]),
        Firmware.UEFI if "efi" in loader else Firmware.BIOS,
        int(domain["memory"]["guest"].removesuffix("Mi")), domain["cpu"]["cores"],
        "tpm" in devices, loader.get("efi", {}).get("secureBoot", False),
        domain["machine"]["type"], None, "inputs" in devices, "rng" in devices,
        devices["autoattachMemBalloon"], timer.get("hpet", {}).get("present", True),
        frozenset(hyperv))


def _openstack(machine: Machine, folder: Path) -> Seen:
    script = openstack.emit(machine)
    images = run_script(script, folder, record=("openstack",)).commands
    said = properties(images[0])
    count = re.search("flavor create --vcpus ([0-9]+) --ram ([0-9]+)", script)
    assert count is not None
    assert images[0][images[0].index("--min-ram") + 1] == count[2]
    macs = tuple(re.findall("port create .*--mac-address ([0-9a-f:]{17}) ", script))
    return Seen(
        tuple(words[words.index("--file") + 1] for words in images), BUSES[said["hw_disk_bus"]],
        macs, (qemu_model(said["hw_vif_model"]),) * len(macs), Firmware(said["hw_firmware_type"]),
        int(count[2]), int(count[1]), said.get("hw_tpm_version") == "2.0",
        said.get("os_secure_boot") == "required", said["hw_machine_type"], None,
        "hw_pointer_model" in said, "hw_rng_model" in said, None,
        said.get("hw_time_hpet", "true") == "true")


def _incus(machine: Machine, folder: Path) -> Seen:
    commands = run_script(incus.emit(machine), folder, "mine",
                          record=("incus", "qemu-img")).commands
    init = next(words for words in commands if words[:2] == ["incus", "init"])
    settings = dict(words.split("=", 1) for words in init if words.startswith(("limits", "secur")))
    devices = {words[5]: words[6:] for words in commands if words[1:4] == ["config", "device",
                                                                            "add"]}
    copies = {words[-1]: words[-2] for words in commands if words[:2] == ["qemu-img", "convert"]}
    sources = [next(words[-2] for words in commands if words[1:2] == ["convert"])]
    for n in range(1, len(machine.disks)):
        source = devices[f"disk{n}"][1].removeprefix("source=")
        sources.append(copies.get(source, source))
    cards = [devices[f"eth{n}"] for n in range(len(machine.nics))]
    return Seen(
        tuple(sources), BUSES[init[-1].split("io.bus=")[1].split(",")[0]],
        tuple(word.removeprefix("hwaddr=") for card in cards for word in card if "hwaddr" in word),
        None, Firmware.BIOS if settings["security.csm"] == "true" else Firmware.UEFI,
        int(settings["limits.memory"].removesuffix("MiB")), int(settings["limits.cpu"]),
        "tpm" in devices, settings["security.secureboot"] == "true", None)


READERS: dict[Emitter, Callable[[Machine, Path], Seen]] = {
    qemu: _qemu, libvirt: _libvirt, proxmox: _proxmox, kubevirt: _kubevirt, openstack: _openstack,
    incus: _incus}
ALL = {**MACHINES, "two-cards": several_nics(MACHINES["linux-two-disks"])}


@pytest.mark.parametrize("emitter", EMITTERS, ids=lambda emitter: emitter.NAME)
def test_secure_boot_is_given_up_only_where_it_is_missing(
        emitter: Emitter, monkeypatch: pytest.MonkeyPatch) -> None:
    """This host's firmware says nothing of other platforms'."""
    files = Path("/code.fd"), Path("/vars.fd")
    monkeypatch.setattr(host, "ovmf", lambda arch, *, secure_boot: None if secure_boot else files)
    monkeypatch.setattr(host, "kvm_usable", lambda: host.Kvm(False, "test"))
    said = "there is no Secure Boot: this host" in text(MACHINES["windows-11"], emitter.NAME)
    assert said is (emitter in (qemu, libvirt))


def test_every_output_is_read_back() -> None:
    assert set(READERS) == set(EMITTERS)


@pytest.mark.parametrize("emitter", EMITTERS, ids=lambda emitter: emitter.NAME)
@pytest.mark.parametrize("name", ALL)
def test_agreement(tmp_path: Path, name: str, emitter: Emitter) -> None:
    machine = ALL[name]
    try:
        seen = READERS[emitter](machine, tmp_path)
    except CannotConvert:
        # Those that the platform does not have; that it says so is tested with each.
        assert emitter in (kubevirt, incus)
        assert not machine.bus.is_virtio
        return
    wanted = meant(machine)
    for field in fields(Seen):
        said = getattr(seen, field.name)
        assert said in (getattr(wanted, field.name), None), field.name
