"""The model of how Windows starts its disk's drivers, against what real Windows have."""

from __future__ import annotations

import struct

import pytest

from imgconv.model import Level
from imgconv.windows import boot_files, boot_match, boot_start, devices
from imgconv.windows.devices import PciDevice
from imgconv.windows.registry import Hive
from imgconv.windows.versions import WindowsVersion
from tests import windows_fixture as fixture
from tests.fake_guest import FakeGuest
from tests.windows_data import hive, needs_data

_SEVEN = WindowsVersion(6, 1, 7601, "x86")
_EIGHT = WindowsVersion(6, 3, 9600, "amd64")
_TEN = WindowsVersion(10, 0, 16299, "amd64")


@needs_data
@pytest.mark.parametrize(("name", "windows", "device", "service", "broken"), [
    # Installed on VMware's IDE and LSI SAS; AHCI's driver starts on demand.
    ("win7-x86", _SEVEN, devices.IDE, "intelide", set()),
    ("win7-x86", _SEVEN, devices.AHCI, "msahci", {"Start", "ControlSet002"}),
    ("win7-x86", _SEVEN, devices.VIRTIO_BLK, "", {"CriticalDeviceDatabase", "ControlSet002"}),
    # Installed on VirtualBox's AHCI, which took IDE out of the boot.
    ("win8.1-x64", _EIGHT, devices.AHCI, "storahci", set()),
    ("win8.1-x64", _EIGHT, devices.IDE, "intelide",
     {"StartOverride", "IDE channel: StartOverride"}),
    ("win8.1-x64", _EIGHT, devices.VIRTIO_BLK, "", {"DeviceIds"}),
    # Installed on a laptop's RAID, which took both out.
    ("win10-1709-x64", _TEN, devices.AHCI, "storahci", {"StartOverride"}),
    ("win10-1709-x64", _TEN, devices.IDE, "intelide",
     {"StartOverride", "IDE channel: StartOverride"}),
])
def test_real_windows(name: str, windows: WindowsVersion, device: PciDevice, service: str,
                      broken: set[str]) -> None:
    chain = boot_start.explain(Hive(hive(f"SYSTEM-{name}")), None, "/Windows", windows, device)
    assert chain.service == service
    assert {link.name for link in chain.links if link.level is Level.FAILED} == broken
    assert chain.holds is not bool(broken)


@needs_data
@pytest.mark.parametrize(("name", "windows", "service"), [
    ("win7-x86", _SEVEN, "LSI_SAS"), ("win8.1-x64", _EIGHT, "storahci"),
    ("win10-1709-x64", _TEN, "iaStorAV")])
def test_all_that_stands_on_the_controller_starts_in_real_windows(
        name: str, windows: WindowsVersion, service: str) -> None:
    system = Hive(hive(f"SYSTEM-{name}"))
    links = boot_start.stack(system, None, "/Windows", windows)
    assert {link.level for link in links} == {Level.PROVEN}
    assert service in {driver for _, driver in boot_start.installed_controllers(system)}


@needs_data
def test_the_controller_that_a_real_windows_was_installed_on() -> None:
    device = PciDevice("AHCI", 0x8086, 0x2829, (0, 0), 2, 0x010601)
    chain = boot_start.explain(Hive(hive("SYSTEM-win8.1-x64")), None, "/Windows", _EIGHT, device)
    assert chain.holds
    assert [link.message for link in chain.links if link.name == "Enum"] == [
        "this device was met before and has storahci"]


def _best(better: dict[str, int], date: int = 1 << 56, number: int = 4) -> str:
    """Which of two drivers of one device Windows takes; `better` are the second's byte 0 and 1 in
    DeviceIds and its score, `date` and `number` its date and the end of its version."""
    made = fixture.windows(10, 0, 16299, "amd64")
    package = "other.inf_amd64_5555555555555555"
    fixture._publish(made, "oem8.inf", package, fixture.SCSI, better.get("score", 0x0F000000),
                     {"new": ("other", (fixture.IDS[better.get("id", 0)],))})
    ids = made.system[f"{fixture.DATABASE}\\DeviceIds\\{fixture.IDS[better.get('id', 0)]}"]
    ids |= {"oem3.inf": b"\1\xff\0\0"} if not better.get("id") else {}
    ids["oem8.inf"] = bytes([better.get("kind", 1), better.get("feature", 255), 0, 0])
    for name in fixture.IDS:
        key = f"{fixture.DATABASE}\\DeviceIds\\{name}"
        made.system[key] = made.system[key] | {"oem3.inf": b"\1\xff\0\0"}
    version = fixture.version(fixture.SCSI, 9)
    made.system[f"{fixture.DATABASE}\\DriverPackages\\{package}"]["Version"] = (
        version[:24] + struct.pack("<Q4H", date, number, 3, 2, 100) + version[40:])
    return boot_match.find(Hive(made.hive()), "ControlSet001", _TEN,
                           devices.VIRTIO_BLK.as_device).service


