"""Configuration files that name disks, beside fstab and crypttab: one module each.

None of them says what is mounted where, so all have one form, and are planned and proven alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from imgconv.guest.protocols import Reader
from imgconv.linux import caches, disk_tools, lvm_devices, lvm_filter, mdadm, next_cmdlines
from imgconv.linux.config import Check
from imgconv.linux.device_names import Renamer
from imgconv.model import Change


class Config(Protocol):
    """A module for one kind of file."""

    def plan(self, reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
        """The edits after which the file names the disks as they are on the new bus."""
        ...

    def checks(self, reader: Reader, renamer: Renamer) -> Iterator[Check]:
        """What the file, as it is now, means on `renamer.bus`: each fact, right or wrong."""
        ...


CONFIGS: tuple[Config, ...] = (lvm_filter, lvm_devices, mdadm, next_cmdlines, caches, disk_tools)


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    return tuple(change for config in CONFIGS for change in config.plan(reader, renamer))


def checks(reader: Reader, renamer: Renamer) -> Iterator[Check]:
    for config in CONFIGS:
        yield from config.checks(reader, renamer)
