"""Names of disks: what a guest calls a partition on the old bus, and what it is called on the new.

A guest installed on IDE or SATA knows its disks as /dev/hda or /dev/sda; on virtio-blk the same
disk is /dev/vda. The letter says which disk it is, in the order in which the disks are attached,
which is also the order in which the appliance names them (sda, sdb...).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from imgconv.model import Bus, Filesystem, Inspection, Names

_DISK = re.compile(r"/dev/(?P<prefix>sd|hd|vd|xvd)(?P<letters>[a-z]{1,2})(?P<number>[1-9]\d{0,2})?")
_LETTERED = ("sd", "hd", "vd", "xvd")
_NUMBERED = re.compile(r"/dev/(?P<prefix>nvme(?=\d{1,2}n1)|mmcblk|(?:cciss|ida)/c0d)"
                       r"(?P<disk>\d{1,2})"
                       r"(?:n1)?(?:p(?P<number>[1-9]\d{0,2}))?")

#: udev's names made of the bus, or of what the disk says of itself on that bus. Those of the device
#: mapper, LVM and md (dm-, lvm-, md-) hang on what is on the disk and stay.
_OF_BUS = re.compile(r"/dev/disk/by-(?:path/|id/(?:ata|ide|scsi|usb|wwn|nvme|edd|virtio)-)"
                     r"[^/]*?(?:-part(?P<number>[1-9]\d{0,2}))?")

_ESCAPE = re.compile(r"\\(?:([0-3][0-7]{2})|x([0-9a-fA-F]{2}))")

#: What is written into the guest's files as a UUID: nothing that ends a word, a quote or a line
#: there. A filesystem's superblock may hold anything. The longest are those of LVM (38).
_UUID = re.compile(r"[A-Za-z0-9-]{1,64}")

#: Prefixes of fstab's tags and the attribute that holds their value.
_TAGS = {"UUID": "uuid", "LABEL": "label", "PARTUUID": "partuuid", "PARTLABEL": "partlabel"}
_BY_FOLDERS = {f"by-{attribute}": attribute for attribute in _TAGS.values()}
_LABELS = ("label", "partlabel")


@dataclass(frozen=True, slots=True)
class DiskName:
    """A bus-dependent name taken apart: disk 0 is the first; partition None is the whole disk."""

    prefix: str
    disk: int
    partition: int | None

    @property
    def whole(self) -> str:
        """The name of the whole disk, without /dev/: "hdc"."""
        lettered = self.prefix in _LETTERED
        return self.prefix + (disk_letters(self.disk) if lettered else str(self.disk))

    def on(self, prefix: str) -> str:
        number = "" if self.partition is None else str(self.partition)
        return f"/dev/{prefix}{disk_letters(self.disk)}{number}"


def disk_letters(index: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa, as the kernel counts."""
    first, last = divmod(index, 26)
    return (chr(96 + first) if first else "") + chr(97 + last)


def parse(name: str) -> DiskName | None:
    """Take /dev/sda2, /dev/hdb, /dev/xvda1, /dev/vdc3, /dev/nvme0n1p2, /dev/mmcblk0p1,
    /dev/cciss/c0d0p1 and /dev/ida/c0d0p1 apart; None for every other name. (Of a second namespace
    or a second controller's disks the number does not tell which disk it is.)"""
    if numbered := _NUMBERED.fullmatch(name):
        return DiskName(numbered["prefix"], int(numbered["disk"]),
                        int(numbered["number"]) if numbered["number"] else None)
    match = _DISK.fullmatch(name)
    if match is None:
        return None
    disk = 0
    for letter in match["letters"]:
        disk = disk * 26 + ord(letter) - 96
    number = match["number"]
    return DiskName(match["prefix"], disk - 1, int(number) if number else None)


def hangs_on_bus(name: str) -> bool:
    """Whether a disk loses `name` when it moves to another bus; also by-path and by-id do that."""
    return parse(name) is not None or _OF_BUS.fullmatch(name) is not None


def _plain(value: str) -> str:
    """A label as it is on the disk: fstab writes a blank as \\040, udev as \\x20."""
    return _ESCAPE.sub(lambda m: chr(int(m[1], 8) if m[1] else int(m[2], 16)), value)


def _mapper_name(device: str) -> str:
    """The device mapper's name of a logical volume: /dev/vg-0/root -> /dev/mapper/vg--0-root"""
    parts = device.removeprefix("/dev/").split("/")
    return "/dev/mapper/" + "-".join(part.replace("-", "--") for part in parts)


def _prefixes(bus: Bus) -> tuple[str, ...]:
    """What disks on `bus` may be called. A bus that is not virtio is the one the guest had, and the
    drivers before libata called its disks hd."""
    return ("sd", "hd", "disk/by-") if bus is Bus.IDE else (bus.disk_prefix,)


