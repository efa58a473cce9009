"""Reading hives: as three other readers see them, and however they are damaged."""

from __future__ import annotations

import struct
import time
from contextlib import suppress

import pytest

from imgconv.model import RegistryValue
from imgconv.windows import registry
from imgconv.windows.registry import CorruptHive, Hive
from tests.hives import empty_hive, make_hive
from tests.registry_compare import dissect_tree, hivex_tree, tree
from tests.windows_data import hive, needs_data

SYSTEMS = ("SYSTEM-win7-x86", "SYSTEM-win8.1-x64", "SYSTEM-win10-1709-x64")
HBIN = 4096


def read_all(data: bytes) -> None:
    opened = Hive(data)
    for _, key in opened.root.walk():
        for value in key.values():
            registry.string(value.data)
            registry.multi_string(value.data)
            registry.integer(value.data)


# --- real hives ---------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("name", [*SYSTEMS, "BCD"])
def test_hivex_reads_the_same(name: str) -> None:
    """Every key, and every value's name, type and data."""
    assert tree(hive(name)) == hivex_tree(hive(name))


@needs_data
@pytest.mark.parametrize(("name", "below"), [
    ("BCD", ""), ("SYSTEM-win8.1-x64", "DriverDatabase\\DeviceIds\\PCI"),
    ("SYSTEM-win10-1709-x64", "DriverDatabase\\DriverInfFiles"),
    ("SYSTEM-win7-x86", "ControlSet001\\Control\\Class")])
def test_dissect_reads_the_same(name: str, below: str) -> None:
    ours = {path: key.values() for path, key in _key(name, below).walk()}
    assert len(ours) > 10
    assert ours == dissect_tree(hive(name), below)


@needs_data
def test_large_values_in_segments() -> None:
    cache = _key("SYSTEM-win10-1709-x64", "ControlSet001\\Control\\Session Manager\\AppCompatCache"
                 ).value("appcompatcache")
    assert cache is not None
    assert len(cache.data) == 97214


@needs_data
def test_looking_up_takes_no_time() -> None:
    """A list of 2,923 subkeys is read once, not each time."""
    opened = Hive(hive("SYSTEM-win10-1709-x64"))
    start = time.monotonic()
    for number in range(5000):
        assert opened.key(f"driverdatabase\\DEVICEIDS\\Pci\\nothing{number}") is None
    assert time.monotonic() - start < 1


def _key(name: str, path: str) -> registry.Key:
    key = Hive(hive(name)).key(path)
    assert key is not None
    return key


# --- made hives ---------------------------------------------------------------------------------


def test_values() -> None:
    made = Hive(make_hive({"A\\B": {"": "text", "n": 7, "m": ("one", "two"), "b": b"12345",
                                    "q": registry.qword("", 1 << 40), "é日": "ß",
                                    "odd": RegistryValue("", 0xFFFF0013, b"x" * 99)}}))
    key = made.key("a\\b")
    assert key is not None
    assert key.name == "B"
    assert key.text("") == "text"
    assert key.number("N") == 7
    assert key.number("q") == 1 << 40
    assert key.number("m") is None
    assert key.strings("M") == ("one", "two")
    assert key.text("É日") == "ß"
    assert key.value("nothing") is None
    assert key.value("ODD") == RegistryValue("odd", 0xFFFF0013, b"x" * 99)
    assert made.key("") == made.root
    assert made.key("A\\B\\C") is None
    assert not made.dirty


def test_an_empty_hive() -> None:
    for minor in (3, 5):
        made = Hive(empty_hive(minor))
        assert [(path, key.values()) for path, key in made.root.walk()] == [("", ())]
        assert made.segments_large_values == (minor == 5)


def test_capitals_are_those_of_windows() -> None:
    assert registry.fold("Straße é") == "STRAßE É"
    assert registry.fold("vioscsi") == "VIOSCSI"
    assert registry.fold("\xb5\u0131\u017f\u03c2\u10d0\U00010428") == (
        "\xb5\u0131\u017f\u03c2\u10d0\U00010428")
    assert registry.fold("\xfcber\xff\u03b1\u0436") == "\xdcBER\u0178\u0391\u0416"


def test_walk_has_each_path() -> None:
    paths = {"", "A", "A\\B", "A\\B\\C", "A\\D", "E", "E\\F"}
    made = Hive(make_hive({path: {} for path in paths if path}))
    assert {path for path, _ in made.root.walk()} == paths
    below = made.key("A")
    assert below is not None
    assert [path for path, _ in below.walk()] == ["", "B", "B\\C", "D"]


# --- damaged and hostile ones -------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"regf", b"regf" + bytes(4092), b"MZ" + bytes(9000),
                                  b"regf" + bytes(9000)])
