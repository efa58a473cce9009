from __future__ import annotations

import pytest

from imgconv.model import Filesystem, Firmware, Inspection, Mount, WindowsOs
from imgconv.windows import san_policy
from imgconv.windows.edits import Edits
from imgconv.windows.registry import Hive, dword
from imgconv.windows.versions import WindowsVersion
from tests.fake_guest import FakeGuest
from tests.hives import Value, make_hive
from tests.windows_data import hive, needs_data

SERVER = WindowsVersion(6, 1, 7601, "amd64", server=True)
PATH = "/c/Windows/System32/config/SYSTEM"


def inspection(*devices: str) -> Inspection:
    return Inspection(devices[0], "x86_64", Firmware.BIOS,
                      tuple(Filesystem(device, "ntfs") for device in devices),
                      (Mount(devices[0], "/c"),), WindowsOs("Windows"))


TWO = inspection("/dev/sda1", "/dev/sda2", "/dev/sdb1")


def edits(**services: dict[str, Value]) -> Edits:
    keys: dict[str, dict[str, Value]] = {"Select": {"Current": 1}}
    for control_set in ("ControlSet001", "ControlSet002"):
        keys[rf"{control_set}\Services\partmgr\Parameters"] = {"SanPolicy": 2}
        for name, values in services.items():
            keys[rf"{control_set}\Services\{name}"] = values
    return Edits(Hive(make_hive(keys)), PATH)


def test_every_control_set() -> None:
    planned = edits()
    assert san_policy.plan(planned, TWO, SERVER) == ()
    assert [(c.key, c.before) for c in planned.changes()] == [
        (rf"ControlSet00{n}\Services\partmgr\Parameters", (dword("SanPolicy", 2),))
        for n in (1, 2)]


def test_again_is_nothing() -> None:
    planned = edits()
    san_policy.plan(planned, TWO, SERVER)
    guest = FakeGuest({PATH: make_hive({
        "Select": {"Current": 1}, r"ControlSet001\Services\partmgr": {}})})
    first = Edits(Hive(guest.files[PATH]), PATH)
    san_policy.plan(first, TWO, SERVER)
    guest.edit_registry(PATH, first.changes())
    again = Edits(Hive(guest.files[PATH]), PATH)
    san_policy.plan(again, TWO, SERVER)
    assert first.changes()
    assert not again.changes()


@pytest.mark.parametrize(("where", "windows"), [
    (inspection("/dev/sda1", "/dev/sda2"), SERVER),
    (TWO, WindowsVersion(5, 2, 3790, "x86", server=True))])
def test_not_needed(where: Inspection, windows: WindowsVersion) -> None:
    planned = edits()
    assert san_policy.plan(planned, where, windows) == ()
    assert planned.changes() == ()


def test_cluster_is_left_alone() -> None:
    planned = edits(ClusSvc={"Start": 2})
    said, = san_policy.plan(planned, TWO, SERVER)
    assert "cluster" in said
    assert planned.changes() == ()


def test_disks() -> None:
    assert san_policy.disks(inspection("/dev/sda1", "/dev/sdb", "/dev/sdaa3")) == 3


@needs_data
@pytest.mark.parametrize("name", ["win7-x86", "win8.1-x64", "win10-1709-x64"])
def test_clients_are_right_already(name: str) -> None:
    planned = Edits(Hive(hive(f"SYSTEM-{name}")), PATH)
    assert san_policy.plan(planned, TWO, SERVER) == ()
    assert planned.changes() == ()
