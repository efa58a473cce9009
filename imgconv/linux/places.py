"""Which of the given disks a guest's /dev/hdc is, where the letter alone does not tell.

A letter of an IDE disk is its place on the cables: hda and hdb on the first, hdc and hdd on the
second, where the second disk often was, and the optical drive even more often. The disks are given
in the order in which they were attached. So when fstab names as many disks as are given, the first
of its names is the first disk, and so on; with fewer or more than that, it cannot be told.

The same holds for a guest with disks of two kinds (hda and sda): those on IDE come first, because
its driver does. But a guest with one disk may know it as hda and as sda, from kernels before and
after libata. Names on virtio-blk (vda) are always what they say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from imgconv.linux import fstab
from imgconv.linux.device_names import DiskName, parse
from imgconv.model import Filesystem

#: The order of kinds within a guest: that in which its kernel looked for them.
_KINDS = ("hd", "ida/c0d", "cciss/c0d", "sd", "nvme", "mmcblk", "xvd")


def of(text: str, filesystems: Sequence[Filesystem]) -> tuple[tuple[str, int], ...]:
    """What the fstab `text` tells, in the form of `Renamer.places`; () where letters tell enough.
    """
    count = len({name.disk for f in filesystems if (name := parse(f.device)) is not None})
    every = _named(fstab.parse(text))
    named = [name for name in every if name.prefix in _KINDS]
    kinds = {name.prefix for name in named}
    if count > 1 and len(named) < len(every):
        return tuple((name.whole, -1) for name in named)  # some are on virtio already
    if all(name.disk < count for name in named) and (len(kinds) < 2 or count < 2):
        return ()
    if len(kinds) < 2 and kinds != {"hd"}:
        return ()  # sdc is the third disk, whether or not it was given
    if len(named) != count:
        # hda and hdb are what they say; of the others nothing is known.
        return tuple((name.whole, -1) for name in named
                     if (len(kinds) > 1 and count > 1) or (name.prefix == "hd" and name.disk > 1))
    return tuple((name.whole, place) for place, name in enumerate(named))


def _named(lines: Iterable[fstab.Line]) -> list[DiskName]:
    """The disks with a partition that is mounted, in the order in which a kernel finds them."""
    order = (*_KINDS, "vd")
    found = {(order.index(name.prefix), name.disk, name.prefix)
             for line in lines if not fstab.is_removable(line)
             if (name := parse(line.spec)) is not None and name.partition is not None}
    return [DiskName(prefix, disk, None) for _, disk, prefix in sorted(found)]