@dataclass(frozen=True, slots=True)
class Renamer:
    """Knows the guest's filesystems and says what each name becomes.

    `places` says which disk some names are, as places.py found out: (("hdc", 1),) when the guest's
    /dev/hdc is the second of the given disks. A place of -1 is one that cannot be told.
    """

    filesystems: tuple[Filesystem, ...]
    names: Names
    bus: Bus
    places: tuple[tuple[str, int], ...] = ()

    @classmethod
    def of(cls, inspection: Inspection, names: Names, bus: Bus,
           places: tuple[tuple[str, int], ...] = ()) -> Renamer:
        return cls(inspection.filesystems, names, bus, places)

    def filesystem(self, spec: str) -> Filesystem | None:
        """The filesystem that `spec` means, whatever the bus: /dev/hda1, UUID=..., LABEL=..."""
        tag, equals, value = spec.partition("=")
        value = value.strip("\"'")
        if spec.startswith("/dev/disk/") and self._name(spec) is None:
            folder, _, value = spec.removeprefix("/dev/disk/").partition("/")
            attribute = _BY_FOLDERS.get(folder)
            return self._by(attribute, value) if attribute else None
        if equals and not spec.startswith("/dev/"):
            return self._by(_TAGS[tag], value) if tag in _TAGS else None
        name = self._name(spec)
        if name is not None and self._bare(name):
            name = replace(name, partition=None)
        wanted = name.on("sd") if name is not None else spec  # the appliance's own name
        return next((f for f in self.filesystems if wanted in (f.device, _mapper_name(f.device))),
                    None)

    def _by(self, attribute: str, value: str) -> Filesystem | None:
        def plain(text: str) -> str:
            # UUIDs of vfat are written in either case; labels are not the same in another.
            return text if attribute in _LABELS else text.lower()

        wanted = plain(_plain(value))
        return next((f for f in self.filesystems
                     if wanted and plain(getattr(f, attribute)) == wanted), None)

    def _disks(self) -> set[int]:
        return {name.disk for f in self.filesystems if (name := parse(f.device)) is not None}

    def _name(self, spec: str) -> DiskName | None:
        """Which disk `spec` is; by-path and by-id tell only where there is but one.

        So do hdc, hdd...: that letter is the place on the IDE cables (hdc is the second one's
        first), and not the number of the disk, unless `places` says which.
        """
        match = _OF_BUS.fullmatch(spec)
        if match is None:
            name = parse(spec)
            if name is None:
                return None
            place = dict(self.places).get(name.whole)
            if place is not None:
                return replace(name, disk=place) if place >= 0 else None
            placed = name.prefix == "hd" and name.disk > 1
            return None if placed and len(self._disks()) > 1 else name
        number = match["number"]
        return DiskName("disk/by-", 0, int(number) if number else None) \
            if self._disks() == {0} else None

    def _bare(self, name: DiskName) -> bool:
        """Whether `name` is the first partition of a disk with a filesystem and no partitions: Xen
        gives its guests single filesystems as xvda1 or sda1."""
        found = [other for f in self.filesystems if (other := parse(f.device)) is not None
                 and other.disk == name.disk]
        return name.partition == 1 and [other.partition for other in found] == [None]

    def _unique(self, filesystem: Filesystem) -> bool:
        """Whether the UUID means this filesystem only: a copied disk has those of its original. The
        members of a btrfs share theirs, rightly."""
        return filesystem.type == "btrfs" or not any(
            other.uuid == filesystem.uuid and other.device != filesystem.device
            for other in self.filesystems)

    def rename(self, spec: str, *, by_uuid: bool = True) -> str:
        """What `spec` must be on the new bus; `spec` itself when it is right or none of ours.

        `by_uuid` is False where a UUID is not understood (a kernel without an initramfs).
        """
        name = self._name(spec)
        filesystem = self.filesystem(spec)
        if name is None or filesystem is None:
            return spec
        if (self.names is Names.UUID and by_uuid and _UUID.fullmatch(filesystem.uuid)
                and self._unique(filesystem)):
            return f"UUID={filesystem.uuid}"
        return self._on_new_bus(name)

    def _on_new_bus(self, name: DiskName) -> str:
        if self._bare(name):
            name = replace(name, partition=None)
        return name.on(self.bus.disk_prefix)

    def rename_disk(self, spec: str) -> str:
        """What a whole disk (or a partition) must be called on the new bus, by device name: where a
        boot loader is installed to, say. `spec` itself when it is none of ours."""
        name = self._name(spec)
        if name is None or name.disk not in self._disks():
            return spec
        return self._on_new_bus(name)

    def is_disk(self, spec: str) -> bool:
        """Whether `spec` is a whole disk (or a partition of one) of ours *on the new bus*."""
        name = self._name(spec)
        return (name is not None and name.prefix in _prefixes(self.bus)
                and name.disk in self._disks())

    def resolves(self, spec: str) -> Filesystem | None:
        """The filesystem that `spec` means *on the new bus*; None when the name is not there."""
        name = self._name(spec)
        if name is not None and (name.prefix not in _prefixes(self.bus) or (
                self._bare(name) and name.prefix == "vd")):
            return None
        return self.filesystem(spec)
