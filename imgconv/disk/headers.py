"""The headers of image formats, parsed in memory: pure functions over bytes.

They find the *names of other files* in an image, and read them exactly as QEMU does (or find
more), because a name that QEMU finds and we do not is a hole. Errors carry no path: the caller
adds it; FILE in a hint stands for it.
"""

from __future__ import annotations

import os
import re
import struct
from typing import NamedTuple

from imgconv.errors import ImgconvError

SECTOR = 512
# The first cluster of a qcow2 holds all names; clusters have at most 2 MiB. ISO 9660 and vmdk
# descriptors (QEMU reads 1 MiB of them) end before that.
HEAD_SIZE = (2 << 20) + 1024


class Named(NamedTuple):
    """The other files that an image names, as the names stand there.

    `parts` are written along with the image (extents, a data file), `backing` only read.
    """

    parts: tuple[str, ...] = ()
    backing: str | None = None
    backing_format: str | None = None
    is_vmdk: bool = False


def format_of(head: bytes, tail: bytes) -> str:
    """The format whose magic is in the first bytes, or the last 512; "raw" when none is."""
    if head.startswith(b"QFI\xfb"):
        return "qcow2"
    if head.startswith((b"KDMV", b"COWD")) or _VMDK_TEXT.match(head):
        return "vmdk"
    if head[64:68] == b"\x7f\x10\xda\xbe":
        return "vdi"
    if head.startswith(b"vhdxfile"):
        return "vhdx"
    if head.startswith(b"conectix") or _is_fixed_vhd(tail):
        return "vpc"
    return "raw"


# --- qcow2: docs/interop/qcow2.txt in QEMU ------------------------------------------------------

_QCOW2 = struct.Struct(">4sIQIIQI")
_QCOW2_V2_LENGTH, _QCOW2_V3_LENGTH = 72, 104
_BACKING_FORMAT, _DATA_FILE = 0xE2792ACA, 0x44415441
_CORRUPT_BIT, _DATA_FILE_BIT = 1 << 1, 1 << 2
_MAX_BACKING_NAME = 1023


def qcow2(head: bytes) -> Named:
    """The names in a qcow2 header (version 2 or 3).

    Raises ImgconvError when it is none, truncated, marked corrupt, encrypted, of another
    version, or names a data file that only QEMU's own working directory would decide.
    """
    if not head.startswith(b"QFI\xfb"):
        raise ImgconvError("it is not a qcow2 image")
    if len(head) < _QCOW2_V3_LENGTH:
        raise ImgconvError("it is truncated: less than a qcow2 header",
                           hint="was it copied or downloaded completely?")
    _, version, backing_at, backing_size, cluster_bits, _, crypt = _QCOW2.unpack_from(head)
    if version not in (2, 3):
        raise ImgconvError(f"it is a qcow image of the unsupported version {version}",
                           hint="qemu-img convert -f qcow -O qcow2 FILE FILE.qcow2"
                           if version == 1 else "")
    if not 9 <= cluster_bits <= 21:
        raise ImgconvError(f"its cluster size is impossible: 2^{cluster_bits} bytes",
                           hint="the header is damaged; take the image from a backup")
    if crypt:
        raise ImgconvError("it is encrypted by QEMU", hint=(
            "decrypt it: qemu-img convert --object secret,id=k,file=PASSWORD_FILE --image-opts "
            f"driver=qcow2,encrypt.format={'aes' if crypt == 1 else 'luks'},"
            "encrypt.key-secret=k,file.filename=FILE -O qcow2 decrypted.qcow2"))
    features, = struct.unpack_from(">Q", head, 72) if version == 3 else (0,)
    if features & _CORRUPT_BIT:
        raise ImgconvError("it is marked as corrupt",
                           hint="repair it, on a copy: qemu-img check -f qcow2 -r all FILE")
    extensions = _extensions(head, version, backing_at or 1 << cluster_bits)
    parts = _data_file(extensions) if features & _DATA_FILE_BIT else ()
    if not backing_at:
        return Named(parts)
    if backing_size > _MAX_BACKING_NAME or backing_at + backing_size > len(head):
        raise ImgconvError("the name of its backing file is out of bounds",
                           hint="the header is damaged; take the image from a backup")
    return Named(parts, _text(head[backing_at:backing_at + backing_size]),
                 _text(extensions.get(_BACKING_FORMAT, b"")))


def _extensions(head: bytes, version: int, end: int) -> dict[int, bytes]:
    """The header extensions by type; of several the last one counts, as in QEMU."""
    at, = struct.unpack_from(">I", head, 100) if version == 3 else (_QCOW2_V2_LENGTH,)
    found: dict[int, bytes] = {}
    while at + 8 <= min(end, len(head)):
        kind, length = struct.unpack_from(">II", head, at)
        if kind == 0:
            break
        found[kind] = head[at + 8:at + 8 + length]
        at += 8 + (length + 7) // 8 * 8
    return found


