"""Loading hives with their logs, and what editing one takes."""

from __future__ import annotations

import pytest

from imgconv.errors import CannotConvert, GuestFileMissing, HostileInput, ImgconvError
from imgconv.guest.cached import Cached
from imgconv.model import Change, DeleteRegistryKey, RegistryValue, SetRegistry, WriteFile
from imgconv.windows import hives, registry
from imgconv.windows.edits import Edits
from imgconv.windows.hive_logs import LOG_LIMIT
from imgconv.windows.hives import LoadedHive, check
from tests.fake_guest import FakeGuest
from tests.hives import log_entry, make_hive, new_log, old_log, with_sequences
from tests.registry_compare import differences, dissect_tree
from tests.windows_data import hive, needs_data

PATH = "/Windows/System32/config/SYSTEM"
BEFORE = make_hive({"Select": {"Current": 1}})
AFTER = make_hive({"Select": {"Current": 1}, "New": {"text": "x" * 200}})
DIRTY = with_sequences(BEFORE, 8, 7)
LOG = new_log(BEFORE, log_entry(7, BEFORE, AFTER))


def guest(data: bytes, **logs: bytes) -> FakeGuest:
    return FakeGuest({PATH: data, **{f"{PATH}.{name}": log for name, log in logs.items()}})


def load(data: bytes, **logs: bytes) -> LoadedHive:
    return hives.load(Cached(guest(data, **logs)), PATH)


def edited(loaded: LoadedHive) -> tuple[Change, ...]:
    edits = Edits(loaded.hive, PATH)
    edits.set("Services\\viostor", [registry.dword("Start", 0)], "boot")
    return loaded.finish(edits.changes())


def apply(target: FakeGuest, changes: tuple[Change, ...]) -> None:
    edits = []
    for change in changes:
        match change:
            case WriteFile():
                assert target.files[change.path] == change.before
                target.write(change.path, change.content, change.mode)
            case SetRegistry() | DeleteRegistryKey():
                edits.append(change)
    target.edit_registry(PATH, edits)


def kinds(changes: tuple[Change, ...]) -> list[tuple[str, str]]:
    return [(type(change).__name__, getattr(change, "path", "")) for change in changes]


def assert_stable(target: FakeGuest, before: bytes, *keys: str) -> None:
    """After applying, nothing is left to do, and only those keys are other than `before`."""
    again = hives.load(target, PATH)
    assert edited(again) == ()
    assert (again.changes, again.neutralise, again.warnings) == ((), (), ())
    assert not again.hive.dirty
    assert check(target.files[PATH]) == ()
    assert differences(before, target.files[PATH]) == set(keys)


# --- made ones ----------------------------------------------------------------------------------


def test_a_clean_hive() -> None:
    loaded = load(BEFORE)
    assert (loaded.changes, loaded.neutralise, loaded.warnings) == ((), (), ())
    assert loaded.finish([]) == ()
    assert kinds(edited(loaded)) == [("SetRegistry", "")]


def test_logs_of_a_clean_hive_are_emptied_by_an_edit() -> None:
    """They hold nothing that the hive lacks, but must not fit when Windows crashes later."""
    target = guest(BEFORE, LOG=b"", LOG1=LOG, LOG2=LOG)
    loaded = hives.load(target, PATH)
    assert loaded.hive.key("New") is None
    assert loaded.finish([]) == ()
    changes = edited(loaded)
    assert kinds(changes) == [("SetRegistry", ""), ("WriteFile", f"{PATH}.LOG1"),
                              ("WriteFile", f"{PATH}.LOG2")]
    apply(target, changes)
    assert target.files[f"{PATH}.LOG1"] == target.files[f"{PATH}.LOG2"] == b""
    assert_stable(target, BEFORE, "Services", "Services\\viostor")


