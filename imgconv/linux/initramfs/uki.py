"""Unified kernel images: kernel, initramfs and command line in one PE program for UEFI.

See https://uapi-group.org/specifications/specs/unified_kernel_image/. What is in one is often
signed, and nothing can be appended to its parts, so the guest has to build it anew itself.
"""

from __future__ import annotations

import struct

from imgconv.errors import CannotConvert
from imgconv.guest.protocols import Reader

#: PE allows 96 sections; the headers are in the first pages of the file.
_HEAD = 1 << 16
_MAX_SECTIONS = 96


def sections(head: bytes) -> tuple[str, ...]:
    """Names of the sections of the PE program that begins with `head`; () when it is none."""
    if head[:2] != b"MZ" or len(head) < 0x40:
        return ()
    (at,) = struct.unpack_from("<I", head, 0x3C)
    if head[at:at + 4] != b"PE\0\0" or len(head) < at + 24:
        return ()
    count, = struct.unpack_from("<H", head, at + 6)
    optional, = struct.unpack_from("<H", head, at + 20)
    table = at + 24 + optional
    rows = (head[table + 40 * row:table + 40 * row + 8] for row in range(min(count, _MAX_SECTIONS)))
    return tuple(row.rstrip(b"\0").decode("ascii", "replace") for row in rows if row)


def is_uki(reader: Reader, path: str) -> bool:
    """Whether the file at `path` is a unified kernel image: a kernel alone has no .linux."""
    if reader.size(path) is None:
        return False
    return ".linux" in sections(reader.read_range(path, 0, _HEAD))


def refuse(reader: Reader, path: str) -> None:
    """Raises CannotConvert when the file at `path` is a unified kernel image."""
    if is_uki(reader, path):
        raise CannotConvert(
            f"{path} is a unified kernel image, whose initramfs cannot be added to",
            hint="in the guest, add virtio_pci and virtio_blk to the configuration of its "
                 "initramfs tool, build the image anew (dracut --uefi, mkinitcpio -P, "
                 "kernel-install add), and convert then; or give it an entry with kernel and "
                 "initramfs apart")
