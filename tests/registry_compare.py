"""What two hives differ in, by key; and a hive as other readers see it."""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import hivex
import pytest

from imgconv.model import RegistryValue
from imgconv.windows.registry import NOWHERE, Hive, Key

#: Of each key, by its path: what it holds. Paths are in the letter case of the hive.
Tree = dict[str, tuple[RegistryValue, ...]]


def differences(before: bytes, after: bytes) -> set[str]:
    """The paths of keys that are in only one of the hives, or have other values (in any order),
    another class or other security there. When a key was written last does not count."""
    one, other = _full(before), _full(after)
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


def tree(data: bytes) -> Tree:
    """A whole hive, by our own reader."""
    return {path: key.values() for path, key in Hive(data).root.walk()}


def hivex_tree(data: bytes) -> Tree:
    """A whole hive, by hivex."""
    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        handle = hivex.Hivex(file.name)

        def values(node: int) -> tuple[RegistryValue, ...]:
            return tuple(RegistryValue(handle.value_key(value), handle.value_type(value)[0]
                                       & 0xFFFFFFFF, handle.value_value(value)[1])
                         for value in handle.node_values(node))

        return {path: values(node) for path, node in _walk(
            handle.root(), lambda node: [(handle.node_name(child), child)
                                         for child in handle.node_children(node)])}


def dissect_tree(data: bytes, below: str = "") -> Tree:
    """A hive, or what is below one of its keys, by dissect.regf."""
    regf = pytest.importorskip("dissect.regf")

    def values(key: Any) -> tuple[RegistryValue, ...]:  # noqa: ANN401
        return tuple(RegistryValue("" if value.cell.NameLength == 0 else value.name, value.type,
                                   value.data) for value in key.values())

    start = regf.RegistryHive(io.BytesIO(data)).open(below)
    return {path: values(key) for path, key in _walk(
        start, lambda key: [(child.name, child) for child in key.subkeys()])}


def _walk(root: Any, children: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    left = [("", root)]
    while left:
        path, key = left.pop()
        yield path, key
        left.extend((f"{path}\\{name}" if path else name, child) for name, child in children(key))


@lru_cache(maxsize=2)
def _full(data: bytes) -> dict[str, tuple[object, ...]]:
    hive = Hive(data)
    return {path: (frozenset((value.name, value.type, value.data) for value in key.values()),
                   *_rest(hive, key))
            for path, key in hive.root.walk()}


def _rest(hive: Hive, key: Key) -> tuple[bytes, bytes]:
    """The security descriptor and the class of a key."""
    cell = hive.cell(key.offset)
    security, class_name = struct.unpack_from("<II", cell, 44)
    class_length, = struct.unpack_from("<H", cell, 74)
    descriptor = hive.cell(security)
    size, = struct.unpack_from("<I", descriptor, 16)
    return (bytes(descriptor[20:20 + size]),
            b"" if class_name == NOWHERE else bytes(hive.cell(class_name)[:class_length]))
