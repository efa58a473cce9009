"""Volumes that cannot be converted, or looked into: BitLocker, dynamic disks, Storage Spaces.

`tags` is what blkid says of each block device: TYPE, PART_ENTRY_TYPE... Dynamic disks are only seen
by the type of their partitions, because blkid names what it finds inside (a simple volume begins
with plain NTFS).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from imgconv.errors import CannotConvert
from imgconv.model import Inspection

Tags = Mapping[str, Mapping[str, str]]

#: Partition types of Windows' volume managers, as blkid spells them (MBR's in hexadecimal).
_DYNAMIC: Final = ("0x42", "5808c8aa-7e8f-42e0-85d2-e1e90434cfb3",
                   "af9b60a0-1431-4f62-bc68-3311714a69ad")
_STORAGE_SPACES: Final = ("e75caf8f-f680-4cee-afa3-b001e56efc2d",)

#: blkid's word.
_BITLOCKER: Final = "BitLocker"


def check(tags: Tags, root: str | None) -> None:
    """Refuse what hides Windows or parts of it; `root` is Windows' device, None when none is seen.

    A BitLocker volume beside a Windows that can be read is for `warnings`. Raises CannotConvert.
    """
    dynamic = _of_type(tags, _DYNAMIC)
    if dynamic:
        raise CannotConvert(
            f"this is a dynamic disk ({', '.join(dynamic)})",
            hint="only basic disks can be converted: back up, and make the disk basic in Windows "
                 "(Disk Management cannot without deleting its volumes), or clone it onto one")
    pool = _of_type(tags, _STORAGE_SPACES)
    if pool:
        raise CannotConvert(
            f"this disk belongs to Storage Spaces ({', '.join(pool)})",
            hint="convert the guest without this disk, or move its volumes to a plain disk first")
    locked = sorted(device for device, tag in tags.items() if tag.get("TYPE") == _BITLOCKER)
    if locked and (root is None or root in locked):
        raise CannotConvert(
            f"{', '.join(locked)} is encrypted with BitLocker",
            hint="decrypt it in Windows (manage-bde -off C:) and wait until manage-bde -status "
                 "says Fully Decrypted; suspending the protection is not enough")


def warnings(inspection: Inspection) -> tuple[str, ...]:
    """What to say of the data volumes."""
    return tuple(
        f"{filesystem.device} is encrypted with BitLocker: have its recovery key at hand, "
        "because this Windows may not unlock it by itself on the new machine"
        for filesystem in inspection.filesystems
        if filesystem.type == _BITLOCKER and filesystem.device != inspection.root)


def _of_type(tags: Tags, types: tuple[str, ...]) -> list[str]:
    return sorted(device for device, tag in tags.items()
                  if tag.get("PART_ENTRY_TYPE", "").lower() in types)
