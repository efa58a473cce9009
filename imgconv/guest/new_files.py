"""New files on NTFS, as an archive that gives them the access rights of their folder.

ntfs-3g lets everybody do anything with a file that it makes, whatever it is mounted with, so any
user of the guest could replace a driver. Its extended attribute `system.ntfs_acl` is the security
descriptor (ntfs-3g(8), "Extended Attributes"), which libguestfs can read, but of its calls that
write only `tar_in` takes one: they are binary, and its other calls take text.
"""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable, Sequence
from typing import BinaryIO, Final

from imgconv.model import WriteFile

ATTRIBUTE: Final = "system.ntfs_acl"


def write(out: BinaryIO, files: Sequence[WriteFile],
          rights: Callable[[str], bytes | None]) -> None:
    """Write to `out` an archive of `files` and the folders above them that are missing.

    `rights` gives the security descriptor of a folder, None when there is no such folder.
    """
    known: dict[str, bytes] = {}
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in files:
            descriptor = _folder(tar, file.path.rpartition("/")[0], rights, known)
            tar.addfile(_member(file.path, tarfile.REGTYPE, file.mode, len(file.content),
                                descriptor), io.BytesIO(file.content))


def _folder(tar: tarfile.TarFile, path: str, rights: Callable[[str], bytes | None],
            known: dict[str, bytes]) -> bytes:
    """The descriptor of a folder, which is added where it is missing."""
    if path not in known:
        found = rights(path or "/")
        if found is None:
            if not path:
                raise ValueError("the guest has no root folder")
            found = _folder(tar, path.rpartition("/")[0], rights, known)
            tar.addfile(_member(path, tarfile.DIRTYPE, 0o755, 0, found))
        known[path] = found
    return known[path]


def _member(path: str, kind: bytes, mode: int, size: int, descriptor: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path.lstrip("/"))
    member.type, member.mode, member.size = kind, mode, size
    # tar's own way to keep an attribute; surrogates stand for what is not UTF-8.
    member.pax_headers = {f"SCHILY.xattr.{ATTRIBUTE}": descriptor.decode("utf-8",
                                                                         "surrogateescape")}
    return member
