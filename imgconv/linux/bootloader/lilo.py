"""LILO: recognised and refused. It finds kernel and initrd by the numbers of their blocks, which it
notes when it is run, and reads no configuration when it starts."""

from __future__ import annotations

from imgconv.errors import CannotConvert
from imgconv.guest.protocols import Reader
from imgconv.linux.bootloader.entry import BootEntry
from imgconv.linux.device_names import Renamer
from imgconv.model import Change

NAME = "LILO"


def detect(reader: Reader) -> bool:
    return reader.size("/etc/lilo.conf") is not None


def installed(reader: Reader) -> bool:
    """The map of blocks that it writes."""
    return detect(reader) and reader.size("/boot/map") is not None


def entries(reader: Reader) -> tuple[BootEntry, ...]:
    """Raises CannotConvert."""
    raise CannotConvert(
        "this guest is started by LILO, which would start the old initramfs by its place on the "
        "disk", hint="install GRUB in the guest (on Debian: apt install grub-pc), remove LILO and "
                     "/etc/lilo.conf, see that it boots, and convert it then")


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    return ()
