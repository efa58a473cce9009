"""AddReg lines."""

from __future__ import annotations

import pytest

from imgconv.windows import inf_registry, registry
from imgconv.windows.inf_syntax import BadInf
from imgconv.windows.inf_types import Addition


def _value(*fields: str) -> tuple[int, bytes]:
    added = inf_registry.addition(("HKR", "", "n", *fields))
    assert added is not None
    assert added.name == "n"
    return added.type, added.data


@pytest.mark.parametrize(("fields", "kind", "text"), [
    (("0", "a"), registry.SZ, "a"), (("", "a"), registry.SZ, "a"), ((), registry.SZ, ""),
    (("0x00020000", "%x%"), registry.EXPAND_SZ, "%x%"), (("0x2", "a", "b"), registry.SZ, "a")])
def test_texts(fields: tuple[str, ...], kind: int, text: str) -> None:
    found, data = _value(*fields)
    assert found == kind
    assert data.endswith(b"\0\0")
    assert registry.string(data) == text


@pytest.mark.parametrize("flags", ["0x00010000", "0x00010008"])
def test_lists(flags: str) -> None:
    found, data = _value(flags, "a", "", "b")
    assert found == registry.MULTI_SZ
    assert registry.multi_string(data) == ("a", "b")
    assert data == "a\0b\0\0".encode("utf-16-le")


@pytest.mark.parametrize(("fields", "kind", "data"), [
    (("0x00010001", "0x0000000A"), registry.DWORD, b"\x0a\0\0\0"),
    (("65537", "256"), registry.DWORD, b"\0\1\0\0"),
    (("0x10001", "-1"), registry.DWORD, b"\xff" * 4),
    (("0x10001",), registry.DWORD, b"\0" * 4),
    (("0x10001", "1", "2", "3", "ff"), registry.DWORD, b"\1\2\3\xff"),
    (("0x10003", "1"), registry.DWORD, b"\1\0\0\0"),
    (("1", "0", "ff", "A", "0x1f"), registry.BINARY, b"\0\xff\x0a\x1f"),
    (("1",), registry.BINARY, b""),
    (("0x00020001",), registry.NONE, b""),
    (("0x00020001", "41"), registry.NONE, b"A"),
    (("0x000b0001", "01", "02", "0", "0", "0", "0", "0", "80"), registry.QWORD,
     b"\1\2\0\0\0\0\0\x80"),
    (("0x000b0001", "0x1122334455"), registry.QWORD, b"\x55\x44\x33\x22\x11\0\0\0"),
    (("0x00380001", "1", "0", "F"), 0x38, b"\1\0\x0f"),
    (("0x00070001", "41", "0", "0", "0"), registry.MULTI_SZ, b"A\0\0\0"),
])
def test_numbers_and_bytes(fields: tuple[str, ...], kind: int, data: bytes) -> None:
    assert _value(*fields) == (kind, data)


@pytest.mark.parametrize("fields", [
    ("HKR", "a\\b", "", "0x00000010"), ("hkr", "\\a\\\\b\\", "ignored", "0x2010", "ignored"),
    ("HKR", "a\\b"), ("HKR", "a\\b", "", "", "")])
def test_keys_alone(fields: tuple[str, ...]) -> None:
    added = inf_registry.addition(fields)
    assert added is not None
    assert (added.root, added.key, added.name, added.data) == ("HKR", "a\\b", None, b"")


def test_the_default_value() -> None:
    assert inf_registry.addition(("HKLM", "a", "", "", "x")) == Addition(
        "HKLM", "a", "", registry.SZ, b"x\0\0\0", 0)
    assert inf_registry.addition(("HKR", "", "", "0x20002", "")) == Addition(
        "HKR", "", "", registry.EXPAND_SZ, b"\0\0", 0x20002)


@pytest.mark.parametrize("flags", ["0x4", "0x8001", "0x00010004"])
def test_what_deletes(flags: str) -> None:
    assert inf_registry.addition(("HKR", "a", "b", flags)) is None


@pytest.mark.parametrize("fields", [
    ("", "a"), ("HKEY_LOCAL_MACHINE", "a"), ("HKR", "a", "b", "flags"),
    ("HKR", "a", "b", "0x10001", "four"), ("HKR", "a", "b", "0x10001", "0x100000000"),
    ("HKR", "a", "b", "0x10001", "-2147483649"), ("HKR", "a", "b", "0x10001", "1", "2"),
    ("HKR", "a", "b", "1", "100"), ("HKR", "a", "b", "1", "g"),
    ("HKR", "a", "b", "0x00050000", "x"), ("HKR", "x" * 256, "b")])
def test_what_cannot_be(fields: tuple[str, ...]) -> None:
    with pytest.raises(BadInf) as caught:
        inf_registry.addition(fields)
    assert caught.value.hint
