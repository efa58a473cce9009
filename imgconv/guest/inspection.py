"""What is on the disks: operating system, firmware, filesystems, mounts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from imgconv.errors import CannotConvert, HostileInput, ImgconvError, UsageError
from imgconv.guest.appliance import Appliance
from imgconv.guest.quick import LONGEST, quick
from imgconv.guest.quick_windows import quick_windows, windows_os
from imgconv.guest.watchdog import ApplianceGone
from imgconv.model import Filesystem, Firmware, Inspection, LinuxOs, Mount, WindowsOs
from imgconv.windows import volumes

#: Partition types: the EFI system partition and the place of GRUB's core image on GPT disks.
_ESPS = {"c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "0xef"}
#: What the disks of a machine that only has Windows hold, in blkid's words.
_WINDOWS_ONLY = {"", "ntfs", "vfat", "exfat", "swap"}

#: More partitions, logical volumes and the like than this are no guest's, and each takes questions.
_MANY = 256

#: More mounts than this are no guest's; a path of a mount has no way up.
_MANY_MOUNTS = 100

_BIOS_BOOT = "21686148-6449-6e6f-744e-656564454649"

#: Partitions, by the names of the appliance; logical volumes and arrays are on no one disk.
_PARTITION = re.compile(r"(/dev/[a-z]+)\d+")

Tags = dict[str, dict[str, str]]


def inspect(appliance: Appliance, root: str | None = None) -> Inspection:
    """Inspect the disks of one guest.

    `root` is the device of the system to take when there are several. Raises CannotConvert when
    there is none that is known, UsageError when `root` is needed or wrong.
    """
    tags = _tags(appliance)
    filesystems = tuple(
        Filesystem(device, tag.get("TYPE", ""), tag.get("UUID", ""), tag.get("LABEL", ""),
                   tag.get("PART_ENTRY_UUID", tag.get("PARTUUID", "")),
                   tag.get("PART_ENTRY_NAME", tag.get("PARTLABEL", "")))
        for device, tag in tags.items())
    if root is None and {f.type for f in filesystems} <= _WINDOWS_ONLY:
        windows = quick_windows(appliance, filesystems)
        if windows is not None:
            return _windows(*windows, filesystems, tags)
    found = quick(appliance, filesystems) if root is None else None
    device, arch, mounts, system = found or _thorough(appliance, root, tags)
    if isinstance(system, WindowsOs):
        return _windows(device, arch, system, filesystems, tags)
    return Inspection(device, arch, _firmware(tags, device), filesystems, mounts, system)


def _windows(device: str, arch: str, system: WindowsOs,
             filesystems: tuple[Filesystem, ...], tags: Tags) -> Inspection:
    """A Windows has no root folder that all is mounted in: drive C: is /c here, and the partition
    that the firmware starts from, when it is another, is /system. Raises CannotConvert."""
    volumes.check(tags, device)
    mounts = [Mount(device, "/c")]
    firmware = _firmware(tags, device)
    start = _start(tags, device, firmware)
    if start != device:
        mounts.append(Mount(start, "/system"))
    return Inspection(device, arch, firmware, filesystems, tuple(mounts),
                      replace(system, systemroot=f"/c{system.systemroot}"))


def _start(tags: Tags, root: str, firmware: Firmware) -> str:
    """The partition that the firmware starts from: the first that it could, else `root`."""
    return next((partition for partition, tag in _deciding(tags, root).items()
                 if _starts(tag, firmware)), root)


def _starts(tag: dict[str, str], firmware: Firmware) -> bool:
    """Whether the firmware starts from the partition of which blkid says `tag`."""
    if tag.get("TYPE") not in ("ntfs", "vfat"):
        return False
    if firmware is Firmware.UEFI:
        return tag.get("PART_ENTRY_TYPE", "").lower() in _ESPS
    return _is_active(tag)


def _is_active(tag: dict[str, str]) -> bool:
    return tag.get("PART_ENTRY_SCHEME") == "dos" and bool(
        int(tag.get("PART_ENTRY_FLAGS", "0"), 16) & 0x80)


def _thorough(appliance: Appliance, root: str | None, tags: Tags
              ) -> tuple[str, str, tuple[Mount, ...], LinuxOs | WindowsOs]:
    """libguestfs' own inspection, for all that is not plain."""
    roots: list[str] = appliance.call("inspect_os")
    if not roots:
        volumes.check(tags, None)
        raise CannotConvert("no operating system was found on this disk",
                            hint="if the guest has several disks, give all of them, in order; "
                                 "encrypted and damaged filesystems hide a system, too")
    if root is None and len(roots) > 1:
        raise UsageError(f"there are several operating systems: {', '.join(roots)}",
                         hint="choose one with --root DEVICE")
    if root is not None and root not in roots:
        raise UsageError(f"there is no operating system on {root}",
                         hint=f"--root takes one of: {', '.join(roots)}")
    chosen = root or roots[0]
    mountpoints: dict[str, str] = appliance.call("inspect_get_mountpoints", chosen)
    mounts = tuple(Mount(device, path) for path, device in
                   sorted(mountpoints.items(), key=lambda item: (len(item[0]), item[0]))
                   if path.startswith("/") and ".." not in path.split("/"))
    if len(mounts) > _MANY_MOUNTS:
        raise HostileInput(f"the guest mounts more than {_MANY_MOUNTS} filesystems")
    return chosen, appliance.call("inspect_get_arch", chosen), mounts, _os(appliance, chosen)