def _data_file(extensions: dict[int, bytes]) -> tuple[str, ...]:
    name = _text(extensions.get(_DATA_FILE, b""))
    if not name:
        raise ImgconvError("it keeps its data in another file but does not say in which",
                           hint="record it: qemu-img amend -f qcow2 -o data_file=/... FILE")
    # unlike a backing file's, QEMU takes it relative to its working directory
    if not name.startswith("/"):
        raise ImgconvError(f"its data file has no absolute name: {name}", hint=(
            "record where it is, in the directory where it is found: "
            f'qemu-img amend -f qcow2 -o data_file="$PWD"/{name} FILE'))
    return (name,)


# --- vmdk: VMware's "Virtual Disk Format 5.0", and QEMU's block/vmdk.c for what is lenient -------

_VMDK_TEXT = re.compile(rb"\s*#[ \t]*Disk DescriptorFile")
_VMDK_HEADER_DESCRIPTOR_AT = 0x200
_VMDK_PARENT_LIMIT = 20 * SECTOR
_VMDK_TEXT_LIMIT = (1 << 20) - 1
# QEMU uses sscanf, for which a newline is white space like any other. The possessive ++ keeps
# hostile text from making the search quadratic.
_EXTENT = re.compile(rb'RW\s++[+-]?\d++\s*+\S{1,10}\s*+"([^"\r\n]*+)')
_PARENT = b"parentFileNameHint"


def vmdk(head: bytes) -> Named:
    """The names in a vmdk: extents of a text descriptor, the parent of either kind.

    Raises ImgconvError for a sparse header which in turn names extents.
    """
    if head.startswith((b"KDMV", b"COWD")):
        if names_further_extents(head):
            raise ImgconvError("its sparse header says that the disk is in other files",
                               hint="give the .vmdk descriptor instead, if there is one")
        parts: tuple[str, ...] = ()
        descriptor = head[_VMDK_HEADER_DESCRIPTOR_AT:]
    else:
        text = _c_string(head[:_VMDK_TEXT_LIMIT])
        parts = tuple(dict.fromkeys(_extent_name(name) for name in _EXTENT.findall(text)))
        descriptor = head
    parent = _parent(_c_string(descriptor[:_VMDK_PARENT_LIMIT]))
    return Named(parts, parent, "vmdk" if parent else None, is_vmdk=True)


def _extent_name(name: bytes) -> str:
    """QEMU puts the directory before a relative name: a colon in it is no protocol."""
    return os.fsdecode(name if name.startswith(b"/") else b"./" + name)


def _parent(descriptor: bytes) -> str | None:
    """What QEMU takes for the parent: from two characters after the word to the next quote."""
    _, found, rest = descriptor.partition(_PARENT)
    name, quote, _ = rest[2:].partition(b'"')
    return os.fsdecode(name) if found and quote else None


def names_further_extents(head: bytes) -> bool:
    """A sparse header of no capacity makes QEMU read a descriptor, with extents, inside it."""
    return (head.startswith(b"KDMV") and len(head) >= 36
            and head[12:20] == bytes(8) and head[28:36] != bytes(8))


def vmdk_version(head: bytes) -> int:
    """The version in a sparse header, 0 for a text descriptor."""
    return int.from_bytes(head[4:8], "little") if head.startswith(b"KDMV") else 0


# --- vpc (VHD): Microsoft's "Virtual Hard Disk Image Format Specification" -----------------------

_VHD_FIXED, _VHD_DYNAMIC, _VHD_DIFFERENCING = 2, 3, 4


def vpc(head: bytes, tail: bytes) -> Named:
    """A VHD names nothing that QEMU follows. Raises ImgconvError for a differencing one.

    QEMU would take that for a fixed one and show its internals as the disk.
    """
    footer = head if head.startswith(b"conectix") else tail
    if not footer.startswith(b"conectix"):
        raise ImgconvError("it is not a VHD image")
    if _vhd_type(footer) == _VHD_DIFFERENCING:
        raise ImgconvError("it is a differencing VHD, which needs its parent",
                           hint="merge it in Hyper-V first (Edit Disk, Merge)")
    return Named()


def _is_fixed_vhd(tail: bytes) -> bool:
    return tail.startswith(b"conectix") and _vhd_type(tail) == _VHD_FIXED


def _vhd_type(footer: bytes) -> int:
    return int.from_bytes(footer[60:64], "big")


# --- text in headers ----------------------------------------------------------------------------


def _c_string(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _text(data: bytes) -> str:
    return os.fsdecode(_c_string(data))
