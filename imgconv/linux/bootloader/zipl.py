"""zipl, the boot loader of IBM's mainframes: recognised and refused. Like LILO it notes the blocks
of kernel and initrd when it is run; and its guests have virtio on another transport than PCI."""

from __future__ import annotations

from imgconv.errors import CannotConvert
from imgconv.guest.protocols import Reader
from imgconv.linux.bootloader.entry import BootEntry
from imgconv.linux.device_names import Renamer
from imgconv.model import Change

NAME = "zipl"


def detect(reader: Reader) -> bool:
    return reader.size("/etc/zipl.conf") is not None


def installed(reader: Reader) -> bool:
    return detect(reader) and reader.size("/boot/bootmap") is not None


def entries(reader: Reader) -> tuple[BootEntry, ...]:
    """Raises CannotConvert."""
    raise CannotConvert(
        "this guest is started by zipl, which would start the old initramfs by its place on the "
        "disk", hint="in the guest, add the virtio drivers to the initramfs (dracut --add-drivers "
                     "\"virtio_blk virtio_ccw\"), name its disks by UUID, and run zipl")


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    return ()
