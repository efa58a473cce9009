"""What ntfs-3g does to volumes that Windows did not let go of, and how that is seen beforehand."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial

import pytest

from imgconv import host
from imgconv.errors import CannotConvert, ImgconvError
from imgconv.guest import appliance
from imgconv.guest.appliance import Appliance
from imgconv.guest.windows_volumes import _read, prepare
from imgconv.model import Filesystem, Firmware, Image, Inspection, Mount, WindowsOs
from imgconv.windows import ntfs
from tests.ntfs_volume import fixed_up, restart_page

CLEAN, DIRTY, UNCLEAN, HIBERNATED, FAST_STARTUP, RESERVED = (
    f"/dev/sd{letter}" for letter in "abcdef")


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """Volumes as Windows leaves them: the last one beside that of Fast Startup."""
    folder = tmp_path_factory.mktemp("ntfs")
    images = []
    for name in ("clean", "dirty", "unclean", "hibernated", "fast-startup", "reserved"):
        path = folder / f"{name}.img"
        with path.open("wb") as file:
            file.truncate(32 << 20)
        images.append(Image(path, "raw", 32 << 20))
    with appliance.launch(images, writable=True, tcg=not host.kvm_usable().usable) as running:
        for device in (CLEAN, DIRTY, UNCLEAN, HIBERNATED, FAST_STARTUP, RESERVED):
            running.call("mkfs", "ntfs", device)
            running.call("mount", device, "/")
            running.write("/Windows/notepad.exe", b"MZ", 0o644)
            if device in (HIBERNATED, FAST_STARTUP):
                running.write("/hiberfil.sys", b"HIBR" + b"\0" * 8188, 0o644)
            running.call("umount_all")
        make_dirty(running, DIRTY)
        set_log(running, CLEAN, restart_page(clean=True))
        set_log(running, UNCLEAN, restart_page(clean=False))
        set_log(running, FAST_STARTUP, restart_page((2, 0), clean=False))
        set_log(running, RESERVED, restart_page((2, 0), clean=False))
        yield running


def volume(running: Appliance, device: str) -> tuple[ntfs.Volume, int]:
    """The volume, and where the copy of the first records is."""
    sector = _read(running, device, 0, 512)
    found = ntfs.volume(sector)
    return found, struct.unpack_from("<Q", sector, 56)[0] * found.cluster


def make_dirty(running: Appliance, device: str) -> None:
    found, copy = volume(running, device)
    record = bytearray(ntfs.record(_read(running, device, found.mft, 4096), found, 3))
    at = record.index(bytes((3, 1, 0, 0)), 56)  # NTFS 3.1, no flags
    record[at + 2] |= 1
    whole = fixed_up(bytes(record))
    for base in (found.mft, copy):
        running.call("pwrite_device", device, whole, base + 3 * found.record)


def log_offset(running: Appliance, device: str) -> int:
    return ntfs.state(partial(_read, running, device)).log


def set_log(running: Appliance, device: str, page: bytes) -> None:
    running.call("pwrite_device", device, page + page, log_offset(running, device))


def inspection(device: str, system: str = "") -> Inspection:
    mounts = [Mount(device, "/c"), *([Mount(system, "/system")] if system else [])]
    return Inspection(device, "x86_64", Firmware.BIOS,
                      tuple(Filesystem(mount.device, "ntfs") for mount in mounts), tuple(mounts),
                      WindowsOs("Windows"))


@pytest.mark.parametrize(("device", "dirty", "clean", "version"), [
    (CLEAN, False, True, (1, 1)), (DIRTY, True, True, None), (UNCLEAN, False, False, (1, 1)),
    (HIBERNATED, False, True, None), (FAST_STARTUP, False, False, (2, 0))])
def test_state(guest: Appliance, device: str, dirty: bool, clean: bool,
               version: tuple[int, int] | None) -> None:
    assert ntfs.state(partial(_read, guest, device)) == ntfs.State(dirty, clean, version)


@pytest.mark.parametrize("device", [DIRTY, UNCLEAN, HIBERNATED, FAST_STARTUP])
def test_refused_and_left_alone(guest: Appliance, device: str) -> None:
    log = _read(guest, device, log_offset(guest, device), 8192)
    with pytest.raises(CannotConvert) as caught:
        prepare(guest, inspection(device), discard_hibernation=False)
    assert "shutdown /s" in caught.value.hint
    assert _read(guest, device, log_offset(guest, device), 8192) == log


def test_ntfs_3g_mounts_a_session_read_only(guest: Appliance) -> None:
    guest.call("mount", HIBERNATED, "/")
    with pytest.raises(ImgconvError, match="Read-only"):
        guest.write("/written", b"yes", 0o644)
    guest.call("umount_all")


def test_ntfs_3g_empties_a_journal(guest: Appliance) -> None:
    """Why the state is looked at first: without a word, what only the journal had is lost."""
    guest.call("mount", UNCLEAN, "/")
    guest.call("umount_all")
    assert _read(guest, UNCLEAN, log_offset(guest, UNCLEAN), 8192) == b"\xff" * 8192


def test_clean_is_taken(guest: Appliance) -> None:
    assert not prepare(guest, inspection(CLEAN), discard_hibernation=False)
    guest.mount([Mount(CLEAN, "/c")], writable=True)
    guest.write("/c/written", b"yes", 0o644)
    guest.call("umount_all")


def test_refused_for_the_partition_beside(guest: Appliance) -> None:
    with pytest.raises(CannotConvert, match=f"{RESERVED} was not shut down cleanly"):
        prepare(guest, inspection(CLEAN, RESERVED), discard_hibernation=True)


@pytest.mark.parametrize(("device", "system", "dirty"), [
    (HIBERNATED, "", False), (FAST_STARTUP, RESERVED, True)])
def test_giving_up_a_session(guest: Appliance, device: str, system: str, dirty: bool) -> None:
    where = inspection(device, system)
    assert prepare(guest, where, discard_hibernation=True)
    guest.mount(where.mounts, writable=True)
    if system:
        guest.write("/system/written", b"yes", 0o644)
    guest.write("/c/written", b"yes", 0o644)
    assert guest.find("/c/hiberfil.sys") is None
    assert guest.read("/c/Windows/notepad.exe") == b"MZ"
    guest.call("umount_all")
    assert ntfs.state(partial(_read, guest, device)) == ntfs.State(dirty, log_clean=True)
