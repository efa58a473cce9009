"""OVF, the open virtualization format (DMTF DSP0243), versions 0.9 to 2, of any hypervisor.

Elements are told by their local names: the namespaces differ among the versions.
"""

from __future__ import annotations

import re
from typing import BinaryIO
from xml.etree.ElementTree import Element

from imgconv.errors import HostileInput, ImgconvError
from imgconv.model import Firmware, Hardware, Nic, SourceDisk
from imgconv.source import safe_xml, values
from imgconv.source.safe_xml import attribute, child, children, local, text

NAME = "ovf"

_ROOT = re.compile(rb"<(?:[\w.-]{1,40}:)?Envelope[\s>]")

# CIM's numbers (CIM_ResourceAllocationSettingData, ResourceType)
_OTHER, _CPU, _MEMORY, _IDE, _SCSI, _NIC, _DISK, _SATA = "1", "3", "4", "5", "6", "10", "17", "20"

#: As in VMX files: SCSI's disks first, IDE's last. 20 is "other storage", which SATA and NVMe are.
_CONTROLLERS = {_SCSI: 0, _SATA: 1, _IDE: 2}

#: Units that older versions spell out; DSP0004 has "byte * 2^20".
_OLD_UNITS = {"bytes": 1, "kilobytes": 1 << 10, "megabytes": 1 << 20, "gigabytes": 1 << 30,
              "kb": 1 << 10, "mb": 1 << 20, "gb": 1 << 30}
_UNIT = re.compile(r"byte\s*(?:\*\s*(2|10)\s*\^\s*([0-9]{1,2}))?")

_LAST = 10**6


def recognises(head: bytes) -> bool:
    return _ROOT.search(head) is not None


def parse(file: BinaryIO) -> Hardware:
    """The machine of the descriptor; names of disks are what its References say. Raises
    ImgconvError."""
    envelope = safe_xml.parse(values.whole(file))
    system = _system(envelope)
    section = child(system, "VirtualHardwareSection")
    if section is None:
        raise values.no_description("OVF machine", "it has no VirtualHardwareSection")
    items = _items(section, _configuration(envelope))
    config = _config(section)
    vbox = child(system, "Machine")
    disks, notes = _disks(envelope, items)
    nics = _nics(items, vbox)
    values.check_counts(len(disks), len(nics))
    return Hardware(
        name=values.name(text(system, "Name") or attribute(system, "id")),
        memory=_memory(items), cpus=_cpus(items),
        firmware=_firmware(config, vbox),
        secure_boot=config.get("bootoptions.efisecurebootenabled") == "true",
        tpm=_has_tpm(items, vbox),
        nics=nics, disks=disks,
        os=values.printable(text(system, "OperatingSystemSection", "Description")),
        notes=notes)


def _system(envelope: Element) -> Element:
    if local(envelope.tag) != "Envelope":
        raise values.no_description("OVF descriptor",
                                    f"its root is <{values.printable(local(envelope.tag))}>")
    if child(envelope, "VirtualSystemCollection") is not None:
        raise ImgconvError("this appliance has several machines",
                           hint="convert each by its disks: unpack it (tar -xvf FILE for an OVA), "
                                "then imgconv virtio-ize DISK... for each")
    # Version 0.9 calls it Content.
    system = child(envelope, "VirtualSystem")
    system = child(envelope, "Content") if system is None else system
    if system is None:
        raise values.no_description("OVF descriptor", "it has no VirtualSystem")
    return system


def _configuration(envelope: Element) -> str:
    """The default of the configurations among which one may choose when deploying; "" for none."""
    section = child(envelope, "DeploymentOptionSection")
    found = [] if section is None else list(children(section, "Configuration"))
    default = next((c for c in found if attribute(c, "default") == "true"),
                   found[0] if found else None)
    return attribute(default, "id")


def _items(section: Element, configuration: str) -> list[Element]:
    """The devices; one of the configuration stands for the one of the same InstanceID."""
    found: dict[str, Element] = {}
    for number, item in enumerate(section):
        if local(item.tag) not in ("Item", "StorageItem", "EthernetPortItem"):
            continue
        wanted = attribute(item, "configuration").split()
        if not wanted or configuration in wanted:
            found[text(item, "InstanceID") or f"?{number}"] = item
    return list(found.values())


def _of_type(items: list[Element], kind: str) -> list[Element]:
    return [item for item in items if text(item, "ResourceType") == kind]


def _quantity(item: Element, what: str, limit: int) -> int:
    return values.number(text(item, "VirtualQuantity") or "0", what, limit)


def _memory(items: list[Element]) -> int:
    return values.memory(sum(_unit(text(item, "AllocationUnits") or "byte * 2^20")
                             * _quantity(item, "memory", 10**17)
                             for item in _of_type(items, _MEMORY)))


def _unit(name: str) -> int:
    """Bytes."""
    name = name.strip().lower()
    match = _UNIT.fullmatch(name)
    if match:
        return int(pow(int(match[1] or 1), int(match[2] or 0)))
    if name not in _OLD_UNITS:
        raise HostileInput(f"the unit of memory {values.printable(name)!r} is unknown",
                           hint="mend the descriptor, or give the disks without --from")
    return _OLD_UNITS[name]


