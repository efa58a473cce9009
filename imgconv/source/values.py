"""What all descriptions have in common: limits, numbers, addresses and names of network cards."""

from __future__ import annotations

import re
from typing import BinaryIO

from imgconv.errors import HostileInput, ImgconvError
from imgconv.model import Nic

#: Descriptions have some KiB; VMware's of a machine with everything has not yet 100.
MAX_BYTES = 4 << 20

#: In MiB. vSphere 8 gives a machine 24 TiB at most, and nobody gives more than 64.
MAX_MEMORY = 64 << 20
#: No hypervisor gives so many.
MAX_CPUS = 4096
MAX_DISKS = 256
MAX_NICS = 64

#: Longer names are cut.
_LONGEST = 100

_REMEDY = "if the description is damaged, give the disks without --from"

#: QEMU's devices of the network cards that hypervisors call by these names (lower case). What is
#: missing, QEMU does not have: VMware's first vmxnet, Hyper-V's, Xen's.
_CARDS = {
    "e1000": "e1000", "e1000e": "e1000e", "vmxnet3": "vmxnet3", "rtl8139": "rtl8139",
    "pcnet": "pcnet", "pcnet32": "pcnet", "vlance": "pcnet", "flexible": "pcnet",
    "virtio": "virtio-net-pci", "virtio-net": "virtio-net-pci",
    # VirtualBox' kinds of adapters
    "am79c970a": "pcnet", "am79c973": "pcnet", "82540em": "e1000", "82543gc": "e1000",
    "82545em": "e1000",
}


def whole(file: BinaryIO) -> bytes:
    """All of a description. Raises HostileInput when it is larger than any."""
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise HostileInput(f"it has more than {MAX_BYTES >> 20} MiB, which no description has",
                           hint="is it the right file?")
    return data


def number(text: str, what: str, limit: int) -> int:
    """A number from 0 to `limit`. Raises HostileInput for anything else."""
    if not re.fullmatch(r"[0-9]{1,18}", text.strip(), re.ASCII) or int(text) > limit:
        raise HostileInput(f"the {what} is {printable(text)!r}, and not a number up to {limit:,}",
                           hint=_REMEDY)
    return int(text)


def memory(size: int) -> int:
    """`size` in bytes as MiB, rounded up. Raises HostileInput for what no machine has."""
    return number(str(-(-size >> 20)), "memory in MiB", MAX_MEMORY)


def check_counts(disks: int, nics: int) -> None:
    """Raise HostileInput for more disks or network cards than a machine has."""
    if disks > MAX_DISKS or nics > MAX_NICS:
        raise HostileInput(f"the description has {disks} disks and {nics} network cards, more than "
                           f"{MAX_DISKS} or {MAX_NICS}", hint=_REMEDY)


def nic(model: str, address: str) -> Nic:
    """The network card; `model` is any hypervisor's name for it."""
    return Nic(_CARDS.get(model.strip().lower(), ""), mac=mac(address))


def mac(text: str) -> str:
    """The address in QEMU's form; "" where there is none that a network card can have."""
    digits = re.sub(r"[:.-]", "", text.strip().lower())
    if not re.fullmatch(r"[0-9a-f]{12}", digits, re.ASCII):
        return ""
    if int(digits[:2], 16) & 1 or digits == "0" * 12:  # a group's address, or none
        return ""
    return ":".join(digits[i:i + 2] for i in range(0, 12, 2))


def printable(text: str) -> str:
    """Foreign text for names and messages: one line, no control characters, not long."""
    return "".join(c if c.isprintable() else "?" for c in text.strip()[:_LONGEST])


def name(text: str) -> str:
    """The machine's name, which must not be a path."""
    return printable(text).replace("/", "-")


def no_description(kind: str, why: str) -> ImgconvError:
    return HostileInput(f"this is no {kind}: {why}", hint=_REMEDY)
