"""No boot loader: the machine is given kernel, initramfs and command line from outside (QEMU's
-kernel, -initrd and -append; Xen's and Firecracker's guests; images of bare filesystems).

The newest kernel in /boot is what such a machine is given; its command line is made of fstab.
"""

from __future__ import annotations

import re

from imgconv.guest.protocols import Reader
from imgconv.linux import fstab
from imgconv.linux.bootloader.entry import BootEntry
from imgconv.linux.device_names import Renamer
from imgconv.model import Change

NAME = "no boot loader"

#: Where there is one of these there is, or was, a boot loader: one that is not known, or damaged.
_FILES = ("/etc/default/grub", "/etc/lilo.conf", "/etc/zipl.conf", "/etc/default/extlinux",
          "/etc/update-extlinux.conf", "/etc/kernel/install.conf", "/usr/sbin/grub-install",
          "/usr/sbin/grub2-install", "/sbin/grub-install", "/usr/sbin/grub-mkconfig",
          "/sbin/lilo", "/usr/bin/extlinux", "/sbin/extlinux", "/usr/bin/bootctl",
          "/boot/boot.scr", "/boot/uEnv.txt", "/boot/config.txt", "/boot/cmdline.txt")
_FOLDERS = ("/boot/grub", "/boot/grub2", "/boot/extlinux", "/boot/syslinux", "/boot/efi",
            "/boot/EFI", "/boot/loader", "/efi", "/boot/refind_linux.conf", "/boot/firmware",
            "/boot/limine")

_KERNEL = re.compile(r"(?:vmlinu[xz]|kernel|Image)(?:-(?P<version>[\w.+~-]{1,100}))?")


def detect(reader: Reader) -> bool:
    return bool(entries(reader)) and not any(
        reader.size(path) is not None for path in _FILES) and not any(map(reader.is_dir, _FOLDERS))


def installed(reader: Reader) -> bool:
    return False


def entries(reader: Reader) -> tuple[BootEntry, ...]:
    """The newest kernel that has an initramfs, or else the newest; with root= as fstab has it."""
    names = reader.names("/boot")
    kernels = [match for name in names if (match := _KERNEL.fullmatch(name))
               and reader.size(f"/boot/{name}") is not None]
    found = [(_initrd(match["version"] or "", names), match) for match in kernels]
    if not found:
        return ()
    initrd, kernel = max(found, key=lambda item: (
        item[0] is not None, [int(n[:18]) for n in re.findall(r"\d+", item[1]["version"] or "")]))
    root = next((line for line in fstab.lines(reader) if line.path == "/"), None)
    cmdline = f"root={root.spec} rootfstype={root.type} ro" if root is not None else ""
    return (BootEntry(kernel[0], f"/boot/{kernel[0]}", (f"/boot/{initrd}",) if initrd else (),
                      cmdline.replace(" rootfstype=auto", ""), fstab.PATH),)


def _initrd(version: str, names: tuple[str, ...]) -> str | None:
    """What the tools of the distributions name the initramfs of a kernel."""
    tail = f"-{version}" if version else ""
    wanted = (f"initrd.img{tail}", f"initramfs{tail}.img", f"initramfs{tail}", f"initrd{tail}",
              f"initrd{tail}.img")
    return next((name for name in wanted if name in names), None)


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    """The command line comes from fstab, which is planned anyway."""
    return ()
