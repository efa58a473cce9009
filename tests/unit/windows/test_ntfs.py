from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.errors import CannotConvert
from imgconv.windows import ntfs
from imgconv.windows.versions import WindowsVersion
from tests.ntfs_volume import boot_sector, make_volume, restart_page

XP = WindowsVersion(5, 1, 2600, "x86")
WINDOWS_7 = WindowsVersion(6, 1, 7601, "amd64")
GIB = 1 << 30


def state(volume: bytes) -> ntfs.State:
    return ntfs.state(lambda offset, size: volume[offset:offset + size])


@pytest.mark.parametrize(("volume", "expected"), [
    (make_volume(), ntfs.State(dirty=False, log_clean=True)),
    (make_volume(dirty=True), ntfs.State(dirty=True, log_clean=True)),
    (make_volume(log=restart_page(clean=True) * 2), ntfs.State(False, True, (1, 1))),
    (make_volume(log=restart_page(clean=False) * 2), ntfs.State(False, False, (1, 1))),
    (make_volume(log=restart_page((2, 0), clean=False) * 2), ntfs.State(False, False, (2, 0))),
    (make_volume(log=bytes(8192)), ntfs.State(False, False)),
    (make_volume(log=b"CHKD".ljust(8192, b"\0")), ntfs.State(False, False)),
], ids=["emptied", "dirty", "clean", "unclean", "windows-8", "zeros", "chkdsk"])
def test_state(volume: bytes, expected: ntfs.State) -> None:
    assert state(volume) == expected


@pytest.mark.parametrize("order", [0, 1])
def test_newer_restart_page_counts(order: int) -> None:
    pages = [restart_page(clean=True, newest=5), restart_page(clean=False, newest=6)]
    assert ntfs.log_state(pages[order] + pages[1 - order]) == (False, (1, 1))


def test_torn_first_restart_page() -> None:
    assert ntfs.log_state(bytes(4096) + restart_page(clean=True)) == (True, (1, 1))


@pytest.mark.parametrize(("header", "expected"), [
    (b"hibr", True), (b"HIBR", True), (b"RSTR", True), (b"HORM", True),
    (b"wake", False), (b"WAKE", False), (bytes(4096), False), (b"", False)])
def test_hibernated(header: bytes, expected: bool) -> None:
    assert ntfs.hibernated(header) is expected


def test_check() -> None:
    clean, unclean = ntfs.State(False, True), ntfs.State(False, False, (2, 0))
    assert not ntfs.check(clean, b"", discard_hibernation=False)
    assert not ntfs.check(clean, b"wake", discard_hibernation=True)
    assert ntfs.check(unclean, b"hibr", discard_hibernation=True)
    with pytest.raises(CannotConvert, match="hibernated") as caught:
        ntfs.check(unclean, b"hibr", discard_hibernation=False)
    assert "--discard-hibernation" in caught.value.hint


@pytest.mark.parametrize(("found", "header", "message"), [
    (ntfs.State(False, False, (1, 1)), b"", "not shut down cleanly"),
    (ntfs.State(True, True), b"", "damaged"), (ntfs.State(True, False), b"hibr", "damaged")])
def test_discarding_is_for_sessions_only(found: ntfs.State, header: bytes, message: str) -> None:
    with pytest.raises(CannotConvert, match=message) as caught:
        ntfs.check(found, header, discard_hibernation=True)
    assert "chkdsk" in caught.value.hint


@pytest.mark.parametrize(("size", "heads", "expected"), [
    (2_114_445_311, 255, 0x40), (2_114_445_312, 255, 0x80), (4_228_374_779, 255, 0x80),
    (4_228_374_780, 255, None), (40 * GIB, 16, 0xFF), (40 * GIB, 255, None), (GIB, 0x40, None)])
def test_head_count(size: int, heads: int, expected: int | None) -> None:
    assert ntfs.head_count(boot_sector(heads), size, XP) == expected
    assert ntfs.head_count(boot_sector(heads), size, WINDOWS_7) is None


def test_volume() -> None:
    assert ntfs.volume(boot_sector()) == ntfs.Volume(512, 4096, 4 * 4096, 1024, 255)
    assert ntfs.volume(boot_sector(per_record=1)).record == 4096


@pytest.mark.parametrize("sector", [b"", b"\0" * 512, boot_sector()[:100],
                                    boot_sector(per_record=127), boot_sector(per_record=-31)])
def test_no_ntfs(sector: bytes) -> None:
    with pytest.raises(ntfs.BadNtfs):
        ntfs.volume(sector)


def test_torn_record() -> None:
    volume = bytearray(make_volume())
    volume[4 * 4096 + 3 * 1024 + 1022] ^= 1
    with pytest.raises(ntfs.BadNtfs, match="in part"):
        state(bytes(volume))


@pytest.mark.parametrize("size", [0, 1, 8, 16, 23, 0xFFFFFFFF])
def test_attribute_without_room(size: int) -> None:
    volume = bytearray(make_volume())
    at = 4 * 4096 + 3 * 1024 + 56 + 4
    volume[at:at + 4] = size.to_bytes(4, "little")
    with pytest.raises(ntfs.BadNtfs, match="lacks"):
        state(bytes(volume))


@given(st.lists(st.tuples(st.integers(0, 9 * 4096), st.binary(min_size=1, max_size=4)),
                max_size=6))
@settings(max_examples=300, deadline=None)
def test_damaged_volumes(changes: list[tuple[int, bytes]]) -> None:
    volume = bytearray(make_volume(log=restart_page(clean=True) * 2))
    for offset, data in changes:
        # Where it matters: the boot sector, the two records, the journal's first page.
        at = (offset % 80, 4 * 4096 + 2048 + offset % 200, 4 * 4096 + 3072 + offset % 130,
              8 * 4096 + offset % 80)[offset % 4]
        volume[at:at + len(data)] = data
    try:
        found = state(bytes(volume))
    except ntfs.BadNtfs:
        return
    assert isinstance(found, ntfs.State)
