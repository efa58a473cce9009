"""AddReg: from a line of an INF to a value of the registry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from imgconv.windows import registry
from imgconv.windows.inf_syntax import BadInf, number
from imgconv.windows.inf_types import Addition

BINARY_VALUE: Final = 0x1
DELETE_VALUE: Final = 0x4
KEY_ONLY: Final = 0x10
KEY_ONLY_COMMON: Final = 0x2000
#: The line is one of DelReg.
DELETING: Final = 0x8000

_ROOTS = ("HKR", "HKLM", "HKCR", "HKCU", "HKU")
#: A flag's type, which is its high word and whether it is binary, as a registry type. Any other
#: high word is the registry type itself.
_TEXTS = {0: registry.SZ, 1: registry.MULTI_SZ, 2: registry.EXPAND_SZ}
_BINARIES = {0: registry.BINARY, 1: registry.DWORD, 2: registry.NONE}
_BYTE = re.compile(r"(?:0x)?[0-9a-f]{1,2}", re.IGNORECASE | re.ASCII)
#: What the registry takes as a key's name.
_LONGEST_KEY = 255


def addition(fields: Sequence[str]) -> Addition | None:
    """The value that a line (its fields expanded) adds, None when it deletes. Raises BadInf."""
    root, key, name, flags_text, *values = (*fields, *[""] * (4 - len(fields)))
    flags = number(flags_text) & 0xFFFFFFFF if flags_text else 0
    if root.upper() not in _ROOTS:
        raise BadInf(f"an AddReg line of the INF begins with {root[:40]!r}")
    if flags & (DELETE_VALUE | DELETING):
        return None
    only = flags & (KEY_ONLY | KEY_ONLY_COMMON) or not (name or flags_text or any(values))
    if only:
        return Addition(root.upper(), key_path(key), None, registry.NONE, b"", flags)
    kind, data = _value(flags, values)
    return Addition(root.upper(), key_path(key), name, kind, data, flags)


def key_path(text: str) -> str:
    """A key's path without doubled, leading and trailing backslashes. Raises BadInf."""
    names = [name for name in text.split("\\") if name]
    if any(len(name) > _LONGEST_KEY for name in names):
        raise BadInf("a registry key of the INF has too long a name")
    return "\\".join(names)


def _value(flags: int, values: Sequence[str]) -> tuple[int, bytes]:
    high = flags >> 16
    if not flags & BINARY_VALUE:
        kind = _TEXTS.get(high, high)
        if kind not in _TEXTS.values():
            raise BadInf(f"an AddReg line of the INF has the unknown type {flags:#x}")
        if kind == registry.MULTI_SZ:
            return kind, registry.multi_sz("", tuple(filter(None, values))).data
        return kind, registry.sz("", values[0] if values else "").data
    kind = _BINARIES.get(high, high)
    if kind == registry.DWORD and len(values) < 2:
        return kind, _integer(values, 4)
    if kind == registry.QWORD and len(values) < 2:
        return kind, _integer(values, 8)
    data = bytes(int(value, 16) for value in _bytes(values))
    if kind == registry.DWORD and len(data) != 4:
        raise BadInf("a REG_DWORD of the INF does not have 4 bytes")
    return kind, data


def _integer(values: Sequence[str], size: int) -> bytes:
    value = number(values[0]) if values and values[0] else 0
    if not -(1 << size * 8 - 1) <= value < 1 << size * 8:
        raise BadInf(f"a number of the INF does not go into {size} bytes")
    return (value % (1 << size * 8)).to_bytes(size, "little")


def _bytes(values: Sequence[str]) -> Sequence[str]:
    """Each field is a byte, in hexadecimal without 0x (which some have all the same)."""
    found = [value for value in values if value]
    if not all(_BYTE.fullmatch(value) for value in found):
        raise BadInf("binary data of the INF is not bytes in hexadecimal")
    return found
