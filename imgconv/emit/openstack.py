"""A shell script that puts the disks into OpenStack's image service, with the properties by which
Nova (its libvirt driver) builds the machine.

The properties are those of Glance's "useful image properties"; os_type=windows makes Nova set
Hyper-V's features, its clock and local time. What is the flavour's or the network's in OpenStack
(processors, MAC addresses, further disks) is said as commands at the end.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from imgconv.emit import loader, shell
from imgconv.emit.names import dns_label
from imgconv.errors import CannotConvert
from imgconv.model import Bus, Disk, Firmware, Machine

NAME = "openstack"
SUFFIX = ".openstack.sh"
HERE = False

#: Glance's words for QEMU's formats.
_FORMATS = {"raw": "raw", "qcow2": "qcow2", "vmdk": "vmdk", "vdi": "vdi", "vhdx": "vhdx",
            "vpc": "vhd"}
_BUSES = {Bus.VIRTIO_BLK: "virtio", Bus.VIRTIO_SCSI: "scsi", Bus.SATA: "sata", Bus.IDE: "ide"}
_NIC_MODELS = {"virtio-net-pci": "virtio", "e1000": "e1000", "e1000e": "e1000e",
               "rtl8139": "rtl8139", "pcnet": "pcnet", "vmxnet3": "vmxnet3"}
_ARCHES = {"i386": "x86_64"}  # what it runs on


def _arguments(machine: Machine) -> tuple[shell.Argument, ...]:
    name = dns_label(machine.name)
    return (shell.Argument("NAME", name, "A-Za-z0-9_.-",
                           f"the image's name; {name} by default"),)


def emit(machine: Machine, *, kvm: bool = False,
         firmware_files: tuple[Path, Path] | None = None) -> str:
    """The script. A cloud has KVM and firmware of its own, so neither argument is used.

    Raises UsageError for a path that is not UTF-8, CannotConvert for what Nova does not have.
    """
    loader.require(machine, "OpenStack")
    about = (f"{machine.name}: uploads this machine's disks to OpenStack.",
             *machine.notes,
             *_about_clock(machine),
             "Needs the openstack client, and its variables (openrc).")
    parts = [shell.header(about, _arguments(machine))]
    for index, disk in enumerate(machine.disks):
        properties = image_properties(machine) if index == 0 else {}
        parts.append(_create(machine, disk, "" if index == 0 else f"-disk{index}", properties))
    return "\n".join([*parts, *_afterwards(machine), ""])


def _about_clock(machine: Machine) -> tuple[str, ...]:
    """Nova has no property for it: a Windows gets local time, all else UTC."""
    windows = machine.os.startswith("win")
    if windows and not machine.localtime:
        return ("The hardware's clock keeps local time here; the guest takes it for UTC.",)
    if machine.localtime and not windows:
        return ("The hardware's clock keeps UTC here; the guest takes it for local time.",)
    return ()


def image_properties(machine: Machine) -> dict[str, str]:
    """The properties of the image to boot from. Raises CannotConvert."""
    windows = machine.os.startswith("win")
    properties = {
        "hw_architecture": _ARCHES.get(machine.arch, machine.arch),
        "hw_machine_type": machine.machine_type,
        "hw_firmware_type": "uefi" if machine.firmware is Firmware.UEFI else "bios",
        "hw_disk_bus": _BUSES[machine.bus],
        "hw_cpu_sockets": "1",
        "hw_video_model": "virtio" if machine.arch == "aarch64" else "vga",
    }
    if machine.os:
        properties["os_type"] = "windows" if windows else "linux"
    if machine.bus is Bus.VIRTIO_SCSI:
        properties["hw_scsi_model"] = "virtio-scsi"
    if machine.nics:
        properties["hw_vif_model"] = _vif_model(machine)
    if machine.firmware is Firmware.UEFI:
        properties["os_secure_boot"] = "required" if machine.secure_boot else "disabled"
    if machine.tpm:
        properties |= {"hw_tpm_version": "2.0", "hw_tpm_model": "tpm-crb"}
    if machine.rng:
        properties["hw_rng_model"] = "virtio"
    if machine.tablet:
        properties["hw_pointer_model"] = "usbtablet"
    if machine.arch != "aarch64":
        properties["hw_time_hpet"] = "true" if machine.hpet else "false"
    return properties


def _vif_model(machine: Machine) -> str:
    """The one model that all of the server's network cards get."""
    models = {nic.model for nic in machine.nics}
    if len(models) > 1:
        raise CannotConvert("OpenStack gives a server network cards of one model only, not "
                            + ", ".join(sorted(models)), hint="use another output")
    model = models.pop()
    if model not in _NIC_MODELS:
        raise CannotConvert(f"OpenStack has no network card {model}",
                            hint="it has " + ", ".join(_NIC_MODELS))
    return _NIC_MODELS[model]


def _create(machine: Machine, disk: Disk, suffix: str, properties: dict[str, str]) -> str:
    if disk.format not in _FORMATS:
        raise CannotConvert(f"OpenStack takes no {disk.format} images",
                            hint="make a copy in another format: -o COPY --format qcow2")
    words = ["openstack", "image", "create",
             "--disk-format", _FORMATS[disk.format], "--container-format", "bare",
             "--file", shlex.quote(shell.utf8(str(disk.path), "OpenStack"))]
    if not suffix:
        words += ["--min-ram", str(machine.memory)]
    for key, value in properties.items():
        words += ["--property", f"{key}={value}"]
    return shell.command(words) + f' \\\n    "$name"{suffix}'


def _afterwards(machine: Machine) -> list[str]:
    """What is left to be done, with placeholders in capitals."""
    lines = ["", "# A server of it (the words in capitals are yours):",
             "#   openstack flavor create"
             f" --vcpus {machine.cpus} --ram {machine.memory} --disk GIB FLAVOR"]
    server = "#   openstack server create --image NAME --flavor FLAVOR"
    for index, nic in enumerate(machine.nics):
        mac = f" --mac-address {nic.mac}" if nic.mac else ""
        lines.append(f"#   openstack port create --network NETWORK{mac} PORT{index}")
        server += f" --port PORT{index}"
    lines.append(f"{server} SERVER")
    for index in range(1, len(machine.disks)):
        lines += [f"#   openstack volume create --image NAME-disk{index} --size GIB "
                  f"NAME-disk{index}",
                  f"#   openstack server add volume SERVER NAME-disk{index}"]
    return lines
