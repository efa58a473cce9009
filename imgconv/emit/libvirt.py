"""A libvirt domain: `virsh define FILE`.

Element by element as https://libvirt.org/formatdomain.html describes it; libvirt gives the devices
their addresses. What it hangs behind a PCIe root port (on q35) is modern virtio only, which is
right: guests whose drivers only know the legacy interface get the i440fx, where virtio devices sit
on the PCI bus and are transitional.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # only writes
from pathlib import Path

from imgconv.errors import UsageError
from imgconv.model import Bus, Disk, Firmware, Machine, Nic

NAME = "libvirt"
SUFFIX = ".libvirt.xml"
HERE = True

_ARCHES = {"i386": "x86_64"}
#: Each bus with the prefix of its target names, which libvirt counts the disks by.
_BUSES = {Bus.VIRTIO_BLK: ("virtio", "vd"), Bus.VIRTIO_SCSI: ("scsi", "sd"),
          Bus.SATA: ("sata", "sd"), Bus.IDE: ("ide", "hd")}
#: libvirt's words for network cards, and for disk formats, are QEMU's but for this.
_NIC_MODELS = {"virtio-net-pci": "virtio"}
_NIC_TYPES = {"bridge": "bridge", "tap": "ethernet"}
_USB_CONTROLLERS = {"usb-ehci": "ehci", "piix3-usb-uhci": "piix3-uhci"}
#: XML 1.0 has no way to write these.
_NOT_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def emit(machine: Machine, *, kvm: bool = False,
         firmware_files: tuple[Path, Path] | None = None) -> str:
    """The domain's XML. libvirt finds the firmware itself, so `firmware_files` are not used.

    Raises UsageError for a name that XML cannot hold.
    """
    domain = ET.Element("domain", type="kvm" if kvm else "qemu")
    _text(domain, "name", _name(machine))
    _text(domain, "memory", str(machine.memory), unit="MiB")
    _text(domain, "vcpu", str(machine.cpus))
    _os(domain, machine)
    _features(domain, machine, kvm)
    _cpu(domain, machine, kvm)
    _clock(domain, machine, kvm)
    devices = ET.SubElement(domain, "devices")
    for index, disk in enumerate(machine.disks):
        _disk(devices, machine.bus, index, disk)
    _controllers(devices, machine)
    for nic in machine.nics:
        _nic(devices, nic)
    _console(devices, machine)
    if machine.tpm:
        tpm = ET.SubElement(devices, "tpm", model="tpm-crb")
        ET.SubElement(tpm, "backend", type="emulator", version="2.0")
    ET.SubElement(devices, "memballoon", model="virtio" if machine.balloon else "none")
    if machine.rng:
        rng = ET.SubElement(devices, "rng", model="virtio")
        _text(rng, "backend", "/dev/urandom", model="random")
    ET.indent(domain)
    notes = "".join(f"<!-- {_comment(note)} -->\n" for note in machine.notes)
    return notes + ET.tostring(domain, encoding="unicode") + "\n"


def _name(machine: Machine) -> str:
    """libvirt makes a file of the name, so it has no slash."""
    return _checked(machine.name).replace("/", "_").replace("\n", " ").strip() or "guest"


def _os(domain: ET.Element, machine: Machine) -> None:
    uefi = machine.firmware is Firmware.UEFI
    system = ET.SubElement(domain, "os", {"firmware": "efi"} if uefi else {})
    _text(system, "type", "hvm", arch=_ARCHES.get(machine.arch, machine.arch),
          machine=machine.machine_type)
    if uefi:
        firmware = ET.SubElement(system, "firmware")
        # libvirt takes firmware of either kind when it is not told which.
        for feature in ("secure-boot", "enrolled-keys"):
            ET.SubElement(firmware, "feature", enabled=_yes(machine.secure_boot), name=feature)
    if machine.direct is not None:
        _text(system, "kernel", _checked(str(machine.direct.kernel)))
        if machine.direct.initrd is not None:
            _text(system, "initrd", _checked(str(machine.direct.initrd)))
        _text(system, "cmdline", _checked(machine.direct.cmdline))


def _features(domain: ET.Element, machine: Machine, kvm: bool) -> None:
    features = ET.SubElement(domain, "features")
    ET.SubElement(features, "acpi")
    if machine.arch != "aarch64":
        ET.SubElement(features, "apic")
    if kvm and machine.hyperv:
        hyperv = ET.SubElement(features, "hyperv", mode="custom")
        for option in machine.hyperv:
            name, _, value = option.removeprefix("hv_").partition("=")
            if name == "spinlocks":
                ET.SubElement(hyperv, name, state="on", retries=str(int(value, 0)))
            elif name != "time":  # libvirt's name for that is a timer
                ET.SubElement(hyperv, name, state="on")
    if machine.secure_boot:
        ET.SubElement(features, "smm", state="on")


def _cpu(domain: ET.Element, machine: Machine, kvm: bool) -> None:
    if machine.cpu == "max":
        cpu = ET.SubElement(domain, "cpu", mode="host-passthrough" if kvm else "maximum")
    else:
        cpu = ET.SubElement(domain, "cpu", mode="custom", match="exact")
        _text(cpu, "model", machine.cpu, fallback="forbid")
    # libvirt's default is a socket for each processor: Windows clients use two at most.
    ET.SubElement(cpu, "topology", sockets="1", cores=str(machine.cpus), threads="1")


def _clock(domain: ET.Element, machine: Machine, kvm: bool) -> None:
    clock = ET.SubElement(domain, "clock", offset="localtime" if machine.localtime else "utc")
    if machine.catch_up:
        ET.SubElement(clock, "timer", name="rtc", tickpolicy="catchup")
        ET.SubElement(clock, "timer", name="pit", tickpolicy="delay")
    if not machine.hpet:
        ET.SubElement(clock, "timer", name="hpet", present="no")
    if kvm and "hv_time" in machine.hyperv:
        ET.SubElement(clock, "timer", name="hypervclock", present="yes")


def _disk(devices: ET.Element, bus: Bus, index: int, disk: Disk) -> None:
    block = disk.path.is_block_device()
    element = ET.SubElement(devices, "disk", type="block" if block else "file", device="disk")
    ET.SubElement(element, "driver", name="qemu", type=disk.format, discard="unmap")
    ET.SubElement(element, "source", {"dev" if block else "file": _checked(str(disk.path))})
    name, prefix = _BUSES[bus]
    ET.SubElement(element, "target", dev=f"{prefix}{_letters(index)}", bus=name)
    if index == 0:
        ET.SubElement(element, "boot", order="1")
    if bus is Bus.VIRTIO_SCSI:
        # One controller of many targets; libvirt would make a new one for every seven disks.
        ET.SubElement(element, "address", type="drive", controller="0", bus="0",
                      target=str(index), unit="0")


def _letters(index: int) -> str:
    """a, b, ... z, aa, ab: as the kernel counts disks."""
    word = ""
    while index >= 0:
        word = chr(ord("a") + index % 26) + word
        index = index // 26 - 1
    return word


def _controllers(devices: ET.Element, machine: Machine) -> None:
    if machine.bus is Bus.VIRTIO_SCSI:
        ET.SubElement(devices, "controller", type="scsi", index="0", model="virtio-scsi")
    if machine.arch == "aarch64":  # has no other keyboard
        ET.SubElement(devices, "controller", type="usb", index="0", model="qemu-xhci")
        ET.SubElement(devices, "input", type="keyboard", bus="usb")
    elif machine.tablet:
        ET.SubElement(devices, "controller", type="usb", index="0",
                      model=_USB_CONTROLLERS.get(machine.tablet, machine.tablet))
    else:
        ET.SubElement(devices, "controller", type="usb", index="0", model="none")
    if machine.tablet:
        ET.SubElement(devices, "input", type="tablet", bus="usb")


def _nic(devices: ET.Element, nic: Nic) -> None:
    kind, _, bridge = nic.backend.partition("=")
    element = ET.SubElement(devices, "interface", type=_NIC_TYPES.get(kind, "user"))
    if nic.mac:
        ET.SubElement(element, "mac", address=nic.mac)
    if kind == "bridge":
        ET.SubElement(element, "source", bridge=bridge)
    ET.SubElement(element, "model", type=_NIC_MODELS.get(nic.model, nic.model))


def _console(devices: ET.Element, machine: Machine) -> None:
    serial = ET.SubElement(devices, "serial", type="pty")
    ET.SubElement(serial, "target", port="0")
    ET.SubElement(devices, "graphics", type="vnc", autoport="yes")
    video = ET.SubElement(devices, "video")
    ET.SubElement(video, "model", type="virtio" if machine.arch == "aarch64" else "vga")


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    ET.SubElement(parent, tag, attributes).text = text


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _checked(text: str) -> str:
    if _NOT_XML.search(text):
        raise UsageError(f"libvirt cannot be told of {text!r}: XML has no such characters",
                         hint="rename the file")
    return text


def _comment(text: str) -> str:
    """A comment holds no "--" and does not end in "-"."""
    printable = "".join(c if c.isprintable() else "?" for c in text)
    return re.sub("-(?=-)|-$", "- ", printable)