def _cpus(items: list[Element]) -> int:
    count = sum(_quantity(item, "number of processors", values.MAX_CPUS)
                for item in _of_type(items, _CPU))
    return values.number(str(count), "number of processors", values.MAX_CPUS)


def _config(section: Element) -> dict[str, str]:
    """VMware's settings, `<vmw:Config vmw:key="firmware" vmw:value="efi"/>`, in lower case."""
    return {attribute(node, "key").lower(): attribute(node, "value").lower()
            for name in ("ExtraConfig", "Config") for node in children(section, name)}


def _firmware(config: dict[str, str], vbox: Element | None) -> Firmware | None:
    """VMware says it, and leaves it out for BIOS; VirtualBox does so in a machine of its own."""
    kind = config.get("firmware", "")
    if vbox is not None:
        kind = kind or attribute(child(vbox, "Hardware", "Firmware"), "type") or "bios"
    if kind.lower().startswith("efi"):
        return Firmware.UEFI
    return Firmware.BIOS if kind.lower() == "bios" else None


def _has_tpm(items: list[Element], vbox: Element | None) -> bool:
    if any(text(item, "ResourceSubType").lower() == "vmware.vtpm"
           for item in _of_type(items, _OTHER)):
        return True
    found = () if vbox is None else (node for node in vbox.iter()
                                     if local(node.tag) == "TrustedPlatformModule")
    return any(attribute(node, "type") == "v2_0" for node in found)


# --- network cards ------------------------------------------------------------------------------


def _nics(items: list[Element], vbox: Element | None) -> tuple[Nic, ...]:
    """VirtualBox writes the addresses only into its own machine, in the same order."""
    nics = [values.nic(text(item, "ResourceSubType").split(" ")[0], text(item, "Address"))
            for item in _of_type(items, _NIC)]
    adapters = [] if vbox is None else [
        node for node in vbox.iter()
        if local(node.tag) == "Adapter" and attribute(node, "enabled") == "true"]
    if len(adapters) == len(nics):
        nics = [Nic(nic.model, mac=nic.mac or values.mac(attribute(adapter, "MACAddress")))
                for nic, adapter in zip(nics, adapters, strict=True)]
    return tuple(nics)


# --- disks --------------------------------------------------------------------------------------


def _disks(envelope: Element, items: list[Element]
           ) -> tuple[tuple[SourceDisk, ...], tuple[str, ...]]:
    """The disks that have a file, by controller and place there; notes on those that have none."""
    controllers = {text(item, "InstanceID"): item for item in items
                   if text(item, "ResourceType") in _CONTROLLERS}
    files = {attribute(node, "id"): node for node in _all(envelope, "References", "File")}
    sections = {attribute(node, "diskId"): node
                for name in ("DiskSection", "Section") for node in _all(envelope, name, "Disk")}
    found, notes = [], []
    for item in _of_type(items, _DISK):
        resource = text(item, "HostResource")
        kind, _, name = resource.removeprefix("ovf:").strip("/").partition("/")
        disk = sections.get(name) if kind == "disk" else None
        file = files.get(attribute(disk, "fileRef") if kind == "disk" else name)
        if file is not None:
            found.append((_place(item, controllers), _disk(file, disk)))
        elif disk is not None and not attribute(disk, "fileRef"):
            notes.append("the source has an empty disk besides "
                         f"({values.printable(attribute(disk, 'diskId'))}), which is not made")
        else:
            raise HostileInput(f"the disk {values.printable(resource)!r} is not in the descriptor",
                               hint="the descriptor is damaged; give the disks without --from")
    return (tuple(disk for _, disk in sorted(found, key=lambda pair: pair[0])),
            tuple(notes[:values.MAX_DISKS]))


def _all(envelope: Element, section: str, name: str) -> list[Element]:
    return [node for part in children(envelope, section) for node in children(part, name)]


def _place(item: Element, controllers: dict[str, Element]) -> tuple[int, int, int]:
    """Where the disk hangs: kind of controller, its number, the place there."""
    parent = controllers.get(text(item, "Parent"))
    at = _number(text(item, "AddressOnParent"))
    if parent is None:
        return _LAST, 0, at
    number = _number(text(parent, "Address") or text(parent, "InstanceID"))
    return _CONTROLLERS[text(parent, "ResourceType")], number, at


def _number(digits: str) -> int:
    return values.number(digits, "address of a disk", _LAST) if digits else 0


def _disk(file: Element, disk: Element | None) -> SourceDisk:
    name = attribute(file, "href")
    shown = values.printable(name)
    if attribute(file, "chunkSize"):
        return SourceDisk(name, obstacle=f"{shown} is cut into pieces (ovf:chunkSize): unpack the "
                                         "appliance and join them with cat")
    packed = attribute(file, "compression")
    if packed not in ("", "identity"):
        return SourceDisk(name, obstacle=f"{shown} is compressed ({values.printable(packed)}): "
                                         "unpack the appliance and the disk (gunzip)")
    is_vmdk = "vmdk" in attribute(disk, "format").lower()
    return SourceDisk(name, "vmdk" if is_vmdk else "")
