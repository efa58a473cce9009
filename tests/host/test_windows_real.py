"""Real registries of Windows and real drivers: what is written into them, read by the model."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import pytest

from imgconv.model import (
    Bus,
    Capabilities,
    Change,
    Finding,
    Firmware,
    Inspection,
    Level,
    Plan,
    SetRegistry,
    WindowsOs,
    WriteFile,
)
from imgconv.verify import windows as verify
from imgconv.windows import critical_device_database, driver_database, hives, services, staging
from imgconv.windows.driver_database import Published
from imgconv.windows.edits import Edits
from imgconv.windows.package_name import DriverStore
from imgconv.windows.registry import Key, dword
from imgconv.windows.versions import of
from imgconv.windows.virtio_win import open_payload
from tests import windows_fixture, windows_payloads
from tests.fake_guest import FakeGuest
from tests.windows_data import SAMPLE_ISO, hive, needs_data

pytestmark = needs_data

_SYSTEM = "/Windows/System32/config/SYSTEM"
_DRIVERS = "/Windows/System32/drivers"
_GUESTS = {"win7-x86": ("6.1.7601", "i386"), "win8.1-x64": ("6.3.9600", "x86_64"),
           "win10-1709-x64": ("10.0.16299", "x86_64")}
_BUSES = {Bus.VIRTIO_BLK: "viostor", Bus.VIRTIO_SCSI: "vioscsi"}


def _inspection(name: str) -> Inspection:
    version, arch = _GUESTS[name]
    return Inspection("/dev/sda1", arch, Firmware.BIOS, (), (), WindowsOs("Windows", version))


@cache
def _converted(name: str, bus: Bus) -> tuple[dict[str, bytes], Plan]:
    """The guest's files with the driver for `bus` in place, and the plan that put it there."""
    inspection = _inspection(name)
    windows = of(inspection)
    arch = windows_payloads.X86 if windows.arch == "x86" else windows_payloads.AMD64
    driver = windows_payloads.pe(arch)
    guest = FakeGuest({_SYSTEM: hive(f"SYSTEM-{name}")} | {
        f"{_SYSTEM}.{log}": hive(f"SYSTEM-{name}.{log}")
        for log in ("LOG1", "LOG2") if "win10" in name} | {
        f"/Windows/System32/{file}": driver for file in (
            "ntoskrnl.exe", "hal.dll", "winload.exe")} | {
        "/bootmgr": b"x", "/Boot/BCD": windows_fixture.bcd()} | {
        f"{_DRIVERS}/{file}.sys": driver for file in ("storport", "scsiport")})
    loaded = hives.load(guest, _SYSTEM)
    services_key = loaded.hive.key("ControlSet001\\Services")
    assert services_key is not None
    for service in services_key.subkeys():
        grouped = service.number("Type") == 1 and service.text("Group") is not None
        if grouped or service.number("Start") == 0:
            guest.files[_path(service)] = driver
    with open_payload(SAMPLE_ISO) as payload:
        package = payload.select(windows).package(_BUSES[bus])
    assert package is not None
    system = Edits(loaded.hive, _SYSTEM)
    published: Published | None = None
    if "win7" in name:
        critical_device_database.plan(system, package, windows)
    else:
        published, = driver_database.plan(system, None, [package], windows,
                                          DriverStore(loaded.hive, None, guest, "/Windows"))
    install = package.inf.installation(package.inf.models(windows)[0].install, windows)
    services.plan(system, install.services, owner=published.inf_name if published else None,
                  boot=True)
    services.plan_fallback(system, guest, "/Windows")
    edits = system.changes()
    changes: tuple[Change, ...] = (*loaded.finish(edits), *staging.files(
        guest, "/Windows", package, published, boot=True, windows=windows))
    for change in changes:
        if isinstance(change, WriteFile):
            guest.write(change.path, change.content, 0o644)
    guest.edit_registry(_SYSTEM, edits)
    return guest.files, Plan(changes, Capabilities(bus))


def _path(service: Key) -> str:
    image = (service.text("ImagePath") or "").replace("\\", "/").lower()
    return "/Windows/" + (image.removeprefix("/systemroot/")
                          or f"system32/drivers/{service.name}.sys")


def _verify(name: str, guest: FakeGuest, plan: Plan) -> tuple[Finding, ...]:
    return verify.verify(guest, _inspection(name), plan)


def _failed(findings: tuple[Finding, ...]) -> list[tuple[str, str, str]]:
    return [(f.subject, f.message, f.evidence) for f in findings if f.level is Level.FAILED]


@pytest.mark.parametrize(("name", "bus"), [
    ("win7-x86", Bus.VIRTIO_BLK), ("win8.1-x64", Bus.VIRTIO_BLK), ("win8.1-x64", Bus.VIRTIO_SCSI),
    ("win10-1709-x64", Bus.VIRTIO_BLK), ("win10-1709-x64", Bus.VIRTIO_SCSI)])
def test_what_is_written_is_what_windows_looks_for(name: str, bus: Bus) -> None:
    files, plan = _converted(name, bus)
    findings = _verify(name, FakeGuest(files), plan)
    assert _failed(findings) == []
    subjects = {f.subject for f in findings if f.level is Level.PROVEN}
    assert {f"{bus}: Start", f"{bus}: imports", f"{bus}: signature", "hive SYSTEM",
            "way back: SATA (ICH9)", "way back: IDE (PIIX3)"} <= subjects


def _set(key: str, number: int, value: str) -> Callable[[FakeGuest], None]:
    def change(guest: FakeGuest) -> None:
        guest.edit_registry(_SYSTEM, [SetRegistry(_SYSTEM, f"ControlSet001\\Services\\{key}",
                                                  (dword(value, number),), "")])
    return change


@pytest.mark.parametrize("name", _GUESTS)
@pytest.mark.parametrize(("change", "subject"), [
    (_set("viostor", 3, "Start"), "virtio-blk: Start"),
    (_set("viostor\\StartOverride", 3, "0"), "virtio-blk: StartOverride"),
    (_set("disk", 3, "Start"), "Windows: disk"),
    (_set("partmgr", 4, "Start"), "Windows: partmgr"),
    (_set("atapi\\StartOverride", 3, "0"), "way back: IDE (PIIX3)"),
    (lambda guest: guest.files.pop(f"{_DRIVERS}/viostor.sys"), "virtio-blk: driver file"),
    (lambda guest: guest.files.pop(f"{_DRIVERS}/storport.sys"), "virtio-blk: imports"),
], ids=["start", "override", "disk", "partmgr", "atapi", "file", "import"])
def test_a_broken_link_is_found(name: str, change: Callable[[FakeGuest], object],
                                subject: str) -> None:
    files, plan = _converted(name, Bus.VIRTIO_BLK)
    guest = FakeGuest(files)
    change(guest)
    level = Level.FAILED
    if subject.startswith("way back") and name != "win7-x86":
        level = Level.WARNING  # these were installed on other controllers
    assert any(f.subject == subject and f.level is level
               for f in _verify(name, guest, plan))


@pytest.mark.parametrize("name", _GUESTS)
def test_as_it_was_found_it_starts_from_no_virtio(name: str) -> None:
    guest = FakeGuest({_SYSTEM: hive(f"SYSTEM-{name}")})
    findings = _verify(name, guest, Plan((), Capabilities(Bus.VIRTIO_BLK)))
    assert any(f.level is Level.FAILED and f.subject.startswith("virtio-blk") for f in findings)