@pytest.mark.parametrize("log", [LOG, old_log(DIRTY, AFTER, 8)], ids=["new", "old"])
@pytest.mark.parametrize("name", ["LOG", "LOG1", "LOG2", "log1"])
def test_a_dirty_hive_is_completed(log: bytes, name: str) -> None:
    target = guest(DIRTY, **{name: log})
    loaded = hives.load(target, PATH)
    assert loaded.warnings == ()
    assert loaded.hive.key("New") is not None
    assert loaded.finish([]) == ()
    changes = edited(loaded)
    assert kinds(changes) == [("WriteFile", PATH), ("SetRegistry", ""),
                              ("WriteFile", f"{PATH}.{name}")]
    apply(target, changes)
    assert_stable(target, AFTER, "Services", "Services\\viostor")


def test_the_numbers_are_newer_than_all_in_the_logs() -> None:
    old = new_log(BEFORE, log_entry(3, AFTER, BEFORE))
    target = guest(DIRTY, LOG1=LOG, LOG2=with_sequences(old, 70, 70))
    apply(target, edited(hives.load(target, PATH)))
    assert hives.load(target, PATH).hive.sequences == (71, 71)


def test_a_dirty_hive_without_logs() -> None:
    for logs in ({}, {"LOG1": b"", "LOG2": bytes(2000)}):
        target = guest(DIRTY, **logs)
        loaded = hives.load(target, PATH)
        assert "may be lost" in loaded.warnings[0]
        assert loaded.finish([]) == loaded.changes == ()
        apply(target, edited(loaded))
        assert_stable(target, BEFORE, "Services", "Services\\viostor")


def test_a_gap_is_told() -> None:
    later = new_log(BEFORE, log_entry(9, AFTER, BEFORE))
    assert "lacks a part" in load(DIRTY, LOG1=LOG, LOG2=later).warnings[0]


def test_a_header_that_only_a_log_has() -> None:
    target = guest(bytes(512) + DIRTY[512:], LOG1=LOG)
    apply(target, edited(hives.load(target, PATH)))
    assert_stable(target, AFTER, "Services", "Services\\viostor")


@pytest.mark.parametrize("data", [
    b"", bytes(9000), DIRTY[:300] + b"\1" + DIRTY[301:],
    with_sequences(BEFORE[:4096] + b"hbim" + BEFORE[4100:], 8, 7)])
def test_damaged_ones_are_refused(data: bytes) -> None:
    with pytest.raises(CannotConvert, match=f"{PATH} is damaged") as caught:
        edited(load(data, LOG1=b"x" * 600))
    assert "RegBack" in caught.value.hint


def test_a_log_that_spoils_the_hive_is_refused() -> None:
    spoiled = BEFORE[:4096] + b"hbim" + BEFORE[4100:]
    loaded = load(DIRTY, LOG1=new_log(BEFORE, log_entry(7, BEFORE, spoiled)))
    assert loaded.finish([]) == ()
    with pytest.raises(CannotConvert, match="bin at 0x0 is damaged"):
        edited(loaded)


def test_a_dirty_hive_may_be_damaged_where_nobody_looks() -> None:
    leaf = AFTER.index(b"lh\2\0") + 8
    spoiled = with_sequences(AFTER[:leaf] + b"\1" + AFTER[leaf + 1:], 8, 7)
    loaded = load(spoiled)
    assert loaded.finish([]) == ()
    with pytest.raises(CannotConvert, match="wrong hash"):
        edited(loaded)


def test_damage_that_only_an_edit_would_meet() -> None:
    """A hive that is only read may be damaged elsewhere."""
    leaf = AFTER.index(b"lh\2\0") + 8
    loaded = load(AFTER[:leaf] + b"\1" + AFTER[leaf + 1:])
    assert loaded.finish([]) == ()
    with pytest.raises(CannotConvert, match="wrong hash"):
        edited(loaded)


def test_values_that_only_python_takes_for_one() -> None:
    there = registry.Hive(make_hive({"A": {"i": 1, "\u0131": 2}}))
    edits = Edits(there, PATH)
    edits.set("A", [registry.dword("I", 1), registry.dword("\u0131", 2)], "")
    assert edits.changes() == ()


