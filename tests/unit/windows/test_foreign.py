from __future__ import annotations

import pytest

from imgconv.model import SetRegistry
from imgconv.windows import foreign
from imgconv.windows.edits import Edits
from imgconv.windows.registry import Hive, dword, multi_sz
from imgconv.windows.versions import WindowsVersion
from tests.fake_guest import FakeGuest
from tests.hives import Value, make_hive
from tests.windows_data import hive, needs_data

XP = WindowsVersion(5, 1, 2600, "x86")
WINDOWS_10 = WindowsVersion(10, 0, 16299, "amd64")
PATH = "/c/Windows/System32/config/SYSTEM"
HDC = r"Control\Class\{4d36e96a-e325-11ce-bfc1-08002be10318}"
SYSTEM = r"Control\Class\{4d36e97d-e325-11ce-bfc1-08002be10318}"


def system(tree: dict[str, dict[str, Value]], control_sets: int = 1) -> bytes:
    keys: dict[str, dict[str, Value]] = {"Select": {"Current": 1}, "Setup": {}}
    for number in range(1, control_sets + 1):
        keys |= {rf"ControlSet00{number}\{path}": values for path, values in tree.items()}
    return make_hive(keys)


XEN: dict[str, dict[str, Value]] = {
    r"Services\XENFILT": {"Start": 0, "Type": 1},
    r"Services\xenbus": {"Start": 0, "Type": 1},
    r"Services\xeniface": {"Start": 3, "Type": 1},
    r"Services\disk": {"Start": 0, "Type": 1},
    HDC: {"Class": "hdc", "UpperFilters": ("xenfilt",)},
    SYSTEM: {"Class": "System", "UpperFilters": ("Other", "XENFILT"), "LowerFilters": ("third",)},
    r"Enum\PCI\VEN_8086\3&1": {"LowerFilters": ("XenFilt", "keep")},
}


def test_xen() -> None:
    edits = Edits(Hive(system(XEN, control_sets=2)), PATH)
    said = foreign.plan(edits, WINDOWS_10)
    changes = {change.key: change for change in edits.changes()}
    assert len(changes) == len(edits.changes()) == 10
    for number in "12":
        base = f"ControlSet00{number}"
        start = changes[rf"{base}\Services\XENFILT"]
        assert isinstance(start, SetRegistry)
        assert (start.values, start.before) == ((dword("Start", 4),), (dword("Start", 0),))
        filters = changes[rf"{base}\{SYSTEM}"]
        assert isinstance(filters, SetRegistry)
        assert filters.values == (multi_sz("UpperFilters", ("Other",)),)
        assert filters.before == (multi_sz("UpperFilters", ("Other", "XENFILT")),)
        hdc, single = changes[rf"{base}\{HDC}"], changes[rf"{base}\Enum\PCI\VEN_8086\3&1"]
        assert isinstance(hdc, SetRegistry)
        assert isinstance(single, SetRegistry)
        assert hdc.values == (multi_sz("UpperFilters", ()),)
        assert single.values == (multi_sz("LowerFilters", ("keep",)),)
    assert said == ("Xen's drivers are installed: uninstall them in the guest, once it runs",
                    "disabled, because they would stop the boot: XENFILT, xenbus")


def test_again_is_nothing() -> None:
    guest = FakeGuest({PATH: system(XEN)})
    first = Edits(Hive(guest.files[PATH]), PATH)
    foreign.plan(first, WINDOWS_10)
    guest.edit_registry(PATH, first.changes())
    again = Edits(Hive(guest.files[PATH]), PATH)
    assert not any("disabled" in text for text in foreign.plan(again, WINDOWS_10))
    assert again.changes() == ()
    assert again.hive.key(rf"ControlSet001\{HDC}").strings("UpperFilters") == ()  # type: ignore[union-attr]


@pytest.mark.parametrize(("windows", "disabled"), [
    (XP, True), (WindowsVersion(5, 2, 3790, "amd64"), True), (WINDOWS_10, False)])
def test_processor_driver(windows: WindowsVersion, disabled: bool) -> None:
    edits = Edits(Hive(system({r"Services\intelppm": {"Start": 1}})), PATH)
    assert bool(foreign.plan(edits, windows)) is disabled
    assert bool(edits.changes()) is disabled


def test_filter_of_others_stays() -> None:
    edits = Edits(Hive(system({HDC: {"UpperFilters": ("xenfilt",)}})), PATH)
    assert foreign.plan(edits, WINDOWS_10) == ()  # nothing is known of a service that is not there
    assert edits.changes() == ()


@needs_data
@pytest.mark.parametrize(("name", "products"), [
    ("win7-x86", ("VMware Tools",)), ("win8.1-x64", ("VirtualBox Guest Additions",)),
    ("win10-1709-x64", ())])
def test_real(name: str, products: tuple[str, ...]) -> None:
    """What VMware, VirtualBox and Hyper-V leave does not stop a boot: nothing is touched."""
    edits = Edits(Hive(hive(f"SYSTEM-{name}")), PATH)
    said = foreign.plan(edits, WINDOWS_10)
    assert edits.changes() == ()
    assert foreign.installed(edits.hive) == products
    assert len(said) == len(products)
    assert all("uninstall" in text for text in said)
