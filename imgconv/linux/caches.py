"""Caches of the names of disks: libblkid's and LVM's. What they remember is from the old bus.

They are emptied and not deleted: both programs take an empty cache for none, and fill it anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.config import Check, Verdict
from imgconv.linux.device_names import Renamer, hangs_on_bus
from imgconv.model import Change, WriteFile

_PATHS = ("/etc/blkid.tab", "/etc/blkid/blkid.tab", "/etc/blkid.tab.old", "/run/blkid/blkid.tab",
          "/var/run/blkid.tab", "/etc/lvm/cache/.cache", "/etc/lvm/.cache")
_NAME = re.compile(r"/dev/[\w/.:-]++")


def _stale(text: str, renamer: Renamer) -> bool:
    return any(hangs_on_bus(name) and not renamer.is_disk(name)
               for name in set(_NAME.findall(text)))


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    changes = []
    for path in _PATHS:
        if _stale(read_text(reader, path) or "", renamer):
            changes.append(WriteFile(path, b"", reader.read(path), "a cache of the names that the "
                                     "disks had; it is filled anew"))
    return tuple(changes)


def checks(reader: Reader, renamer: Renamer) -> Iterator[Check]:
    for path in _PATHS:
        if _stale(read_text(reader, path) or "", renamer):
            yield Check(path, Verdict.LATER, "is a cache of the names that the disks had")
