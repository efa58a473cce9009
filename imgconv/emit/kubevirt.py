"""A KubeVirt VirtualMachine: `kubectl apply -f FILE`, after its disks were uploaded.

Fields and their values as KubeVirt's API (kubevirt.io/v1) has them. KubeVirt has no IDE; its
virtio devices are modern only unless `useVirtioTransitional` says otherwise.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from imgconv.emit import loader, shell
from imgconv.emit.names import dns_label
from imgconv.errors import CannotConvert
from imgconv.model import Bus, Firmware, Machine, Nic

NAME = "kubevirt"
SUFFIX = ".kubevirt.yaml"
HERE = False

Json = dict[str, Any]

_BUSES = {Bus.VIRTIO_BLK: "virtio", Bus.VIRTIO_SCSI: "scsi", Bus.SATA: "sata"}
_NIC_MODELS = {"virtio-net-pci": "virtio", "e1000": "e1000", "e1000e": "e1000e",
               "rtl8139": "rtl8139", "pcnet": "pcnet"}
_ARCHES = {"aarch64": "arm64"}
#: KubeVirt's names for Hyper-V's features are QEMU's but for these.
_HYPERV = {"stimer": "synictimer"}
#: What the Containerized Data Importer takes.
_FORMATS = ("raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc")


def emit(machine: Machine, *, kvm: bool = False,
         firmware_files: tuple[Path, Path] | None = None) -> str:
    """The manifest. A cluster has KVM and firmware of its own, so neither argument is used.

    Raises UsageError for a path that a comment cannot hold, CannotConvert for a device that
    KubeVirt does not have.
    """
    loader.require(machine, "KubeVirt")
    if machine.bus not in _BUSES:
        raise CannotConvert(f"KubeVirt has no {machine.bus}, which this guest's disks are on",
                            hint="convert it to virtio, or use another output")
    import yaml  # takes its time, and most commands need none

    comments = "\n".join(shell.comment(line) for line in _comments(machine))
    text = yaml.safe_dump(_manifest(machine), sort_keys=False, allow_unicode=True)
    return f"{comments}\n{text}"


def claim(machine: Machine, index: int) -> str:
    """The name of the PersistentVolumeClaim that holds a disk."""
    return dns_label(machine.name, suffix=f"-disk{index}")


def _manifest(machine: Machine) -> Json:
    name = dns_label(machine.name)
    networks = [_network(index, nic) for index, nic in enumerate(machine.nics)]
    spec = {
        "architecture": _ARCHES.get(machine.arch, "amd64"),
        "domain": _domain(machine),
        **({"networks": networks} if networks else {}),
        "volumes": [{"name": f"disk{index}",
                     "persistentVolumeClaim": {"claimName": claim(machine, index)}}
                    for index in range(len(machine.disks))],
    }
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name},
        "spec": {
            "runStrategy": "Halted",
            "template": {"metadata": {"labels": {"kubevirt.io/vm": name}}, "spec": spec},
        },
    }


def _domain(machine: Machine) -> Json:
    features: Json = {"acpi": {}}
    if machine.hyperv:
        features["hyperv"] = _hyperv(machine)
    if machine.secure_boot:
        features["smm"] = {"enabled": True}
    return {
        # The API's default, so said: the node's processor, and movable between alike nodes.
        "cpu": {"model": "host-model" if machine.cpu == "max" else machine.cpu,
                "sockets": 1, "cores": machine.cpus, "threads": 1},
        "memory": {"guest": f"{machine.memory}Mi"},
        "machine": {"type": machine.machine_type},
        "firmware": {"bootloader": _bootloader(machine)},
        "features": features,
        "clock": _clock(machine),
        "devices": _devices(machine),
    }


def _bootloader(machine: Machine) -> Json:
    if machine.firmware is Firmware.BIOS:
        return {"bios": {}}
    persistent = {"persistent": True} if machine.tpm else {}
    return {"efi": {"secureBoot": machine.secure_boot, **persistent}}


def _hyperv(machine: Machine) -> Json:
    features: Json = {}
    for option in machine.hyperv:
        name, _, value = option.removeprefix("hv_").partition("=")
        if name == "spinlocks":
            features[name] = {"spinlocks": int(value, 0)}
        elif name != "time":  # a timer here
            features[_HYPERV.get(name, name)] = {}
    return features


def _clock(machine: Machine) -> Json:
    timer: Json = {}
    if machine.catch_up:
        timer |= {"rtc": {"tickPolicy": "catchup"}, "pit": {"tickPolicy": "delay"}}
    if not machine.hpet:
        timer["hpet"] = {"present": False}
    if "hv_time" in machine.hyperv:
        timer["hyperv"] = {"present": True}
    return {"utc": {}, **({"timer": timer} if timer else {})}


def _devices(machine: Machine) -> Json:
    devices: Json = {
        "disks": [{"name": f"disk{index}", "disk": {"bus": _BUSES[machine.bus]},
                   **({"bootOrder": 1} if index == 0 else {})}
                  for index in range(len(machine.disks))],
        "autoattachMemBalloon": machine.balloon,
    }
    if machine.machine_type == "pc":
        devices["useVirtioTransitional"] = True
    if machine.nics:
        devices["interfaces"] = [_interface(index, nic) for index, nic in enumerate(machine.nics)]
    else:
        devices["autoattachPodInterface"] = False
    if machine.tablet:
        devices["inputs"] = [{"name": "tablet", "type": "tablet", "bus": "usb"}]
    if machine.rng:
        devices["rng"] = {}
    if machine.tpm:
        devices["tpm"] = {"persistent": True}
    return devices


def _interface(index: int, nic: Nic) -> Json:
    model = _NIC_MODELS.get(nic.model)
    if model is None:
        raise CannotConvert(f"KubeVirt has no network card {nic.model}",
                            hint="it has " + ", ".join(_NIC_MODELS))
    binding = "bridge" if _attachment(index, nic) else "masquerade"
    mac = {"macAddress": nic.mac} if nic.mac else {}
    return {"name": f"net{index}", "model": model, binding: {}, **mac}


def _network(index: int, nic: Nic) -> Json:
    attachment = _attachment(index, nic)
    source: Json = {"multus": {"networkName": attachment}} if attachment else {"pod": {}}
    return {"name": f"net{index}", **source}


def _attachment(index: int, nic: Nic) -> str:
    """The NetworkAttachmentDefinition of a card; "" for the pod's network, which only one has."""
    kind, _, bridge = nic.backend.partition("=")
    if kind == "bridge":
        return dns_label(bridge)
    return f"net{index}" if index else ""


