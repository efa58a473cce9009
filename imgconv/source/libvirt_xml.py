"""libvirt's domain XML, as `virsh dumpxml` prints it."""

from __future__ import annotations

import re
from typing import BinaryIO
from xml.etree.ElementTree import Element

from imgconv.errors import HostileInput
from imgconv.model import Firmware, Hardware, Nic, SourceDisk
from imgconv.source import safe_xml, values
from imgconv.source.safe_xml import attribute, child, children, text

NAME = "libvirt"

_ROOT = re.compile(rb"<domain[\s>]")

#: Bytes, by libvirt's names of units (docs/formatdomain: memory), in lower case.
_UNITS = {"b": 1, "bytes": 1, "kb": 10**3, "k": 1 << 10, "kib": 1 << 10, "mb": 10**6, "m": 1 << 20,
          "mib": 1 << 20, "gb": 10**9, "g": 1 << 30, "gib": 1 << 30, "tb": 10**12, "t": 1 << 40,
          "tib": 1 << 40}

_LAST = 10**6


def recognises(head: bytes) -> bool:
    return _ROOT.search(head) is not None


def parse(file: BinaryIO) -> Hardware:
    """The machine that libvirt makes of the file. Raises ImgconvError."""
    domain = safe_xml.parse(values.whole(file))
    if domain.tag != "domain":
        raise values.no_description("libvirt domain", "its root is "
                                    f"<{values.printable(domain.tag)}>")
    devices = child(domain, "devices")
    nodes = [] if devices is None else list(devices)
    nics = tuple(_nic(node) for node in nodes if node.tag == "interface")
    disks = _disks([node for node in nodes if node.tag == "disk"
                    and node.get("device", "disk") in ("disk", "lun")])
    values.check_counts(len(disks), len(nics))
    tpm, notes = _tpm(devices)
    return Hardware(name=values.name(text(domain, "name")), memory=_memory(domain),
                    cpus=_cpus(domain), firmware=_firmware(domain),
                    secure_boot=_secure_boot(domain), tpm=tpm, nics=nics, disks=disks,
                    os=_os(domain), notes=notes)


def _memory(domain: Element) -> int:
    """What the machine starts with: <currentMemory> is what is left when the balloon is blown."""
    element = child(domain, "memory")
    if element is None:
        return 0
    unit = _UNITS.get(element.get("unit", "KiB").lower())
    if unit is None:
        raise HostileInput(f"the unit of memory {values.printable(element.get('unit', ''))!r} is "
                           "none of libvirt's", hint="mend the description")
    return values.memory(unit * values.number(text(domain, "memory"), "memory", 10**17))


def _cpus(domain: Element) -> int:
    element = child(domain, "vcpu")
    if element is None:
        return 1
    return values.number(element.get("current") or (element.text or "1"), "number of processors",
                         values.MAX_CPUS)


def _firmware(domain: Element) -> Firmware:
    loader = child(domain, "os", "loader")
    flash = loader is not None and loader.get("type") == "pflash"
    automatic = attribute(child(domain, "os"), "firmware")
    return Firmware.UEFI if automatic == "efi" or flash else Firmware.BIOS


def _secure_boot(domain: Element) -> bool:
    """Firmware that can is not enough: it needs keys, and libvirt may be told to enrol none."""
    firmware = child(domain, "os", "firmware")
    features = {} if firmware is None else {
        feature.get("name", ""): feature.get("enabled", "")
        for feature in children(firmware, "feature")}
    if "no" in (features.get("secure-boot"), features.get("enrolled-keys")):
        return False
    return (features.get("secure-boot") == "yes"
            or attribute(child(domain, "os", "loader"), "secure") == "yes")


def _tpm(devices: Element | None) -> tuple[bool, tuple[str, ...]]:
    element = None if devices is None else child(devices, "tpm")
    if element is None:
        return False, ()
    if attribute(child(element, "backend"), "version") == "1.2":
        return False, ("the source's TPM is of version 1.2, which the machine does not get",)
    return True, ()


def _nic(interface: Element) -> Nic:
    return values.nic(attribute(child(interface, "model"), "type"),
                      attribute(child(interface, "mac"), "address"))


def _os(domain: Element) -> str:
    """libosinfo's identifier, which virt-manager leaves in the metadata."""
    metadata = child(domain, "metadata")
    for node in () if metadata is None else metadata.iter():
        if safe_xml.local(node.tag) == "os" and node.get("id"):
            return values.printable(node.get("id", ""))
    return ""


def _disks(nodes: list[Element]) -> tuple[SourceDisk, ...]:
    """In the order of booting; without one, bus by bus as the document has them, vda before vdb."""
    buses: dict[str, int] = {}
    keyed = []
    for node in nodes:
        target = attribute(child(node, "target"), "dev")
        bus = buses.setdefault(target[:2], len(buses))
        boot = attribute(child(node, "boot"), "order")
        place = values.number(boot, "boot order", _LAST) if boot else _LAST
        keyed.append(((place, bus, len(target), target), _disk(node)))
    return tuple(disk for _, disk in sorted(keyed, key=lambda item: item[0]))


def _disk(node: Element) -> SourceDisk:
    kind = node.get("type", "file")
    source, driver = child(node, "source"), child(node, "driver")
    name = attribute(source, "file" if kind == "file" else "dev")
    if kind not in ("file", "block"):
        return SourceDisk("", obstacle=f"one of its disks is of the type {values.printable(kind)}, "
                                       "no file of this host")
    if not name:
        return SourceDisk("", obstacle="one of its disks has no file")
    # Never a probed format where libvirt has one: a guest can write any header into a raw disk.
    return SourceDisk(name, attribute(driver, "type") or "raw")
