"""Boot loaders: one module each.

A disk may hold the configurations of several: an older one's menu is left when another is
installed. The code in the MBR is in no file, so what tells is what each installation leaves beside
its configuration (`installed`); where that does not decide, the order of BOOTLOADERS does, newest
first. The configurations of all are edited, the entries of the one in use are proven.
"""

from __future__ import annotations

from imgconv.guest.protocols import Reader
from imgconv.linux.bootloader import (
    direct,
    extlinux,
    grub2,
    grub_legacy,
    lilo,
    systemd_boot,
    zipl,
)
from imgconv.linux.bootloader.entry import BootEntry, BootLoader
from imgconv.linux.device_names import Renamer
from imgconv.model import Change

BOOTLOADERS: tuple[BootLoader, ...] = (systemd_boot, grub2, grub_legacy, extlinux, zipl, lilo,
                                       direct)

__all__ = ["BOOTLOADERS", "BootEntry", "BootLoader", "detect", "found", "plan"]


def found(reader: Reader) -> tuple[BootLoader, ...]:
    """The boot loaders whose configuration is there, the one in use first."""
    there = [loader for loader in BOOTLOADERS if loader.detect(reader)]
    if len(there) < 2:
        return tuple(there)
    return tuple(sorted(there, key=lambda loader: not loader.installed(reader)))


def detect(reader: Reader) -> BootLoader | None:
    """The guest's boot loader, None when it is none that we know."""
    return next(iter(found(reader)), None)


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    """The edits of every boot loader's configuration. Two may read the same entries."""
    return tuple(dict.fromkeys(change for loader in found(reader)
                               for change in loader.plan(reader, renamer)))
