from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from imgconv.errors import CannotConvert
from imgconv.model import RegistryValue
from imgconv.windows import inf, registry, services
from imgconv.windows.edits import Edits
from imgconv.windows.inf import Addition, Service
from imgconv.windows.registry import Hive
from tests.fake_guest import FakeGuest
from tests.hives import Value, make_hive
from tests.unit.windows.driver_packages import (
    VIOSTOR_SERVICE,
    WINDOWS_8_1,
    from_iso,
    number,
    system_hive,
)
from tests.windows_data import hive, needs_data

SYSTEM = "/Windows/System32/config/SYSTEM"
DRIVER_FILES = {f"/Windows/System32/drivers/{name}": b"" for name in (
    "atapi.sys", "intelide.sys", "PCIIDE.SYS", "msahci.sys", "storahci.sys")}
BOTH = ("ControlSet001", "ControlSet002")


def test_a_service_is_written_in_every_control_set() -> None:
    done = _done(system_hive(), lambda edits: services.plan(edits, (VIOSTOR_SERVICE,),
                                                            owner="oem3.inf"))
    for control_set in BOTH:
        key = done.key(rf"{control_set}\Services\viostor")
        assert key is not None
        assert {value.name: value for value in key.values()} == {value.name: value for value in (
            registry.dword("Type", 1), registry.dword("Start", 0),
            registry.dword("ErrorControl", 1),
            registry.expand_sz("ImagePath", r"system32\drivers\viostor.sys"),
            registry.sz("Group", "SCSI miniport"), registry.multi_sz("Owners", ("oem3.inf",)))}
        assert _number(done, rf"{control_set}\Services\viostor\Parameters", "BusType") == 1
        assert _number(done, rf"{control_set}\Services\viostor\Parameters\PnpInterface", "5") == 1
        log = done.key(rf"{control_set}\Services\EventLog\System\viostor")
        assert log is not None
        assert log.text("EventMessageFile") == r"%SystemRoot%\System32\IoLogMsg.dll"
        assert log.number("TypesSupported") == 7


def test_on_7_and_older_a_service_has_no_owners() -> None:
    done = _done(system_hive(), lambda edits: services.plan(
        edits, (replace(VIOSTOR_SERVICE, display_name="A name", dependencies=("pci", "x")),)))
    key = done.key(r"ControlSet001\Services\viostor")
    assert key is not None
    assert key.value("Owners") is None
    assert key.text("DisplayName") == "A name"
    assert key.strings("DependOnService") == ("pci", "x")


def test_what_was_left_of_an_older_driver_does_not_demote_it() -> None:
    left: dict[str, dict[str, Value]] = {
        "viostor": {"Start": 4, "Tag": 33, "Owners": ("oem1.inf",)},
        r"viostor\StartOverride": {"0": 3}, r"viostor\Parameters": {"Mine": 1}}
    old = {rf"{control_set}\Services\{key}": values
           for control_set in BOTH for key, values in left.items()}
    demoted = replace(VIOSTOR_SERVICE, start=3)
    done = _done(system_hive(old), lambda edits: services.plan(edits, (demoted,), owner="oem3.inf",
                                                               boot=True))
    for control_set in BOTH:
        key = done.key(rf"{control_set}\Services\viostor")
        assert key is not None
        assert key.number("Start") == 0
        assert key.number("Tag") == 33
        assert key.strings("Owners") == ("oem1.inf", "oem3.inf")
        assert key.key("StartOverride") is None
        assert _number(done, rf"{control_set}\Services\viostor\Parameters", "Mine") == 1


def test_a_driver_in_the_driver_store_is_loaded_from_there() -> None:
    service = Service("qxl", 2, 1, 3, 1, r"%13%\qxl.sys")
    done = _done(system_hive(), lambda edits: services.plan(
        edits, (service,), folder="qxl.inf_amd64_0123456789abcdef"))
    key = done.key(r"ControlSet001\Services\qxl")
    assert key is not None
    assert key.text("ImagePath") == (r"\SystemRoot\System32\DriverStore\FileRepository"
                                     r"\qxl.inf_amd64_0123456789abcdef\qxl.sys")


def test_the_start_of_others_is_the_infs() -> None:
    done = _done(system_hive(), lambda edits: services.plan(
        edits, (Service("netkvm", 2, 1, 3, 1, "x.sys", group="NDIS"),)))
    assert _number(done, r"ControlSet001\Services\netkvm", "Start") == 3


def test_flags_of_additions() -> None:
    there: dict[str, dict[str, Value]] = {
        rf"{control_set}\Services\s": {"kept": 1, "list": ("a",)} for control_set in BOTH}
    service = Service("s", 2, 1, 3, 1, "x.sys", additions=(
        number("", "kept", 2, flags=0x2), number("", "new", 3, flags=0x2),
        number("", "gone", 4, flags=0x4), number("", "absent", 5, flags=0x20),
        Addition("HKLM", "elsewhere", "x", 4, b"\1\0\0\0"),
        Addition("HKR", "empty", None, 0, b"", 0x10),
        Addition("HKR", "", "list", registry.MULTI_SZ, registry.multi_sz("", ("A", "b")).data,
                 0x8)))
    done = _done(system_hive(there), lambda edits: services.plan(edits, (service,)))
    key = done.key(r"ControlSet001\Services\s")
    assert key is not None
    assert (key.number("kept"), key.number("new"), key.value("gone")) == (1, 3, None)
    assert key.value("absent") is None
    assert key.strings("list") == ("a", "b")
    assert key.key("empty") is not None
    assert done.key(r"ControlSet001\Services\s\elsewhere") is None


