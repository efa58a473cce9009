"""The kernels that a guest's boot loader offers, and which disks each can drive."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from imgconv.errors import HostileInput
from imgconv.guest.protocols import Reader
from imgconv.linux import modules
from imgconv.linux.bootloader.entry import BootEntry
from imgconv.linux.modules import ModuleTree
from imgconv.model import Bus

#: The drivers a guest needs to reach its disks on each bus. The PCI transport is virtio's own;
#: a disk on virtio-scsi is a SCSI disk.
DRIVERS: dict[Bus, tuple[str, ...]] = {
    Bus.VIRTIO_BLK: ("virtio_pci", "virtio_blk"),
    Bus.VIRTIO_SCSI: ("virtio_pci", "virtio_scsi", "sd_mod"),
    Bus.SATA: ("ahci", "sd_mod"),
}


#: A guest with more kernels than this was not made by installing some.
_MAX_KERNELS = 32

#: It becomes part of paths and of commands in the guest. Never begins with a dash or a dot.
_RELEASE = r"[0-9]{1,4}\.[0-9]{1,4}[A-Za-z0-9_.+~-]{0,100}"


@dataclass(frozen=True, slots=True)
class Kernel:
    """A kernel that can be booted: every boot entry with the same image and initramfs.

    `arch` is libguestfs' word, "" where the image does not tell; a 32-bit system may well have a
    64-bit kernel.
    """

    release: str
    image: str
    initrds: tuple[str, ...]
    tree: ModuleTree
    entries: tuple[BootEntry, ...]
    arch: str = ""

    @property
    def initramfs(self) -> str | None:
        """The file that can be added to or built anew: the last, because microcode goes first."""
        return self.initrds[-1] if self.initrds else None

    def can_drive(self, bus: Bus) -> bool:
        """Whether this kernel's drivers for `bus` exist at all, in it or as modules.

        Without an initramfs only what is built in helps to find the root filesystem.
        """
        drivers = DRIVERS.get(bus, ())
        if self.initrds:
            return self.tree.has(*drivers)
        return all(self.tree.state(name) == "built in" for name in drivers)


def release_of(reader: Reader, image: str) -> str | None:
    """The release ("6.1.0-13-amd64") of the kernel file at `image`, None when it is no kernel.

    An x86 bzImage holds it in its header (Documentation/arch/x86/boot.rst: "HdrS" at 0x202, the
    version string's offset less 0x200 at 0x20E); else it is taken from the file's name.
    """
    head = reader.read_range(image, 0, 1 << 16)
    if head[0x202:0x206] == b"HdrS" and len(head) > 0x210:
        (offset,) = struct.unpack_from("<H", head, 0x20E)
        text = head[offset + 0x200:offset + 0x280].split(b"\0")[0].decode("ascii", "replace")
        words = text.split()
        if offset and words and re.fullmatch(_RELEASE, words[0]):
            return words[0]
    match = re.fullmatch(rf"(?:vmlinu[xz]|kernel|Image)-(?P<release>{_RELEASE})",
                         image.rpartition("/")[2])
    return match["release"] if match else None


def arch_of(reader: Reader, image: str) -> str:
    """The architecture of the kernel file at `image`, "" when it does not tell.

    An x86 bzImage does since boot protocol 2.12 (XLF_KERNEL_64 in xloadflags, at 0x236).
    """
    head = reader.read_range(image, 0, 0x238)
    if len(head) < 0x238 or head[0x202:0x206] != b"HdrS":
        return ""
    protocol, flags = (int.from_bytes(head[at:at + 2], "little") for at in (0x206, 0x236))
    if protocol < 0x20C:
        return ""
    return "x86_64" if flags & 1 else "i386"


def offered(reader: Reader, entries: Iterable[BootEntry]) -> tuple[Kernel, ...]:
    """The kernels of `entries`, in the boot loader's order; memory testers and such left out.

    Raises HostileInput when there are more than anybody installs.
    """
    groups: dict[tuple[str, tuple[str, ...]], list[BootEntry]] = {}
    for entry in entries:
        groups.setdefault((entry.kernel, entry.initrds), []).append(entry)
    trees: dict[str, ModuleTree] = {}
    kernels: list[Kernel] = []
    for (image, initrds), group in groups.items():
        if reader.size(image) is None:
            continue
        release = release_of(reader, image) or _said(group)
        if release is None:
            continue
        if release not in trees:
            trees[release] = modules.read(reader, release)
        tree = trees[release]
        if tree.paths or tree.builtin:
            if len(kernels) == _MAX_KERNELS:
                raise HostileInput(f"the boot loader offers more than {_MAX_KERNELS} kernels")
            kernels.append(Kernel(release, image, initrds, tree, tuple(group),
                                  arch_of(reader, image)))
    return tuple(kernels)


def _said(entries: Iterable[BootEntry]) -> str | None:
    """The release that boot entries say: an arm64 kernel of systemd-boot is in a file `linux`."""
    return next((entry.release for entry in entries
                 if re.fullmatch(_RELEASE, entry.release)), None)


def modular_drivers(kernels: Sequence[Kernel], bus: Bus) -> list[str]:
    """The drivers for `bus` that some of `kernels` has as modules, so that an initramfs needs them.
    """
    return [name for name in DRIVERS[bus]
            if any(kernel.tree.state(name) == "module" for kernel in kernels)]
