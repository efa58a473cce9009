from __future__ import annotations

from dataclasses import replace

import pytest

from imgconv.model import RegistryValue
from imgconv.windows import critical_device_database, inf, registry
from imgconv.windows.edits import Edits
from imgconv.windows.inf import Installation, Model
from imgconv.windows.registry import Hive
from imgconv.windows.virtio_win import DriverPackage
from tests.fake_guest import FakeGuest
from tests.hives import make_hive
from tests.unit.windows.driver_packages import (
    BLK,
    BLK_1_0,
    SCSI,
    VIOSTOR_SERVICE,
    WINDOWS_7,
    MadeInf,
    from_iso,
    package,
)
from tests.windows_data import hive, needs_data

SYSTEM = "/Windows/System32/config/SYSTEM"
SMALL = make_hive({"Select": {"Current": 1}, "ControlSet001": {}, "ControlSet003": {}})
FORMS = ("PCI#VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00",
         "PCI#VEN_1AF4&DEV_1001&SUBSYS_00021AF4", "PCI#VEN_1AF4&DEV_1001",
         "PCI#VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01",
         "PCI#VEN_1AF4&DEV_1042&SUBSYS_11001AF4", "PCI#VEN_1AF4&DEV_1042")


def test_every_id_is_entered_in_every_control_set() -> None:
    done = _done(SMALL, package(arch="x86"))
    for control_set in ("ControlSet001", "ControlSet003"):
        entries = done.key(rf"{control_set}\Control\CriticalDeviceDatabase")
        assert entries is not None
        assert {key.name: frozenset(key.values()) for key in entries.subkeys()} == {
            form: frozenset((registry.sz("Service", "viostor"), registry.sz("ClassGUID", SCSI)))
            for form in FORMS}


@pytest.mark.parametrize(("of_model", "entered"), [
    ((BLK,), FORMS[:3]), ((BLK, BLK_1_0), FORMS),
    ((r"PCI\VEN_1&DEV_2&CC_010000",), ("PCI#VEN_1&DEV_2&CC_010000", "PCI#VEN_1&DEV_2")),
    ((r"PCI\VEN_1&DEV_2", r"pci\ven_1&dev_2"), ("PCI#VEN_1&DEV_2",)),
    ((r"PCI\CC_0101", "*PNP0600", r"USB\VID_1&PID_2&REV_3"),
     ("PCI#CC_0101", "*PNP0600", "USB#VID_1&PID_2&REV_3"))])
def test_ids(of_model: tuple[str, ...], entered: tuple[str, ...]) -> None:
    assert tuple(critical_device_database.ids(of_model)) == entered


def test_a_device_without_a_driver_of_its_own_is_not_entered() -> None:
    made = MadeInf("viostor.inf", made_installation=Installation(
        "i", (replace(VIOSTOR_SERVICE, flags=0),), (), (), ()))
    edits = Edits(Hive(SMALL), SYSTEM)
    critical_device_database.plan(edits, package(made, "x86"), WINDOWS_7)
    assert edits.changes() == ()


@pytest.mark.parametrize("identifier", ["", "PCI\\a\0b", "x" * 300])
def test_an_impossible_id_is_refused(identifier: str) -> None:
    made = MadeInf("viostor.inf", made_models=(Model("", "", "", "", "i", (identifier,)),))
    with pytest.raises(inf.BadInf):
        critical_device_database.plan(Edits(Hive(SMALL), SYSTEM), package(made, "x86"), WINDOWS_7)


def test_xp_learns_of_the_ide_controllers_whose_drivers_it_has() -> None:
    database = r"ControlSet001\Control\CriticalDeviceDatabase"
    old = make_hive({"Select": {"Current": 1}, r"ControlSet001\Services\atapi": {},
                     r"ControlSet001\Services\pciide": {},
                     rf"{database}\pci#cc_0101": {"Service": "other"}})
    edits = Edits(Hive(old), SYSTEM)
    critical_device_database.plan_fallback(edits)
    guest = FakeGuest({SYSTEM: old})
    guest.edit_registry(SYSTEM, edits.changes())
    entries = Hive(guest.files[SYSTEM]).key(database)
    assert entries is not None
    assert {key.name: key.text("Service") for key in entries.subkeys()} == {
        "pci#cc_0101": "other", "Primary_IDE_Channel": "atapi", "Secondary_IDE_Channel": "atapi",
        "Internal_IDE_Channel": "atapi"}


@needs_data
def test_7_has_all_fallback_controllers() -> None:
    edits = Edits(Hive(hive("SYSTEM-win7-x86")), SYSTEM)
    critical_device_database.plan_fallback(edits)
    assert edits.changes() == ()


@needs_data
def test_the_real_viostor_of_7() -> None:
    done = _done(SMALL, from_iso("viostor/w7/x86", "x86"))
    entries = done.key(r"ControlSet003\Control\CriticalDeviceDatabase")
    assert entries is not None
    found = {key.name.upper(): key for key in entries.subkeys()}
    # The driver of 2010 names no revision, and knows no virtio 1.0.
    assert {FORMS[1], FORMS[2]} <= set(found)
    assert not any("DEV_1042" in form for form in found)
    assert {key.text("Service") for key in found.values()} == {"viostor"}
    assert {key.text("ClassGUID") for key in found.values()} == {SCSI}


@needs_data
def test_in_a_real_hive_nothing_else_changes() -> None:
    before = _everything(Hive(hive("SYSTEM-win7-x86")))
    after = _everything(_done(hive("SYSTEM-win7-x86"), package(arch="x86")))
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {
        rf"{control_set}\Control\CriticalDeviceDatabase\{form}"
        for control_set in ("ControlSet001", "ControlSet002") for form in FORMS}


def _done(data: bytes, driver: DriverPackage) -> Hive:
    guest = FakeGuest({SYSTEM: data})
    edits = Edits(Hive(data), SYSTEM)
    critical_device_database.plan(edits, driver, WINDOWS_7)
    guest.edit_registry(SYSTEM, edits.changes())
    done = Hive(guest.files[SYSTEM])
    again = Edits(done, SYSTEM)
    critical_device_database.plan(again, driver, WINDOWS_7)
    assert again.changes() == ()
    return done


def _everything(done: Hive) -> dict[str, frozenset[RegistryValue]]:
    found: dict[str, frozenset[RegistryValue]] = {}
    for control_set in ("ControlSet001", "ControlSet002"):
        key = done.key(rf"{control_set}\Control")
        assert key is not None
        found |= {rf"{control_set}\Control\{path}".rstrip("\\"): frozenset(below.values())
                  for path, below in key.walk()}
    return found
