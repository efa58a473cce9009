"""The check of hives: real ones pass, and each kind of damage is found."""

from __future__ import annotations

import re
import struct
import time

import pytest

from imgconv.windows.hive_check import check, name_hash
from imgconv.windows.registry import Hive
from tests.hives import empty_hive, make_hive, with_checksum, with_sequences
from tests.windows_data import hive, needs_data

BASE = 4096
MADE = make_hive({"A\\B": {"x": "text" * 9, "é": b"1" * 99, "n": 1}, "A\\C_D": {}, "A\\CE": {},
                  "a": {"other": "v" * 50}})


@needs_data
@pytest.mark.parametrize(("name", "problems"), [
    ("SYSTEM-win7-x86", ()), ("BCD", ()),
    ("SYSTEM-win8.1-x64", ("its sequence numbers differ (205, 204)",)),
    ("SYSTEM-win10-1709-x64", ("its sequence numbers differ (1622, 1621)",)),
    ("corrupted-hive", ("the bin at 0x19000 is damaged",))])
def test_real_hives(name: str, problems: tuple[str, ...]) -> None:
    data = hive(name)
    start = time.process_time()
    assert check(data) == problems
    assert time.process_time() - start < 1


def test_made_hives() -> None:
    assert check(MADE) == ()
    for minor in (3, 5):
        assert check(empty_hive(minor)) == ()


def test_headers() -> None:
    assert check(b"") == check(b"regf" * 9) == check(bytes(9000)) == ("it is no registry hive",)
    assert check(with_sequences(MADE, 3, 2)) == ("its sequence numbers differ (3, 2)",)
    assert check(MADE[:100] + b"\1" + MADE[101:]) == ("its header's checksum is wrong",)
    assert check(MADE[:-BASE]) == ("its bins are larger than the file",)
    assert "is damaged" in check(MADE[:BASE] + b"hbim" + MADE[BASE + 4:])[0]


def damaged(find: str, offset: int, fmt: str, value: int) -> tuple[str, ...]:
    """The problems when something of the key `find` has another value."""
    key = Hive(MADE).key(find)
    assert key is not None
    data = bytearray(MADE)
    struct.pack_into(fmt, data, BASE + key.offset + 4 + offset, value)
    return check(bytes(data))


@pytest.mark.parametrize(("offset", "fmt", "value", "problem"), [
    (0, "<H", 0, "a subkey of 'ROOT' at .* is damaged"), (16, "<I", 0x28, "names another parent"),
    (20, "<I", 4, "counts 4 subkeys, not 3"), (20, "<I", 2, "counts 2 subkeys, not 3"),
    (28, "<I", 0x20, "the list of subkeys of 'A'"), (36, "<I", 9, "is cut off"),
    (40, "<I", 0x24, "the list of values of 'A'"), (44, "<I", 0x20, "a security descriptor"),
    (72, "<H", 600, "is damaged"), (-4, "<i", 0, "the cell at"),
    (-4, "<i", -8, "the cell at|is cut off")])
def test_damaged_keys(offset: int, fmt: str, value: int, problem: str) -> None:
    problems = damaged("A", offset, fmt, value)
    assert problems
    assert re.search(problem, " ".join(problems))


def test_free_cells_hold_no_keys() -> None:
    key = Hive(MADE).key("A")
    assert key is not None
    size, = struct.unpack_from("<i", MADE, BASE + key.offset)
    assert "a subkey of 'ROOT' is said to be at" in damaged("A", -4, "<i", -size)[0]


def test_order_and_hashes() -> None:
    """"_" comes after the letters, because Windows compares capitals."""
    a = Hive(MADE).key("A")
    assert a is not None
    assert [key.name for key in a.subkeys()] == ["B", "CE", "C_D"]
    leaf = MADE.index(b"lh\3\0") + 4
    entries = [MADE[leaf + 8 * index:leaf + 8 * index + 8] for index in range(3)]
    swapped = MADE[:leaf] + b"".join([entries[0], entries[2], entries[1]]) + MADE[leaf + 24:]
    assert check(swapped) == ("the subkeys 'C_D' and 'CE' of 'A' are not in order",)
    wrong = MADE[:leaf + 4] + b"\1" + MADE[leaf + 5:]
    assert check(wrong) == ("the subkey 'B' of 'A' has a wrong hash",)
    twice = MADE[:leaf] + b"".join([entries[0], entries[0], entries[2]]) + MADE[leaf + 24:]
    assert any("where is no cell, or another thing" in problem for problem in check(twice))
    assert name_hash("AB") == 65 * 37 + 66


