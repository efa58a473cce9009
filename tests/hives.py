"""Hives to test with, made from nothing: an empty one of our own, which hivex fills."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Mapping
from functools import reduce
from operator import xor
from pathlib import Path
from typing import Any

from imgconv.model import RegistryValue
from imgconv.windows import registry
from imgconv.windows.hive_logs import marvin32

#: REG_SZ, REG_DWORD, REG_BINARY, REG_MULTI_SZ; or all there is to say (its name is not looked at).
Value = RegistryValue | str | int | bytes | tuple[str, ...]

_HEADER = 4096
_BIN = 4096
_NOTHING = 0xFFFFFFFF
#: 2020-01-01, as Windows counts time.
_TIME = 132_223_104_000_000_000


def make_hive(tree: Mapping[str, Mapping[str, Value]]) -> bytes:
    """A hive with these keys (paths with backslashes, "" is the root) and their values.

    Keys above are made. A value's own name ("" is the default value) is the mapping's key.
    """
    import hivex

    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(empty_hive())
        handle = hivex.Hivex(file.name, write=True)
        nodes = {"": handle.root()}
        for path, values in tree.items():
            node = _node(handle, nodes, path)
            if values:
                handle.node_set_values(node, [_hivex(name, value)
                                              for name, value in values.items()])
        handle.commit(None)
        return Path(file.name).read_bytes()


def empty_hive(minor: int = 5) -> bytes:
    """A hive of one key, the root, without subkeys and values; its version is 1.`minor`."""
    key_cell, sk_cell = 0x20, 0x78
    descriptor = _descriptor()
    root = _cell(struct.pack("<2sHQ8I2I5I2H4s", b"nk", 0x2C, _TIME, 0, 0, 0, 0, _NOTHING, _NOTHING,
                             0, _NOTHING, sk_cell, _NOTHING, 0, 0, 0, 0, 0, 4, 0, b"ROOT"))
    security = _cell(struct.pack("<2sHIIII", b"sk", 0, sk_cell, sk_cell, 1, len(descriptor))
                     + descriptor)
    assert key_cell + len(root) == sk_cell
    cells = root + security
    free = _BIN - key_cell - len(cells)
    hbin = struct.pack("<4sIIQQI", b"hbin", 0, _BIN, 0, _TIME, 0) + cells + struct.pack(
        "<i", free).ljust(free, b"\0")
    header = struct.pack("<4sIIQIIIIIII64s", b"regf", 1, 1, _TIME, 1, minor, 0, 1, key_cell, _BIN,
                         1, "made for a test".encode("utf-16-le"))
    return with_checksum(header.ljust(_HEADER, b"\0")) + hbin


def with_checksum(hive: bytes) -> bytes:
    """`hive` with the checksum that its header ought to have."""
    checksum = reduce(xor, struct.unpack_from("<127I", hive))
    return hive[:508] + struct.pack("<I", {0: 1, _NOTHING: _NOTHING - 1}.get(
        checksum, checksum)) + hive[512:]


def _cell(content: bytes) -> bytes:
    size = -(-(len(content) + 4) // 8) * 8
    return (struct.pack("<i", -size) + content).ljust(size, b"\0")


def _descriptor() -> bytes:
    """Full control for the system and the administrators, who own it."""
    system = struct.pack("<BB6sI", 1, 1, b"\0\0\0\0\0\5", 18)
    administrators = struct.pack("<BB6sII", 1, 2, b"\0\0\0\0\0\5", 32, 544)
    entries = b"".join(struct.pack("<BBHI", 0, 2, 8 + len(sid), 0xF003F) + sid
                       for sid in (system, administrators))
    acl = struct.pack("<BBHHH", 2, 0, 8 + len(entries), 2, 0) + entries
    owner = 20 + len(acl)
    return struct.pack("<BBHIIII", 1, 0, 0x8004, owner, owner + len(administrators), 0, 20
                       ) + acl + administrators + system


def _node(handle: Any, nodes: dict[str, int], path: str) -> int:  # noqa: ANN401  no types
    """The handle of a key, which is made where it is missing. Letter case is ignored."""
    if path.upper() not in nodes:
        above, _, name = path.rpartition("\\")
        parent = _node(handle, nodes, above)
        nodes[path.upper()] = handle.node_add_child(parent, name)
    return nodes[path.upper()]


def _hivex(name: str, value: Value) -> dict[str, object]:
    match value:
        case RegistryValue():
            full = value
        case str():
            full = registry.sz(name, value)
        case int():
            full = registry.dword(name, value)
        case bytes():
            full = registry.binary(name, value)
        case tuple():
            full = registry.multi_sz(name, value)
    return {"key": name, "t": full.type, "value": full.data}


# --- what Windows leaves when it stops suddenly -------------------------------------------------


def with_sequences(hive: bytes, primary: int, secondary: int) -> bytes:
    """`hive` with these sequence numbers; it is dirty when they differ."""
    return with_checksum(hive[:4] + struct.pack("<II", primary, secondary) + hive[12:])


def log_entry(sequence: int, before: bytes, after: bytes) -> bytes:
    """An entry of a log of the new format that makes one hive the other."""
    pages = [offset for offset in range(_HEADER, len(after), _BIN)
             if before[offset:offset + _BIN] != after[offset:offset + _BIN]]
    references = b"".join(struct.pack("<II", page - _HEADER, _BIN) for page in pages)
    content = references + b"".join(after[page:page + _BIN] for page in pages)
    size = -(-(40 + len(content)) // 512) * 512
    flags, = struct.unpack_from("<I", after, 144)
    return signed(struct.pack("<4sIIIIIQQ", b"HvLE", size, flags, sequence, len(after) - _HEADER,
                              len(pages), 0, 0) + content.ljust(size - 40, b"\0"))


def signed(entry: bytes) -> bytes:
    """An entry with the hashes that it ought to have."""
    head = entry[:24] + struct.pack("<Q", marvin32(entry[40:]))
    return head + struct.pack("<Q", marvin32(head)) + entry[40:]


def new_log(hive: bytes, *entries: bytes) -> bytes:
    """A log of the new format; `hive` is the one it belongs to."""
    first = entries[0][12:16] if entries else struct.pack("<I", 1)
    header = hive[:4] + first + first + hive[12:28] + struct.pack("<I", 6) + hive[32:512]
    return with_checksum(header) + b"".join(entries)


def old_log(before: bytes, after: bytes, sequence: int) -> bytes:
    """A log of the old format that makes one hive the other."""
    header = after[:4] + struct.pack("<II", sequence, sequence) + before[12:20] + after[20:28]
    dirty = [before[at:at + 512] != after[at:at + 512] for at in range(_HEADER, len(after), 512)]
    bitmap = sum(1 << bit for bit, is_dirty in enumerate(dirty) if is_dirty)
    vector = b"DIRT" + bitmap.to_bytes(len(dirty) // 8, "little")
    return (with_checksum(header + struct.pack("<I", 1) + after[32:512])
            + vector.ljust(-(-len(vector) // 512) * 512, b"\0")
            + b"".join(after[_HEADER + 512 * bit:][:512] for bit, is_dirty in enumerate(dirty)
                       if is_dirty))
