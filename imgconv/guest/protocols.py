"""What planners and checks may do to a guest (`Reader`) and what applying may do (`Guest`).

Paths are absolute, as the guest would write them, and symbolic links are followed inside the
guest's own root. Planners get a `Reader`, which has no method that writes, so mypy enforces that
planning is pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from imgconv.model import DeleteRegistryKey, PatchDevice, SetRegistry, WriteFile

#: A module index larger than this is no such thing (modules.alias of a distribution kernel is about
#: 1.5 MiB).
CONFIG_LIMIT = 16 << 20

#: The same for text that people or their tools write: fstab, grub.cfg, os-release.
TEXT_LIMIT = 1 << 20

#: A folder of configuration files with more entries is none.
NAMES_LIMIT = 4096


class Reader(Protocol):
    """Read-only access to the mounted guest."""

    def read(self, path: str, limit: int = CONFIG_LIMIT) -> bytes:
        """The content of a regular file.

        Raises GuestFileMissing when there is no regular file, HostileInput above `limit` bytes.
        """
        ...

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` (fewer at the end). Raises GuestFileMissing."""
        ...

    def size(self, path: str) -> int | None:
        """The size in bytes of a regular file, None when there is none at `path`."""
        ...

    def names(self, path: str) -> tuple[str, ...]:
        """The entries of a folder, sorted; () when there is no such folder.

        Raises HostileInput when there are more than NAMES_LIMIT.
        """
        ...

    def is_dir(self, path: str) -> bool: ...

    def find(self, path: str) -> str | None:
        """`path` as the guest's filesystem spells it, when letter case is ignored as Windows does;
        None when there is neither a file nor a folder."""
        ...


    def read_device(self, device: str, offset: int, size: int) -> bytes:
        """`size` bytes of a disk or partition, by the appliance's name. Raises ImgconvError."""
        ...

    def device_size(self, device: str) -> int:
        """A disk's or partition's size in bytes. Raises ImgconvError."""
        ...


class Guest(Reader, Protocol):
    """A guest that can be changed."""

    def write(self, path: str, content: bytes, mode: int) -> None:
        """Replace a file's content in place, keeping its attributes; `mode` is for a new one.

        Missing folders above a new one are made.
        """
        ...

    def create(self, files: Sequence[WriteFile]) -> None:
        """Make new files, with the folders above them. On NTFS each gets the access rights of the
        folder that it is in."""
        ...

    def append(self, path: str, content: bytes) -> None: ...

    def patch_device(self, patch: PatchDevice) -> None:
        """Carry it out; nothing is mounted any more then. Raises ImgconvError, also when the bytes
        before it are not those that were expected."""
        ...

    def edit_registry(self, hive: str, edits: Sequence[SetRegistry | DeleteRegistryKey]) -> None:
        """Carry out edits of one hive file, in order, and write it. Raises ImgconvError."""
        ...

    def run(self, argv: tuple[str, ...]) -> str:
        """Run the guest's own program; returns its output. Raises ImgconvError when it fails."""
        ...


def exists(reader: Reader, path: str) -> bool:
    """Whether there is a regular file or a folder at `path`."""
    return reader.size(path) is not None or reader.is_dir(path)


def read_text(reader: Reader, path: str, limit: int = TEXT_LIMIT) -> str | None:
    """A text file's content, None when there is none. Raises HostileInput above `limit` bytes.

    Undecodable bytes come back as surrogates, so that `to_bytes` of the result restores them.
    """
    if reader.size(path) is None:
        return None
    return reader.read(path, limit).decode("utf-8", "surrogateescape")


def to_bytes(text: str) -> bytes:
    """The inverse of `read_text`'s decoding."""
    return text.encode("utf-8", "surrogateescape")