@pytest.mark.parametrize(("better", "date", "number", "wins"), [
    ({}, (1 << 56) + 1, 4, True),                           # newer
    ({}, (1 << 56) - 1, 9, False),                          # older, whatever its version
    ({}, 1 << 56, 5, True),                                 # as old, higher version
    ({}, 1 << 56, 3, False),
    ({"feature": 0x80}, (1 << 56) - 1, 4, True),            # a better feature score
    ({"kind": 2}, (1 << 56) + 1, 4, False),                 # a compatible id of the INF
    ({"id": 1}, (1 << 56) + 1, 4, False),                   # a compatible id of the device
    ({"score": 0x80000000, "feature": 0}, (1 << 56) + 1, 4, False),  # not signed
    ({"score": 0x0D000005}, (1 << 56) - 1, 4, False),       # all signers are equal
])
def test_the_best_driver_wins(better: dict[str, int], date: int, number: int, wins: bool) -> None:
    assert _best(better, date, number) == ("other" if wins else "viostor")


def test_a_broken_driver_loses_but_is_said() -> None:
    made = fixture.windows(10, 0, 16299, "amd64")
    made.system[f"{fixture.DATABASE}\\DeviceIds\\{fixture.IDS[0]}"]["oem99.inf"] = b"\1\0\0\0"
    match = boot_match.find(Hive(made.hive()), "ControlSet001", _TEN,
                            devices.VIRTIO_BLK.as_device)
    assert match.service == "viostor"
    assert [link.message for link in match.links if link.level is Level.WARNING] == [
        "oem99.inf also knows the device, but is broken"]


@pytest.mark.parametrize(("image_path", "file"), [
    (None, "/Windows/System32/drivers/x.sys"),
    ("", "/Windows/System32/drivers/x.sys"),
    ("system32\\DRIVERS\\y.sys", "/Windows/system32/DRIVERS/y.sys"),
    ("\\SystemRoot\\system32\\drivers\\y.sys", "/Windows/system32/drivers/y.sys"),
    ("%systemroot%\\y.sys", "/Windows/y.sys"),
    ("\\??\\C:\\Windows\\y.sys", "/Windows/y.sys"),
    ("c:\\windows\\y.sys", "/windows/y.sys"),
    ("..\\y.sys", None),
    ("%ProgramFiles%\\y.sys", None),
    ("\\Device\\HarddiskVolume1\\y.sys", None),
    ("\\SystemRoot\\", None),
    ("\\??\\D:\\Windows\\y.sys", None),
])
def test_where_a_driver_lies(image_path: str | None, file: str | None) -> None:
    assert boot_files.resolve("/Windows", image_path, "x") == file
    mounted = f"/c{file}" if file is not None else None
    assert boot_files.resolve("/c/Windows", image_path, "x") == mounted


@pytest.mark.parametrize(("image_path", "level"), [
    ("\\??\\C:\\Windows\\System32\\drivers\\flt.sys", Level.PROVEN),
    ("D:\\Windows\\System32\\drivers\\flt.sys", Level.WARNING),
    ("\\??\\C:\\Windows\\System32\\drivers\\gone.sys", Level.FAILED)])
@pytest.mark.parametrize("service", ["flt", "partmgr"])
def test_full_path_of_a_driver(service: str, image_path: str, level: Level) -> None:
    made = fixture.windows(10, 0, 16299, "amd64")
    made.service("flt")
    made.set(f"Control\\Class\\{fixture.VOLUME}", UpperFilters=("flt",))
    made.set(f"Services\\{service}", ImagePath=image_path)
    guest = FakeGuest({f"/c{path}": content for path, content in made.files.items()})
    links = boot_start.stack(Hive(made.hive()), guest, "/c/Windows", _TEN)
    name = "filters of Volume" if service == "flt" else service
    assert {link.level for link in links if link.name == name} == {level}