def _comments(machine: Machine) -> list[str]:
    lines = [f"{machine.name}: a machine for KubeVirt.", *machine.notes, "",
             "First upload its disks; SIZE is at least the disk's virtual size (qemu-img info):"]
    for index, disk in enumerate(machine.disks):
        if disk.format not in _FORMATS:
            raise CannotConvert(f"KubeVirt takes no {disk.format} images",
                                hint="make a copy in another format: -o COPY --format qcow2")
        path = shell.one_line(shell.utf8(str(disk.path), "KubeVirt"), "KubeVirt")
        lines.append(f"  virtctl image-upload pvc {claim(machine, index)} --size=SIZE "
                     f"--image-path={shlex.quote(path)}")
    lines.append(f"Then apply this file, and: virtctl start {dns_label(machine.name)}")
    attachments = [name for index, nic in enumerate(machine.nics)
                   if (name := _attachment(index, nic))]
    if attachments:
        lines.append("These NetworkAttachmentDefinitions must be there: " + ", ".join(attachments))
    if machine.machine_type == "pc":
        lines.append("The cluster must allow machines of type pc: in KubeVirt's configuration, "
                     "architectureConfiguration.amd64.emulatedMachines.")
    if machine.tpm:
        lines.append("What the TPM remembers needs a storage class: vmStateStorageClass in "
                     "KubeVirt's configuration, or a default one.")
    if machine.localtime:
        lines.append("The guest takes the hardware's clock for local time: set clock.timezone "
                     "(such as Europe/Oslo) in place of clock.utc.")
    return lines
