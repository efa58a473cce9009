"""The parts of an NTFS volume that tell its state, made from nothing; and the same, changed."""

from __future__ import annotations

import struct

SECTOR, CLUSTER, RECORD = 512, 4096, 1024
_MFT, _LOG = 4, 8  # in clusters


def make_volume(*, dirty: bool = False, log: bytes = b"\xff" * 8192, heads: int = 255) -> bytes:
    """A volume that has a boot sector, the first four records, and the beginning of $LogFile."""
    records = [b"FILE".ljust(RECORD, b"\0")] * 2 + [_logfile(), _volume(dirty=dirty)]
    parts = {0: boot_sector(heads), _MFT * CLUSTER: b"".join(map(fixed_up, records)),
             _LOG * CLUSTER: log}
    volume = bytearray((_LOG + 4) * CLUSTER)
    for offset, part in parts.items():
        volume[offset:offset + len(part)] = part
    return bytes(volume)


def boot_sector(heads: int = 255, *, per_record: int = -10) -> bytes:
    sector = bytearray(SECTOR)
    sector[:11] = b"\xeb\x52\x90NTFS    "
    struct.pack_into("<HB", sector, 11, SECTOR, CLUSTER // SECTOR)
    struct.pack_into("<HH", sector, 0x18, 63, heads)
    struct.pack_into("<Qb", sector, 48, _MFT, 0)
    struct.pack_into("<b", sector, 64, per_record)
    return bytes(sector)


def restart_page(version: tuple[int, int] = (1, 1), *, clean: bool, newest: int = 0x1000) -> bytes:
    """One of the two pages that $LogFile begins with; `clean` closes its client, NTFS."""
    page = bytearray(4096)
    free, used = (0, 0xFFFF) if clean else (0xFFFF, 0)
    struct.pack_into("<4sHHQIIHhh", page, 0, b"RSTR", 30, 9, 0, 4096, 4096, 48, version[1],
                     version[0])
    struct.pack_into("<QHHHHIHHQIHH", page, 48, newest, 1, free, used, 2 if clean else 0, 45, 224,
                     64, 2 << 20, 0, 48, 64)
    struct.pack_into("<QQHHH6xI8s", page, 112, 0x1000, 0x1000, 0xFFFF, 0xFFFF, 0, 8,
                     "NTFS".encode("utf-16-le"))
    return fixed_up(bytes(page), at=30)


def fixed_up(data: bytes, at: int = 48) -> bytes:
    """`data` as it is written: the last two bytes of each sector are a number, and kept at `at`."""
    changed = bytearray(data)
    count = len(data) // SECTOR + 1
    struct.pack_into("<HH", changed, 4, at, count)
    struct.pack_into("<H", changed, at, 1)
    for index in range(1, count):
        end = index * SECTOR
        changed[at + 2 * index:at + 2 * index + 2] = data[end - 2:end]
        struct.pack_into("<H", changed, end - 2, 1)
    return bytes(changed)


def _record(attribute: bytes) -> bytes:
    header = bytearray(56)
    header[:4] = b"FILE"
    struct.pack_into("<H", header, 20, 56)
    return (bytes(header) + attribute + b"\xff" * 4).ljust(RECORD, b"\0")


def _volume(*, dirty: bool) -> bytes:
    content = struct.pack("<8xBBH", 3, 1, int(dirty))
    return _record(struct.pack("<IIBBHHHIHH", 0x70, 40, 0, 0, 24, 0, 0, len(content), 24, 0)
                   + content.ljust(16, b"\0"))


def _logfile() -> bytes:
    runs = bytes((0x11, 4, _LOG, 0)).ljust(8, b"\0")
    return _record(struct.pack("<IIBBHHHQQHH4xQQQ", 0x80, 72, 1, 0, 64, 0, 0, 0, 3, 64, 0,
                               4 * CLUSTER, 4 * CLUSTER, 4 * CLUSTER) + runs)
