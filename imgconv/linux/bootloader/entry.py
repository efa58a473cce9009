"""What every boot loader offers: entries. And what a boot loader's module looks like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from imgconv.guest.protocols import Reader
from imgconv.linux.device_names import Renamer
from imgconv.model import Change


@dataclass(frozen=True, slots=True)
class BootEntry:
    """One thing the boot loader can start; paths are the guest's, `source` is the file it is in."""

    title: str
    kernel: str
    initrds: tuple[str, ...]
    cmdline: str
    source: str


class BootLoader(Protocol):
    """A module of this package: one file a boot loader."""

    NAME: str

    def detect(self, reader: Reader) -> bool:
        """Whether this boot loader's configuration is there."""
        ...

    def entries(self, reader: Reader) -> tuple[BootEntry, ...]:
        """What it offers, the default (or else the first) entry first."""
        ...

    def plan(self, reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
        """The edits that make its entries, now and when it regenerates them, name the disks as
        they are on the new bus."""
        ...


def locate(reader: Reader, path: str) -> str:
    """A path as the boot loader writes it, as the guest's path: with /boot on a filesystem of its
    own the boot loader leaves "/boot" off, and on btrfs it says the subvolume (/@/boot/vmlinuz)."""
    path = "/" + path.lstrip("/")
    _, _, below = path[1:].partition("/")
    candidates = (path, f"/boot{path}", f"/{below}", f"/boot/{below}") if below else (
        path, f"/boot{path}")
    return next((name for name in candidates if reader.size(name) is not None), path)