def test_no_hive(data: bytes) -> None:
    with pytest.raises(CorruptHive) as caught:
        Hive(data)
    assert "RegBack" in caught.value.hint


def test_every_byte_may_be_wrong() -> None:
    """Whatever a byte holds, either everything is read or the hive is called corrupt."""
    made = make_hive({"A\\B": {"x": "text", "é": b"1" * 99}, "A\\日本": {}})
    read_all(made)
    for position in range(HBIN, len(made.rstrip(b"\0"))):
        if not any(made[position - 8:position + 8]):
            continue
        for byte in (0, 0xFF, made[position] ^ 1):
            damaged = made[:position] + bytes((byte,)) + made[position + 1:]
            with suppress(CorruptHive):
                read_all(damaged)


@pytest.mark.parametrize("end", range(HBIN, 3 * HBIN, 197))
def test_cut_off(end: int) -> None:
    made = make_hive({"A\\B": {"x": "text" * 99}})
    with suppress(CorruptHive):
        read_all(made[:end])


def _cells(*contents: bytes) -> bytes:
    """A hive of these cells, the first of which is the root; their offsets are `_place`'s."""
    body = b"".join(struct.pack("<i", -(len(content) + 4)) + content for content in contents)
    size = -(-(len(body) + 0x20) // HBIN) * HBIN
    header = empty_hive()[:HBIN]
    return header + (b"hbin".ljust(0x20, b"\0") + body).ljust(size, b"\0")


def _place(index: int, size: int) -> int:
    return 0x20 + index * (size + 4)


def _node(subkeys: int = 0, listed: int = 0, values: int = 0, value_list: int = 0,
          name: bytes = b"K") -> bytes:
    return (b"nk" + struct.pack("<H", 0x20) + bytes(16) + struct.pack("<II", subkeys, 0)
            + struct.pack("<IIII", listed, 0, values, value_list) + bytes(28)
            + struct.pack("<HH", len(name), 0) + name).ljust(92, b"\0")


def test_keys_in_themselves() -> None:
    root = _node(subkeys=1, listed=_place(1, 92))
    leaf = (b"li" + struct.pack("<HI", 1, 0x20)).ljust(92, b"\0")
    with pytest.raises(CorruptHive, match="listed twice"):
        read_all(_cells(root, leaf))


def test_a_tree_that_doubles_at_each_level() -> None:
    """40 levels, each listing the next twice, are 2^40 keys."""
    cells = []
    for level in range(40):
        cells.append(_node(subkeys=2, listed=_place(2 * level + 1, 92)))
        following = _place(2 * level + 2, 92)
        cells.append((b"li" + struct.pack("<HII", 2, following, following)).ljust(92, b"\0"))
    with pytest.raises(CorruptHive, match="listed twice"):
        read_all(_cells(*cells, _node()))


def test_lists_that_many_keys_share() -> None:
    """4,000 values in each of 300 keys, in a file of 45 KiB."""
    count = 4000
    vk = (b"vk" + struct.pack("<HIIIHH", 0, 0x80000004, 0, 4, 1, 0)).ljust(92, b"\0")
    keys = 300
    list_at = _place(2 + keys, 92) + 8 + 4 * keys
    nodes = [_node(values=count, value_list=list_at) for _ in range(keys)]
    places = [_place(2 + index, 92) for index in range(keys)]
    leaf_at = _place(2 + keys, 92)
    leaf = (b"li" + struct.pack(f"<H{keys}I", keys, *places))
    values = struct.pack(f"<{count}I", *[_place(1, 92)] * count)
    data = _cells(_node(subkeys=keys, listed=leaf_at), vk, *nodes, leaf, values)
    start = time.monotonic()
    with pytest.raises(CorruptHive, match="over and over"):
        read_all(data)
    assert time.monotonic() - start < 5


def test_large_data_that_many_values_share() -> None:
    """10,000 values of one cell of 1 MiB."""
    large, count = 1 << 20, 10_000
    vk = b"vk" + struct.pack("<HIIIHH", 0, large, 0x20 + 96 + 96 + 4 * count + 4, 3, 1, 0)
    listed = struct.pack(f"<{count}I", *[_place(1, 92)] * count)
    data = _cells(_node(values=count, value_list=_place(2, 92)), vk.ljust(92, b"\0"), listed,
                  bytes(large))
    with pytest.raises(CorruptHive, match="too large"):
        read_all(data)


def test_numbers_of_any_size() -> None:
    assert registry.integer(b"") == 0
    assert registry.integer(b"\1") == 1
    assert registry.integer(b"\1" + bytes(7) + b"\xff" * 100_000) == 1
