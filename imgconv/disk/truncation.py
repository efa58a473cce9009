"""Was this image copied completely? What the image itself says of where its data ends.

A truncated image opens without complaint, and fails in the middle of the work or, worse, reads as
zeros. Checking every cluster is qemu-img check's business and takes minutes; these checks read a
few MiB.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

_SECTOR = 512

# docs/interop/qcow2.txt: the host offset in an entry of an L1 table and in one for a normal cluster
_OFFSET_MASK = 0x00FF_FFFF_FFFF_FE00
_COMPRESSED = 1 << 62
_MAX_L1_BYTES = 32 << 20  # QEMU's own limit
_EXTERNAL_DATA, _EXTENDED_L2 = 1 << 2, 1 << 4

_VMDK_AT_END = 0xFFFF_FFFF_FFFF_FFFF

#: What is allocated last lies last, so the L2 tables that lie last tell enough.
_L2_TABLES = 64


def is_truncated(path: Path, fmt: str) -> bool:
    """Whether the image's own tables point behind its end; False for formats without such a check.
    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        try:
            if fmt == "qcow2":
                return any(offset >= size for offset in _qcow2_offsets(file.fileno()))
            if fmt == "vdi":
                return _vdi_end(file.fileno()) > size
            if fmt == "vmdk":
                return any(offset >= size for offset in _vmdk_offsets(file.fileno()))
            if fmt == "raw":
                return any(end > size for end in _partition_ends(file.fileno()))
        # A table itself is cut off, or said to be where no file can have anything.
        except (struct.error, OverflowError, OSError):
            return True
    return False


def _qcow2_offsets(fd: int) -> Iterator[int]:
    """Host offsets, in bytes, of tables and data clusters."""
    bits, = struct.unpack(">I", os.pread(fd, 4, 20))
    entries, l1_offset = struct.unpack(">IQ", os.pread(fd, 12, 36))
    version, = struct.unpack(">I", os.pread(fd, 4, 4))
    features = struct.unpack(">Q", os.pread(fd, 8, 72))[0] if version >= 3 else 0
    length = min(entries * 8, _MAX_L1_BYTES) // 8
    l1 = struct.unpack(f">{length}Q", os.pread(fd, length * 8, l1_offset))
    tables = sorted({entry & _OFFSET_MASK for entry in l1} - {0})
    yield from tables
    if features & _EXTERNAL_DATA or not 9 <= bits <= 21:
        return
    step = 2 if features & _EXTENDED_L2 else 1
    count = (1 << bits) // 8
    for table in tables[-_L2_TABLES:]:
        l2 = struct.unpack(f">{count}Q", os.pread(fd, count * 8, table))
        yield max((entry & _OFFSET_MASK for entry in l2[::step] if not entry & _COMPRESSED),
                  default=0)


def _vdi_end(fd: int) -> int:
    """Where the last allocated block ends; the header's fields as in QEMU's block/vdi.c."""
    data, = struct.unpack("<I", os.pread(fd, 4, 0x158))
    block, _, _, allocated = struct.unpack("<IIII", os.pread(fd, 16, 0x178))
    return int(data + block * allocated)


def _vmdk_offsets(fd: int) -> Iterator[int]:
    """Host offsets, in bytes, of a sparse extent's grains (VMware, "Virtual Disk Format 5.0").

    A descriptor and the stream-optimised kind, whose tables follow its data, have none.
    """
    header = os.pread(fd, _SECTOR, 0)
    if not header.startswith(b"KDMV") or len(header) < _SECTOR:
        return
    capacity, grain, _, _, entries, _, directory = struct.unpack_from("<QQQQIQQ", header, 12)
    if directory == _VMDK_AT_END or not grain or not 0 < entries <= 512:
        return
    tables = min(-(-capacity // (grain * entries)), _MAX_L1_BYTES // 4)
    offsets = struct.unpack(f"<{tables}I", os.pread(fd, tables * 4, directory * _SECTOR))
    last = sorted(set(offsets) - {0})
    yield from (offset * _SECTOR for offset in last)
    for offset in last[-_L2_TABLES:]:
        grains = struct.unpack(f"<{entries}I", os.pread(fd, entries * 4, offset * _SECTOR))
        yield max(grains) * _SECTOR


def _partition_ends(fd: int) -> Iterator[int]:
    """Where the partitions of an MBR or GPT end, in bytes. Other things that stand in the place of
    a partition table (a boot sector of a whole-disk filesystem) name no plausible partitions."""
    mbr = os.pread(fd, _SECTOR, 0)
    if len(mbr) < _SECTOR or mbr[510:] != b"\x55\xaa":
        return
    rows = [struct.unpack_from("<B3xB3xII", mbr, 446 + 16 * index) for index in range(4)]
    if any(status not in (0, 0x80) for status, *_ in rows):
        return
    for _, kind, start, sectors in rows:
        if kind == 0xEE:
            header = os.pread(fd, _SECTOR, _SECTOR)
            if header.startswith(b"EFI PART"):
                last_usable, = struct.unpack_from("<Q", header, 48)
                yield (last_usable + 1) * _SECTOR
        elif kind and start:
            yield (start + sectors) * _SECTOR