def _os(appliance: Appliance, root: str) -> LinuxOs | WindowsOs:
    kind = appliance.call("inspect_get_type", root)
    product = str(appliance.call("inspect_get_product_name", root))[:LONGEST]
    version = f"{appliance.call('inspect_get_major_version', root)}." \
              f"{appliance.call('inspect_get_minor_version', root)}"
    if kind == "linux":
        distro = str(appliance.call("inspect_get_distro", root))
        # Of a Debian without lsb_release libguestfs only knows the number.
        named = product if any(map(str.isalpha, product)) else f"{distro.capitalize()} {product}"
        return LinuxOs(distro, named, version)
    if kind == "windows":
        return _windows_os(appliance, root)
    raise CannotConvert(f"this is a {kind} guest ({product})",
                        hint="imgconv converts Linux and Windows guests")


def _windows_os(appliance: Appliance, device: str) -> WindowsOs:
    folder = str(appliance.call("inspect_get_windows_systemroot", device))
    appliance.call("mount_ro", device, "/")
    software = appliance.find(f"{folder}/System32/config/SOFTWARE")
    if software is None:
        raise CannotConvert(f"the Windows on {device} has no SOFTWARE hive",
                            hint="this installation is not complete")
    found = windows_os(appliance, software, appliance.find(folder) or folder)
    appliance.call("umount_all")
    return found


def _tags(appliance: Appliance) -> Tags:
    """What blkid says of everything that could hold a filesystem: partitions, whole disks, md, LVM.
    """
    partitions: list[str] = appliance.call("list_partitions")
    whole = [disk for disk in appliance.call("list_devices")
             if not any(partition.startswith(disk) for partition in partitions)]
    devices = [*partitions, *whole, *appliance.call("list_md_devices")]
    _check_number(devices)
    tags = {device: _blkid(appliance, device) for device in devices}
    if any(tag.get("TYPE") == "LVM2_member" for tag in tags.values()):
        volumes: list[str] = appliance.call("lvs")
        _check_number([*devices, *volumes])
        tags |= {device: _blkid(appliance, device) for device in volumes}
    return tags


def _check_number(devices: list[str]) -> None:
    if len(devices) > _MANY:
        raise HostileInput(f"these disks hold more than {_MANY} partitions and volumes")


def _blkid(appliance: Appliance, device: str) -> dict[str, str]:
    try:
        return dict(appliance.call("blkid", device))
    except ApplianceGone:
        raise
    except ImgconvError:  # an extended partition has nothing that blkid could name
        return {}


def _firmware(tags: Tags, root: str) -> Firmware:
    """UEFI when there is an EFI system partition and nothing that a BIOS would start."""
    deciding = _deciding(tags, root).values()
    return Firmware.UEFI if _has_esp(deciding) and not _has_bios(deciding) else Firmware.BIOS


def _deciding(tags: Tags, root: str) -> Tags:
    """The partitions that show what starts the system on `root`: those of its own disk. What other
    disks were started from once says nothing, unless nothing starts from this one."""
    partition = _PARTITION.fullmatch(root)
    disk = partition[1] if partition is not None else root
    beside = {device: tag for device, tag in tags.items()
              if (found := _PARTITION.fullmatch(device)) is not None and found[1] == disk}
    return beside if _has_esp(beside.values()) or _has_bios(beside.values()) else tags


def _has_esp(tags: Iterable[dict[str, str]]) -> bool:
    return any(tag.get("PART_ENTRY_TYPE", "").lower() in _ESPS for tag in tags)


def _has_bios(tags: Iterable[dict[str, str]]) -> bool:
    """Whether there is what a BIOS would start."""
    return any(_is_active(tag) or tag.get("PART_ENTRY_TYPE", "").lower() == _BIOS_BOOT
               for tag in tags)