def test_an_unknown_load_group_is_refused() -> None:
    bare = make_hive({"Select": {"Current": 1}, r"ControlSet001\Control\ServiceGroupOrder": {}})
    with pytest.raises(CannotConvert, match="SCSI miniport"):
        _done(bare, lambda edits: services.plan(edits, (VIOSTOR_SERVICE,)))


@pytest.mark.parametrize("name", ["", r"disk\Enum", "a\0b"])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(inf.BadInf):
        _done(system_hive(), lambda edits: services.plan(
            edits, (replace(VIOSTOR_SERVICE, name=name),)))


def test_only_controllers_whose_driver_is_there_are_fallen_back_to() -> None:
    old = make_hive({rf"ControlSet001\Services\{name}": {"Start": 3}
                     for name in ("pciide", "msahci")} | {"Select": {"Current": 1}})
    files = {"/Windows/System32/drivers/pciide.sys": b""}
    done = _done(old, lambda edits: services.plan_fallback(edits, FakeGuest(files), "/Windows"))
    assert _number(done, r"ControlSet001\Services\pciide", "Start") == 0
    assert _number(done, r"ControlSet001\Services\msahci", "Start") == 3
    assert done.key(r"ControlSet001\Services\atapi") is None


@needs_data
@pytest.mark.parametrize(("name", "changed"), [
    # 7 uses IDE: atapi and intelide start at boot already.
    ("SYSTEM-win7-x86", {rf"{control_set}\Services\{service}" for control_set in BOTH
                         for service in ("pciide", "msahci")}),
    ("SYSTEM-win8.1-x64", {rf"ControlSet001\Services\{service}\StartOverride"
                           for service in ("atapi", "intelide", "pciide")}),
    ("SYSTEM-win10-1709-x64", {rf"ControlSet001\Services\{service}\StartOverride"
                               for service in ("storahci", "atapi", "intelide", "pciide")})])
def test_fallback_controllers_of_real_hives(name: str, changed: set[str]) -> None:
    edits = Edits(Hive(hive(name)), SYSTEM)
    services.plan_fallback(edits, FakeGuest(DRIVER_FILES), "/Windows")
    assert {change.key for change in edits.changes()} == changed


@needs_data
@pytest.mark.parametrize(("folder", "bus"), [("viostor/w8.1", 1), ("vioscsi/w8.1", 10)])
def test_the_real_storage_drivers(folder: str, bus: int) -> None:
    made = from_iso(f"{folder}/amd64", "amd64")
    install = made.inf.models(WINDOWS_8_1)[0].install
    installed = made.inf.installation(install, WINDOWS_8_1).services
    done = _done(hive("SYSTEM-win8.1-x64"), lambda edits: services.plan(edits, installed))
    path = rf"ControlSet001\Services\{made.name}"
    key = done.key(path)
    assert key is not None
    assert key.text("ImagePath") == rf"system32\drivers\{made.name}.sys"
    assert (key.number("Type"), key.number("Start"), key.number("ErrorControl")) == (1, 0, 1)
    assert key.text("Group") == "SCSI miniport"
    assert _number(done, rf"{path}\Parameters", "BusType") == bus
    assert _number(done, rf"{path}\Parameters\PnpInterface", "5") == 1


@needs_data
@pytest.mark.parametrize("name", ["SYSTEM-win7-x86", "SYSTEM-win8.1-x64"])
def test_in_a_real_hive_nothing_else_changes(name: str) -> None:
    before = _services(Hive(hive(name)))
    done = _done(hive(name), lambda edits: services.plan(edits, (VIOSTOR_SERVICE,)))
    after = _services(done)
    assert {path: after[path] for path in before} == before
    assert {path.lower() for path in set(after) - set(before)} == {
        "viostor", r"viostor\parameters", r"viostor\parameters\pnpinterface",
        r"eventlog\system\viostor"}


def _done(data: bytes, plan: Callable[[Edits], None]) -> Hive:
    """The hive with what `plan` planned; planning once more gives nothing."""
    guest = FakeGuest({SYSTEM: data})
    edits = Edits(Hive(data), SYSTEM)
    plan(edits)
    guest.edit_registry(SYSTEM, edits.changes())
    done = Hive(guest.files[SYSTEM])
    again = Edits(done, SYSTEM)
    plan(again)
    assert again.changes() == ()
    return done


def _number(done: Hive, path: str, name: str) -> int | None:
    key = done.key(path)
    assert key is not None
    return key.number(name)


def _services(done: Hive) -> dict[str, frozenset[RegistryValue]]:
    key = done.key(r"ControlSet001\Services")
    assert key is not None
    return {path: frozenset(below.values()) for path, below in key.walk()}