def as_windows_orders(*names: str) -> bytes:
    """A hive with these keys below A, in Windows' order, with its hashes: only ASCII is folded."""
    made = make_hive({f"A\\{name}": {} for name in names})
    a = Hive(made).key("A")
    assert a is not None
    where = {key.offset: "".join(char.upper() if char.isascii() else char for char in key.name)
             for key in a.subkeys()}
    units = {offset: name.encode("utf-16-be", "surrogatepass") for offset, name in where.items()}
    leaf = made.index(b"lh" + struct.pack("<H", len(names))) + 4
    hashes = b"".join(struct.pack("<II", offset, _unit_hash(units[offset]))
                      for offset in sorted(where, key=lambda offset: units[offset]))
    return made[:leaf] + hashes + made[leaf + len(hashes):]


def _unit_hash(name: bytes) -> int:
    found = 0
    for unit, in struct.iter_unpack(">H", name):
        found = (found * 37 + unit) & 0xFFFFFFFF
    return found


@pytest.mark.parametrize("name", [
    "Yaz\u0131c\u0131", "\u0131", "\xb5Torrent", "\u03c2", "\u017f", "\u10d0", "\U00010428",
    "\u1c80"])
def test_capitals_that_windows_does_not_know(name: str) -> None:
    data = as_windows_orders(name, "Aa", "J", "Z")
    assert check(data) == ()
    found = Hive(data).key(f"a\\{name}")
    assert found is not None
    assert found.name == name


def test_ascii_names_are_in_order_around_others() -> None:
    data = as_windows_orders("B", "C", "\u0131")
    leaf = data.index(b"lh\3\0") + 4
    b, c, other = (data[leaf + 8 * index:leaf + 8 * index + 8] for index in range(3))
    swapped = data[:leaf] + c + other + b + data[leaf + 24:]
    assert check(swapped) == ("the subkeys 'C' and 'B' of 'A' are not in order",)


def test_values_named_alike_only_to_python() -> None:
    made = make_hive({"A": {"i": 1, "x\xe9": 2}})
    dotless = make_hive({"A": {"i": 1, "\u0131": 2}})
    assert check(made) == check(dotless) == ()
    key = Hive(dotless).key("A")
    assert key is not None
    assert (key.number("i"), key.number("\u0131")) == (1, 2)


def test_values() -> None:
    place = MADE.index(b"vk\5\0")  # "other"
    for offset, value in ((0, b"x"), (2, b"\xff\xff"), (4, b"\xff\xff\0\0"), (8, b"\x20\0\0\0")):
        at = place + offset
        assert check(MADE[:at] + value + MADE[at + len(value):]), offset
    renamed = MADE.replace(b"\xe9", b"X")
    assert check(renamed) == ("the key 'B' has two values called 'X'",)


def test_large_values_have_to_be_in_segments() -> None:
    """From version 1.4 on; hivex writes them in one piece."""
    whole = make_hive({"A": {"large": b"x" * 16345}})
    assert check(whole) == ("the value 'LARGE' of 'A' is not in segments",)
    old = with_checksum(whole[:24] + b"\3" + whole[25:])
    assert check(old) == ()
    assert check(make_hive({"A": {"large": b"x" * 16344}})) == ()


def test_security_descriptors_count_their_keys() -> None:
    at = MADE.index(b"sk\0\0") + 12
    count, = struct.unpack_from("<I", MADE, at)
    assert count == len(list(Hive(MADE).root.walk()))
    assert "counts 1 keys" in check(MADE[:at] + b"\1" + MADE[at + 1:])[0]


def test_any_byte_may_be_wrong() -> None:
    """A problem or none, but nothing else, whatever it holds."""
    for position in range(BASE, len(MADE.rstrip(b"\0"))):
        if any(MADE[position - 8:position + 8]):
            for byte in (0, 0xFF):
                check(MADE[:position] + bytes((byte,)) + MADE[position + 1:])


def test_many_problems_are_some() -> None:
    made = make_hive({f"K{number:03}": {} for number in range(200)})
    problems = check(made.replace(b"nk\x20\0", b"nK\x20\0"))
    assert len(problems) == 20
    assert all(len(problem) < 310 for problem in problems)
