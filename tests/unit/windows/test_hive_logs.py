"""Replaying the logs of hives: real ones, made ones, and damaged ones."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from imgconv.windows.hive_check import check
from imgconv.windows.hive_logs import Replayed, marvin32, replay
from imgconv.windows.registry import CorruptHive, Hive
from tests.hives import log_entry, make_hive, new_log, old_log, signed, with_sequences
from tests.registry_compare import differences
from tests.windows_data import DATA, hive, needs_data

WIN10 = "SYSTEM-win10-1709-x64"


def grown(*names: str) -> bytes:
    """A hive with these keys; it is larger than one with fewer of them."""
    return make_hive({f"Keys\\{name}": {"data": name.encode() * 500} for name in names})


#: What a hive was after each of Windows' writes.
STATES = [grown("a"), grown("a", "b"), grown("a", "b", "c"), grown("a", "c"),
          grown("a", "c", "d", "e", "f")]
DIRTY = with_sequences(STATES[0], 11, 10)
#: The entries with the numbers 10 to 13.
ENTRIES = [log_entry(10 + index, STATES[index], STATES[index + 1]) for index in range(4)]


def state(replayed: Replayed | None) -> int:
    """Which of STATES it is; it is clean and sound."""
    assert replayed is not None
    assert check(replayed.data) == ()
    return next(index for index, one in enumerate(STATES)
                if not differences(one, replayed.data))


def log(entries: Sequence[bytes]) -> bytes:
    return new_log(STATES[0], *entries)


# --- real ones ----------------------------------------------------------------------------------


def test_marvin32() -> None:
    """Values that others have published for this seed."""
    for text, expected in ((b"", 0xB00892AC), (b"h", 0xF41A608E), (b"he", 0x11107C6B),
                           (b"hel", 0x24056A46), (b"hello, world!", 0x00C18515)):
        hashed = marvin32(text)
        assert hashed >> 32 ^ hashed & 0xFFFFFFFF == expected


@needs_data
def test_a_real_hive_and_its_logs() -> None:
    """Numbers 2107 to 2110 are in the first log, 2111 to 2130 in the second, older ones behind."""
    before = hive(WIN10)
    replayed = replay(before, [hive(f"{WIN10}.LOG1"), hive(f"{WIN10}.LOG2")])
    assert replayed is not None
    assert (replayed.writes, replayed.gap) == (24, False)
    assert check(replayed.data) == ()
    after = Hive(replayed.data)
    assert after.sequences == (2130, 2130)
    assert not after.dirty
    # A sound card came with the last writes, in pages that the hive did not have.
    sound = "ControlSet001\\Control\\Class\\{4d36e96c-e325-11ce-bfc1-08002be10318}\\0014"
    assert Hive(before).key(sound) is None
    assert after.key(f"{sound}\\Drivers\\wave") is not None


@needs_data
def test_regipy_replays_the_same(tmp_path: Path) -> None:
    """When it is told to take the logs in the right order. It leaves the header wrong."""
    recovery = pytest.importorskip("regipy.recovery")
    import lzma

    for suffix in ("", ".LOG1", ".LOG2"):
        with lzma.open(DATA / f"{WIN10}{suffix}.xz") as packed, (
                tmp_path / f"hive{suffix}").open("wb") as file:
            shutil.copyfileobj(packed, file)
    recovery.apply_transaction_logs(str(tmp_path / "hive"), str(tmp_path / "hive.LOG2"),
                                    str(tmp_path / "hive.LOG1"), str(tmp_path / "restored"))
    replayed = replay(hive(WIN10), [hive(f"{WIN10}.LOG1"), hive(f"{WIN10}.LOG2")])
    assert replayed is not None
    assert (tmp_path / "restored").read_bytes()[4096:] == replayed.data[4096:]


# --- the new format -----------------------------------------------------------------------------


def test_one_log() -> None:
    assert state(replay(DIRTY, [log(ENTRIES)])) == 4


@pytest.mark.parametrize("split", range(5))
@pytest.mark.parametrize("swapped", [False, True])
def test_two_logs_in_either_order(split: int, swapped: bool) -> None:
    logs = [log(ENTRIES[:split]), log(ENTRIES[split:])]
    assert state(replay(DIRTY, logs[::-1] if swapped else logs)) == 4


def test_the_hive_has_the_first_writes_already() -> None:
    assert state(replay(with_sequences(STATES[2], 13, 12), [log(ENTRIES)])) == 4


def test_the_hive_has_all_but_says_so_only_in_its_pages() -> None:
    """Its header is as old as when the logs were last empty: what it has is written again."""
    assert state(replay(with_sequences(STATES[3], 6, 5), [log(ENTRIES[2:])])) == 4


def test_a_gap_ends_it() -> None:
    replayed = replay(DIRTY, [log(ENTRIES[:2]), log(ENTRIES[3:])])
    assert state(replayed) == 2
    assert replayed is not None
    assert replayed.gap
    assert replayed.writes == 2
    # None of the numbers that a log holds may be newer than the hive afterwards.
    assert Hive(replayed.data).sequences == (13, 13)


def test_old_entries_behind_the_last_are_not_replayed() -> None:
    old = log_entry(3, STATES[4], STATES[0])
    assert state(replay(DIRTY, [log([*ENTRIES[:3], old])])) == 3
    assert state(replay(DIRTY, [log(ENTRIES[:3]), log([old])])) == 3


def test_nothing_that_belongs_to_the_hive() -> None:
    old = log_entry(3, STATES[4], STATES[0])
    assert replay(DIRTY, [log([old])]) is None
    assert replay(DIRTY, []) is None
    assert replay(DIRTY, [b"", bytes(4096), b"regf" * 1000]) is None
    assert replay(DIRTY, [with_sequences(log(ENTRIES), 10, 9)]) is None, "itself not finished"


@pytest.mark.parametrize("position", [0, 4, 12, 16, 20, 24, 32, 40, 44, 100, -1])
def test_a_damaged_entry_ends_it(position: int) -> None:
    damaged = bytearray(ENTRIES[2])
    damaged[position] ^= 1
    assert state(replay(DIRTY, [log([*ENTRIES[:2], bytes(damaged), ENTRIES[3]])])) == 2


@pytest.mark.parametrize(("position", "value"), [
    (4, 0), (4, 511), (4, 1 << 31), (16, 0), (16, 4097), (16, 0xFFFFF000), (20, 0xFFFFFFFF),
    (40, 0xFFFFF000), (44, 0xFFFFFFFF), (44, 0)])
def test_wrong_numbers_with_right_hashes(position: int, value: int) -> None:
    entry = ENTRIES[0]
    bad = signed(entry[:position] + struct.pack("<I", value) + entry[position + 4:])
    with suppress(CorruptHive):
        replayed = replay(DIRTY, [log([bad])])
        assert replayed is None or len(replayed.data) < 1 << 20


def test_the_header_comes_from_a_log_when_it_is_damaged() -> None:
    torn = DIRTY[:300] + b"\xff" + DIRTY[301:]
    assert state(replay(torn, [log(ENTRIES[:2]), log(ENTRIES[2:])])) == 4
    assert state(replay(bytes(512) + DIRTY[512:], [log(ENTRIES)])) == 4
    # Between 11 and 13 something is missing; which entries the hive lacks is not known.
    replayed = replay(with_sequences(STATES[3], 1, 1)[:300] + b"\xff" + STATES[3][301:],
                      [log(ENTRIES[:2]), log(ENTRIES[3:])])
    assert state(replayed) == 4
    with pytest.raises(CorruptHive, match="header of the hive is damaged"):
        replay(torn, [])


# --- the old format -----------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(0, 1), (0, 4), (3, 2), (4, 0)])
def test_old_logs(before: int, after: int) -> None:
    dirty = with_sequences(STATES[before], 11, 10)
    made = old_log(dirty, STATES[after].ljust(len(dirty), b"\0"), 11)
    assert state(replay(dirty, [made])) == after
    assert state(replay(dirty, [b"", made])) == after
    torn = dirty[:300] + b"\xff" + dirty[301:]
    assert state(replay(torn, [made])) == after


def test_old_logs_of_another_time() -> None:
    made = old_log(DIRTY, STATES[1], 11)
    for log_of_another in (
            with_sequences(made[:12] + b"\1" + made[13:], 11, 11), with_sequences(made, 11, 10),
            made[:-512], made[:512] + b"DIRK" + made[516:], made[:600]):
        assert replay(DIRTY, [log_of_another]) is None


def test_the_log_that_fits_is_taken() -> None:
    made = old_log(DIRTY, STATES[1], 11)
    other = with_sequences(made[:12] + b"\1" + made[13:], 900, 900)
    replayed = replay(DIRTY, [other, made])
    assert state(replayed) == 1
    assert replayed is not None
    assert Hive(replayed.data).sequences == (900, 900)
