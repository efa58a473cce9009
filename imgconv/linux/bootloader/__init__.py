"""Boot loaders: one module each, the first that detects its configuration is the guest's."""

from __future__ import annotations

from imgconv.guest.protocols import Reader
from imgconv.linux.bootloader import grub2
from imgconv.linux.bootloader.entry import BootEntry, BootLoader

BOOTLOADERS: tuple[BootLoader, ...] = (grub2,)

__all__ = ["BOOTLOADERS", "BootEntry", "BootLoader", "detect"]


def detect(reader: Reader) -> BootLoader | None:
    """The guest's boot loader, None when it is none that we know."""
    return next((loader for loader in BOOTLOADERS if loader.detect(reader)), None)