def test_missing_and_too_large() -> None:
    with pytest.raises(GuestFileMissing):
        hives.load(FakeGuest({}), PATH)
    with pytest.raises(HostileInput, match="larger"):
        load(DIRTY, LOG1=bytes(LOG_LIMIT + 1))


def test_edits_that_hivex_would_do_wrongly() -> None:
    large = make_hive({"A": {"small": 1}}).replace(b"small", b"large")
    loaded = load(large)
    with pytest.raises(ImgconvError, match="is too large"):
        loaded.finish([SetRegistry(PATH, "A", (registry.binary("x", bytes(16345)),), "")])
    with pytest.raises(ImgconvError, match="a name in it is empty"):
        loaded.finish([SetRegistry(PATH, "A\\\\B", (), "")])


# --- real ones ----------------------------------------------------------------------------------


@needs_data
@pytest.mark.parametrize("name", ["SYSTEM-win8.1-x64", "SYSTEM-win10-1709-x64"])
def test_real_hives_after_an_edit(name: str) -> None:
    """Keys below a list of thousands, services, deletions: nothing else changes."""
    logs = {suffix: hive(f"{name}.{suffix}") for suffix in ("LOG1", "LOG2")} if "10" in name else {}
    target = guest(hive(name), **logs)
    loaded = hives.load(target, PATH)
    before = loaded.data
    services = "ControlSet001\\Services"
    ids = "DriverDatabase\\DeviceIds\\PCI"
    edits = Edits(loaded.hive, PATH)
    for number in range(40):
        edits.set(f"{ids}\\VEN_1AF4&DEV_{number:04X}&REV_00",
                  [registry.binary("oem9.inf", b"\1\xff\0\0")], "")
    edits.set(f"{services}\\viostor\\Parameters\\PnpInterface", [registry.dword("5", 1)], "")
    edits.set(f"{services}\\atapi", [RegistryValue("odd", 0xFFFF0013, b"\0" * 40)], "")
    edits.delete(f"{services}\\atapi\\StartOverride", "")
    edits.delete(f"{services}\\usbhub", "")
    apply(target, loaded.finish(edits.changes()))
    after = target.files[PATH]
    assert check(after) == ()
    assert hives.load(target, PATH).neutralise == ()
    changed = {path.upper() for path in differences(before, after)}
    gone = {path for path in changed if path.startswith(f"{services}\\usbhub".upper())
            or path == f"{services}\\atapi\\StartOverride".upper()}
    assert gone
    assert all(registry.Hive(after).key(path) is None for path in gone)
    assert changed - gone == {path.upper() for path in (
        *(f"{ids}\\VEN_1AF4&DEV_{number:04X}&REV_00" for number in range(40)),
        f"{services}\\viostor", f"{services}\\viostor\\Parameters",
        f"{services}\\viostor\\Parameters\\PnpInterface", f"{services}\\atapi")}
    apply_again = Edits(hives.load(target, PATH).hive, PATH)
    for edit in edits.changes():
        if isinstance(edit, SetRegistry):
            apply_again.set(edit.key, edit.values, "")
    assert apply_again.changes() == ()
    for key in (ids, f"{services}\\viostor", f"{services}\\atapi"):
        found = registry.Hive(after).key(key)
        assert found is not None
        assert {path: below.values() for path, below in found.walk()} == dissect_tree(after, key)


@needs_data
def test_keys_with_large_values_are_not_edited() -> None:
    """hivex would write the one that is there already in one piece."""
    loaded = load(hive("SYSTEM-win7-x86"))
    cache = "ControlSet001\\Control\\ProductOptions"
    key = loaded.hive.key(cache)
    assert key is not None
    assert max(len(value.data) for value in key.values()) > 16344
    with pytest.raises(CannotConvert, match="too large"):
        loaded.finish([SetRegistry(PATH, cache, (registry.dword("x", 1),), "")])


@needs_data
def test_hive_that_hivex_refuses_too() -> None:
    loaded = load(hive("corrupted-hive"))
    with pytest.raises(CannotConvert, match="damaged"):
        edited(loaded)
