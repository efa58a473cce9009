"""What is on the disks: operating system, firmware, filesystems, mounts."""

from __future__ import annotations

from imgconv.errors import CannotConvert, ImgconvError, UsageError
from imgconv.guest.appliance import Appliance
from imgconv.model import Filesystem, Firmware, Inspection, LinuxOs, Mount, WindowsOs

#: Partition types: the EFI system partition and the place of GRUB's core image on GPT disks.
_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"
_MBR_ESP = 0xEF


def inspect(appliance: Appliance, root: str | None = None) -> Inspection:
    """Inspect the disks of one guest.

    `root` is the device of the system to take when there are several. Raises CannotConvert when
    there is none that is known, UsageError when `root` is needed or wrong.
    """
    roots: list[str] = appliance.call("inspect_os")
    if not roots:
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
    filesystems = _filesystems(appliance)
    return Inspection(
        root=chosen,
        arch=appliance.call("inspect_get_arch", chosen),
        firmware=_firmware(appliance, filesystems),
        filesystems=filesystems,
        mounts=tuple(Mount(device, path) for path, device in
                     sorted(mountpoints.items(), key=lambda item: (len(item[0]), item[0]))),
        os=_os(appliance, chosen))


def _os(appliance: Appliance, root: str) -> LinuxOs | WindowsOs:
    kind = appliance.call("inspect_get_type", root)
    product = str(appliance.call("inspect_get_product_name", root))
    version = f"{appliance.call('inspect_get_major_version', root)}." \
              f"{appliance.call('inspect_get_minor_version', root)}"
    if kind == "linux":
        distro = str(appliance.call("inspect_get_distro", root))
        # Of a Debian without lsb_release libguestfs only knows the number.
        named = product if any(map(str.isalpha, product)) else f"{distro.capitalize()} {product}"
        return LinuxOs(distro, named, version)
    if kind == "windows":
        return WindowsOs(product, version, appliance.call("inspect_get_windows_systemroot", root))
    raise CannotConvert(f"this is a {kind} guest ({product})",
                        hint="imgconv converts Linux and Windows guests")


def _filesystems(appliance: Appliance) -> tuple[Filesystem, ...]:
    """Everything that could hold a filesystem or swap: partitions, whole disks, LVM, md."""
    partitions: list[str] = appliance.call("list_partitions")
    whole = [disk for disk in appliance.call("list_devices")
             if not any(partition.startswith(disk) for partition in partitions)]
    devices = [*partitions, *whole, *appliance.call("list_md_devices"), *appliance.call("lvs")]
    return tuple(_filesystem(appliance, device) for device in devices)


def _filesystem(appliance: Appliance, device: str) -> Filesystem:
    try:
        tags: dict[str, str] = appliance.call("blkid", device)
    except ImgconvError:  # an extended partition has nothing that blkid could name
        tags = {}
    return Filesystem(device, tags.get("TYPE", ""), tags.get("UUID", ""), tags.get("LABEL", ""),
                      tags.get("PART_ENTRY_UUID", tags.get("PARTUUID", "")))


def _firmware(appliance: Appliance, filesystems: tuple[Filesystem, ...]) -> Firmware:
    """UEFI when there is an EFI system partition and nothing that a BIOS would start."""
    esp = bios = False
    for filesystem in filesystems:
        device = filesystem.device
        if not device.startswith("/dev/sd") or not device[-1].isdigit():
            continue
        disk = appliance.call("part_to_dev", device)
        number = appliance.call("part_to_partnum", device)
        if appliance.call("part_get_parttype", disk) == "gpt":
            kind = appliance.call("part_get_gpt_type", disk, number).upper()
            esp = esp or kind == _ESP
            bios = bios or kind == _BIOS_BOOT
        else:
            esp = esp or appliance.call("part_get_mbr_id", disk, number) == _MBR_ESP
            bios = bios or appliance.call("part_get_bootable", disk, number)
    return Firmware.UEFI if esp and not bios else Firmware.BIOS
