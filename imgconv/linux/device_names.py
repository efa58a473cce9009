"""Names of disks: what a guest calls a partition on the old bus, and what it is called on the new.

A guest installed on IDE or SATA knows its disks as /dev/hda or /dev/sda; on virtio-blk the same
disk is /dev/vda. The letter says which disk it is, in the order in which the disks are attached,
which is also the order in which the appliance names them (sda, sdb...).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from imgconv.model import Bus, Filesystem, Inspection, Names

_DISK = re.compile(r"/dev/(?P<prefix>sd|hd|vd|xvd)(?P<letters>[a-z]{1,2})(?P<number>[1-9]\d{0,2})?")

#: Prefixes of fstab's tags and the attribute that holds their value.
_TAGS = {"UUID": "uuid", "LABEL": "label", "PARTUUID": "partuuid"}
_BY_FOLDERS = {"by-uuid": "uuid", "by-label": "label", "by-partuuid": "partuuid"}


@dataclass(frozen=True, slots=True)
class DiskName:
    """A bus-dependent name taken apart: disk 0 is the first; partition None is the whole disk."""

    prefix: str
    disk: int
    partition: int | None

    def on(self, prefix: str) -> str:
        number = "" if self.partition is None else str(self.partition)
        return f"/dev/{prefix}{disk_letters(self.disk)}{number}"


def disk_letters(index: int) -> str:
    """0 -> a, 25 -> z, 26 -> aa, as the kernel counts."""
    first, last = divmod(index, 26)
    return (chr(96 + first) if first else "") + chr(97 + last)


def parse(name: str) -> DiskName | None:
    """Take /dev/sda2, /dev/hdb, /dev/xvda1, /dev/vdc3 apart; None for every other name."""
    match = _DISK.fullmatch(name)
    if match is None:
        return None
    disk = 0
    for letter in match["letters"]:
        disk = disk * 26 + ord(letter) - 96
    number = match["number"]
    return DiskName(match["prefix"], disk - 1, int(number) if number else None)


def _mapper_name(device: str) -> str:
    """The device mapper's name of a logical volume: /dev/vg-0/root -> /dev/mapper/vg--0-root"""
    parts = device.removeprefix("/dev/").split("/")
    return "/dev/mapper/" + "-".join(part.replace("-", "--") for part in parts)


@dataclass(frozen=True, slots=True)
class Renamer:
    """Knows the guest's filesystems and says what each name becomes."""

    filesystems: tuple[Filesystem, ...]
    names: Names
    bus: Bus

    @classmethod
    def of(cls, inspection: Inspection, names: Names, bus: Bus) -> Renamer:
        return cls(inspection.filesystems, names, bus)

    def filesystem(self, spec: str) -> Filesystem | None:
        """The filesystem that `spec` means, whatever the bus: /dev/hda1, UUID=..., LABEL=..."""
        tag, equals, value = spec.partition("=")
        value = value.strip("\"'")
        if not equals and spec.startswith("/dev/disk/"):
            folder, _, value = spec.removeprefix("/dev/disk/").partition("/")
            attribute = _BY_FOLDERS.get(folder)
            return self._by(attribute, value) if attribute else None
        if equals:
            return self._by(_TAGS[tag], value) if tag in _TAGS else None
        name = parse(spec)
        wanted = name.on("sd") if name is not None else spec  # the appliance's own name
        return next((f for f in self.filesystems if wanted in (f.device, _mapper_name(f.device))),
                    None)

    def _by(self, attribute: str, value: str) -> Filesystem | None:
        # UUIDs of vfat are written in either case.
        return next((f for f in self.filesystems
                     if value and str(getattr(f, attribute)).lower() == value.lower()), None)

    def rename(self, spec: str, *, by_uuid: bool = True) -> str:
        """What `spec` must be on the new bus; `spec` itself when it is right or none of ours.

        `by_uuid` is False where a UUID is not understood (a kernel without an initramfs).
        """
        name = parse(spec)
        filesystem = self.filesystem(spec)
        if name is None or filesystem is None:
            return spec
        if self.names is Names.UUID and by_uuid and filesystem.uuid:
            return f"UUID={filesystem.uuid}"
        return name.on(self.bus.disk_prefix)

    def resolves(self, spec: str) -> Filesystem | None:
        """The filesystem that `spec` means *on the new bus*; None when the name is not there."""
        name = parse(spec)
        if name is not None and name.prefix != self.bus.disk_prefix:
            return None
        return self.filesystem(spec)
