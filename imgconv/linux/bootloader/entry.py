"""What every boot loader offers: entries. And what a boot loader's module looks like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from imgconv.errors import CannotConvert, HostileInput
from imgconv.guest.protocols import Reader
from imgconv.linux.device_names import Renamer
from imgconv.model import Change

#: A menu with more entries than this, or that names more files, is none; each costs questions to
#: the appliance. So do configurations.
MAX_ENTRIES = 1000
MAX_FILES = 1000
MAX_CONFIGS = 16

#: A longer command line is none: the kernel takes 2,048 characters on x86, 4,096 at most.
LONGEST = 8192

#: As much of a title as is shown.
LONGEST_TITLE = 200


@dataclass(frozen=True, slots=True)
class BootEntry:
    """One thing the boot loader can start; paths are the guest's, `source` is the file it is in.

    `release` is what the entry says of the kernel's release, for a kernel that does not tell.
    """

    title: str
    kernel: str
    initrds: tuple[str, ...]
    cmdline: str
    source: str
    release: str = ""


class BootLoader(Protocol):
    """A module of this package: one file a boot loader."""

    NAME: str

    def detect(self, reader: Reader) -> bool:
        """Whether this boot loader's configuration is there."""
        ...

    def installed(self, reader: Reader) -> bool:
        """Whether the parts are there that only its installation leaves on the disk. A menu alone
        may be left over from a boot loader that was replaced."""
        ...

    def entries(self, reader: Reader) -> tuple[BootEntry, ...]:
        """What it offers, the default (or else the first) entry first.

        Raises CannotConvert when the default is nothing that can be converted.
        """
        ...

    def plan(self, reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
        """The edits that make its entries, now and when it regenerates them, name the disks as
        they are on the new bus."""
        ...


def locate(reader: Reader, path: str, folders: Sequence[str] = ()) -> str:
    """A path as the boot loader writes it, as the guest's path: with /boot on a filesystem of its
    own the boot loader leaves "/boot" off, and on btrfs it says the subvolume (/@/boot/vmlinuz).

    `folders` are looked into first; what is not absolute may only be there or below / and /boot.
    """
    inside = [f"{folder.rstrip('/')}/{path.lstrip('/')}" for folder in folders]
    path = "/" + path.lstrip("/")
    _, _, below = path[1:].partition("/")
    candidates = [*inside, path, f"/boot{path}"]
    candidates += [f"/{below}", f"/boot/{below}"] if below else []
    return next((name for name in candidates if reader.size(name) is not None), path)


class Places:
    """Finds the files that one configuration names, each once. Raises HostileInput when there are
    more than any menu has."""

    def __init__(self, reader: Reader, source: str, folders: Sequence[str] = ()) -> None:
        self._reader = reader
        self._source = source
        self._folders = tuple(folders)
        self._found: dict[str, str] = {}

    def __call__(self, path: str) -> str:
        if path not in self._found:
            if len(self._found) == MAX_FILES:
                raise HostileInput(f"{self._source} names more than {MAX_FILES:,} files")
            self._found[path] = locate(self._reader, path, self._folders)
        return self._found[path]


def check_number(entries: Sequence[object], source: str) -> None:
    """Raises HostileInput when a menu is full."""
    if len(entries) >= MAX_ENTRIES:
        raise HostileInput(f"{source} has more than {MAX_ENTRIES:,} menu entries")


def refuse_xen(source: str, title: str) -> CannotConvert:
    """The error for a default entry that starts the Xen hypervisor and Linux inside it: Linux there
    reaches a virtio disk only through Xen, which is no machine that imgconv could prove."""
    return CannotConvert(
        f"{source}: the default entry {title[:LONGEST_TITLE]!r} starts the Xen hypervisor",
        hint="make an entry without Xen the default one in the guest (grub-set-default, or "
             "`default` in menu.lst), see that it boots, and convert it then")
