"""Edits through hivex: what it does well is relied on, what it does not is refused."""

from __future__ import annotations

import pytest

from imgconv.errors import ImgconvError
from imgconv.model import DeleteRegistryKey, RegistryValue, SetRegistry
from imgconv.windows import registry
from imgconv.windows.hive_check import check
from imgconv.windows.registry import Hive, dword
from tests.fake_guest import FakeGuest
from tests.hives import empty_hive, make_hive
from tests.registry_compare import differences, tree

MADE = make_hive({"A\\B\\C": {"x": 1}, "A\\D": {"": "y"}})


def edited(data: bytes, *edits: SetRegistry | DeleteRegistryKey) -> bytes:
    guest = FakeGuest({"/hive": data})
    guest.edit_registry("/hive", edits)
    assert check(guest.files["/hive"]) == ()
    return guest.files["/hive"]


def put(key: str, *values: RegistryValue) -> SetRegistry:
    return SetRegistry("/hive", key, values, "")


def drop(key: str) -> DeleteRegistryKey:
    return DeleteRegistryKey("/hive", key, "")


def test_setting() -> None:
    values = (RegistryValue("", 1, b"d\0\0\0"), RegistryValue("odd", 0xFFFF0013, b"x" * 16),
              RegistryValue("é", 3, b"1"), RegistryValue("日本", 7, b""), dword("X", 5),
              RegistryValue("large", 3, b"z" * 16344))
    after = edited(MADE, put("a\\b\\c", *values))
    key = Hive(after).key("A\\B\\C")
    assert key is not None
    assert {(value.name.upper(), value.type, value.data) for value in key.values()} == {
        (value.name.upper(), value.type, value.data) for value in values}
    assert differences(MADE, after) == {"A\\B\\C"}


def test_new_keys_are_found() -> None:
    """Those above are made; "_" comes behind letters."""
    names = ["c_x", "cz", "Ca", "c^", "c{1}", "c&d", "c-1", "c", "c.inf_amd64_1", "C~"]
    after = edited(MADE, *(put(f"New\\{name}\\below") for name in names))
    for name in names:
        assert Hive(after).key(f"new\\{name}\\BELOW") is not None
    assert differences(MADE, after) == {"New", *(f"New\\{name}" for name in names),
                                        *(f"New\\{name}\\below" for name in names)}


def test_a_thousand_keys() -> None:
    after = edited(empty_hive(), *(put(f"K\\{number * 7919 % 1009:04}") for number in range(1009)))
    key = Hive(after).key("K")
    assert key is not None
    assert [found.name for found in key.subkeys()] == [f"{number:04}" for number in range(1009)]


def test_deleting() -> None:
    assert edited(MADE, drop("X\\Y"), drop("A\\D\\Y")) != b""
    assert set(tree(edited(MADE, drop("a\\b")))) == {"", "A", "A\\D"}
    assert set(tree(edited(MADE, drop("A")))) == {""}
    assert set(tree(edited(edited(MADE, drop("A")), put("A\\E")))) == {"", "A", "A\\E"}


def test_in_order() -> None:
    """A key that was deleted is another one when it comes again."""
    after = edited(MADE, put("A\\B\\New", dword("n", 1)), drop("a\\b"), put("A\\B", dword("z", 2)),
                   drop("A\\d"), put("A\\D\\F"))
    assert tree(after) == {"": (), "A": (), "A\\B": (dword("z", 2),), "A\\D": (), "A\\D\\F": ()}


def test_the_root_may_have_values() -> None:
    assert tree(edited(empty_hive(), put("", dword("n", 1)))) == {"": (dword("n", 1),)}


@pytest.mark.parametrize("key", ["", "A\\", "\\A", "A\\\\B", "A\\" + "x" * 256, "A\\x\0y"])
def test_odd_names_are_refused(key: str) -> None:
    guest = FakeGuest({"/hive": MADE})
    with pytest.raises(ImgconvError, match="cannot be edited"):
        guest.edit_registry("/hive", [put("Good"), drop(key)])
    assert guest.files["/hive"] == MADE


@pytest.mark.parametrize("name", ["Ä", "日本", "a\tb", "a\x7f"])
def test_names_that_hivex_puts_in_the_wrong_place(name: str) -> None:
    """Found and deleted they may be, but not made."""
    with pytest.raises(ImgconvError, match="can make no key with such a name"):
        edited(MADE, put(f"A\\{name}"))


@pytest.mark.parametrize("value", [
    RegistryValue("x", 3, bytes(16345)), RegistryValue("a\0b", 3, b""),
    RegistryValue("x" * 16384, 3, b"")])
def test_values_that_windows_could_not_read(value: RegistryValue) -> None:
    with pytest.raises(ImgconvError, match="cannot be edited"):
        edited(MADE, put("A", value))


def test_versions_1_3_too() -> None:
    """Boot configurations have that version."""
    after = edited(empty_hive(3), put("Objects\\{1}", registry.sz("", "x")))
    assert Hive(after).version == (1, 3)
