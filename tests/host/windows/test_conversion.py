"""Whole conversions of Windows guests in memory, and each link of the result broken once.

The guests are made (tests.windows_guests) or, where the real hives are there, built around those;
hivex edits their hives, as in the appliance.
"""

from __future__ import annotations

import posixpath
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from imgconv import pipeline
from imgconv.errors import CannotConvert
from imgconv.model import (
    Bus,
    DeleteRegistryKey,
    Finding,
    Firmware,
    Inspection,
    Level,
    Options,
    Plan,
    RegistryValue,
    SetRegistry,
    target,
)
from imgconv.windows import registry
from imgconv.windows.registry import Hive
from tests import windows_payloads
from tests.fake_guest import FakeGuest
from tests.hives import with_sequences
from tests.registry_compare import differences
from tests.windows_data import SAMPLE_ISO, needs_data
from tests.windows_guests import RELEASES, WindowsTree

_TREES = {
    "7": WindowsTree(RELEASES["7"]),
    "2008r2": WindowsTree(RELEASES["2008r2"], controller="ide"),
    "8.1": WindowsTree(RELEASES["8.1"]),
    "11": WindowsTree(RELEASES["11"], Firmware.UEFI),
    "2022": WindowsTree(RELEASES["2022"], Firmware.UEFI),
    "11 dirid 13": WindowsTree(RELEASES["11"], Firmware.UEFI),
}
_REAL = {
    "real 7 x86": ("7-x86", Firmware.BIOS),
    "real 8.1": ("8.1", Firmware.BIOS),
    "real 10": ("10", Firmware.UEFI),
}
_STORE = "/System32/DriverStore/FileRepository/"
_GUESTS = [*_TREES, *(pytest.param(name, marks=needs_data) for name in _REAL)]


def _tree(name: str) -> WindowsTree:
    if name in _TREES:
        return _TREES[name]
    release, firmware = _REAL[name]
    return WindowsTree(RELEASES[release], firmware, real=True, dirty=release == "10")


@dataclass(frozen=True, slots=True)
class Converted:
    before: dict[str, bytes]
    files: dict[str, bytes]
    inspection: Inspection
    options: Options
    plan: Plan
    findings: tuple[Finding, ...]

    @property
    def root(self) -> str:
        return getattr(self.inspection.os, "systemroot", "")

    @property
    def system(self) -> str:
        return next(path for path in self.files
                    if path.lower() == f"{self.root}/system32/config/system".lower())


@pytest.fixture(scope="session")
def payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A payload of our own, for the made guests."""
    options = {"7": "NTamd64.6.1", "2k8R2": "NTamd64.6.1", "w8.1": "NTamd64.6.3",
               "w10": "NTamd64.10.0", "2k22": "NTamd64.10.0"}
    return windows_payloads.write(tmp_path_factory.mktemp("payload"), windows_payloads.tree({
        f"viostor/{'w7' if label == '7' else label}/amd64": windows_payloads.package(
            decoration=decoration) for label, decoration in options.items()}))


@pytest.fixture(scope="session")
def stored_payload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A payload whose drivers stay in the driver store, as virtio-win's for Windows 11."""
    return windows_payloads.write(tmp_path_factory.mktemp("stored"), windows_payloads.tree({
        "viostor/w11/amd64": windows_payloads.package(dirid=13)}))


@cache
def _converted(name: str, drivers: Path) -> Converted:
    built, inspection = _tree(name).build()
    guest = FakeGuest(built.files)
    before = dict(guest.files)
    options = Options(drivers=drivers)
    plan = pipeline.planned(guest, inspection, options)
    pipeline.apply(guest, plan)
    return Converted(before, guest.files, inspection, options, plan,
                     pipeline.verified(guest, inspection, options, plan))


@pytest.fixture
def convert(payload: Path, stored_payload: Path) -> Callable[[str], Converted]:
    return lambda name: _converted(name, SAMPLE_ISO if name in _REAL else stored_payload
                                   if name == "11 dirid 13" else payload)


def _failed(findings: tuple[Finding, ...]) -> list[tuple[str, str]]:
    return [(f.subject, f.message) for f in findings if f.level is Level.FAILED]


@pytest.mark.parametrize("name", _GUESTS)
def test_it_is_converted_and_proven(convert: Callable[[str], Converted], name: str) -> None:
    done = convert(name)
    assert _failed(done.findings) == []
    assert done.plan.capabilities.block is Bus.VIRTIO_BLK
    proven = {f.subject for f in done.findings if f.level is Level.PROVEN}
    assert {"virtio-blk: Start", "virtio-blk: imports", "virtio-blk: signature", "hive SYSTEM",
            "plan"} <= proven


def test_a_driver_of_the_driver_store_is_loaded_from_there(
        convert: Callable[[str], Converted]) -> None:
    done = convert("11 dirid 13")
    place, = (path for path in done.files if path.endswith("/viostor.sys"))
    assert _STORE in place
    service = Hive(done.files[done.system]).key(rf"{_SET}\Services\viostor")
    assert service is not None
    assert service.text("ImagePath") == place.replace("/c/Windows", r"\SystemRoot").replace(
        "/", "\\")


@pytest.mark.parametrize("name", _GUESTS)
def test_before_it_does_not_start_from_virtio(convert: Callable[[str], Converted],
                                              name: str) -> None:
    done = convert(name)
    found = pipeline.proof(FakeGuest(dict(done.before)), done.inspection, Bus.VIRTIO_BLK)
    assert any(subject.startswith("virtio-blk") for subject, _ in _failed(found))


@pytest.mark.parametrize("name", _GUESTS)
def test_nothing_but_the_plan_changes_a_hive(convert: Callable[[str], Converted],
                                             name: str) -> None:
    done = convert(name)
    edits = [c for c in done.plan.changes if isinstance(c, SetRegistry | DeleteRegistryKey)]
    for path in {edit.hive for edit in edits}:
        whole = [c.content for c in done.plan.changes
                 if getattr(c, "path", "") == path and hasattr(c, "content")]
        was = whole[0] if whole else done.before[path]  # with what its logs held
        planned = {edit.key.upper() for edit in edits if edit.hive == path}
        for key in differences(was, done.files[path]):
            assert any(one == key.upper() or one.startswith(f"{key.upper()}\\")
                       or key.upper().startswith(f"{one}\\") for one in planned), key


def test_without_a_driver_it_stays_on_the_old_bus(payload: Path) -> None:
    tree = WindowsTree(RELEASES["xp"], controller="ide")
    built, inspection = tree.build()
    guest = FakeGuest(built.files)
    guest.devices = {"/dev/sda1": _boot_sector(), "/dev/sda": bytes(64)}
    options = Options(drivers=payload)
    plan = pipeline.planned(guest, inspection, options)
    assert plan.capabilities.block is Bus.IDE
    assert not plan.capabilities.net
    assert "no viostor" in plan.warnings[0]
    pipeline.apply(guest, plan)
    assert _failed(pipeline.verified(guest, inspection, options, plan)) == []
    assert any(target(change) == "/dev/sda1 at 0x1a" for change in plan.changes)


def _no_bin(hive: bytes) -> bytes:
    return hive[:4096] + bytes(4) + hive[4100:]


#: Hives of which nothing can be read, and such that only look bad where nobody reads.
_UNREADABLE: dict[str, Callable[[bytes], bytes]] = {
    "zeros": lambda hive: bytes(len(hive)), "empty": lambda hive: b"",
    "no root": lambda hive: hive[:4132] + bytes(64) + hive[4196:]}
_UNSOUND: dict[str, Callable[[bytes], bytes]] = {
    "no bin": _no_bin, "dirty, no bin": lambda hive: with_sequences(_no_bin(hive), 8, 7)}


@pytest.mark.parametrize("what", [*_UNREADABLE, *_UNSOUND])
def test_software_is_only_asked_about_policies_since_8(payload: Path, what: str) -> None:
    guest, inspection, path = _spoiled("11", what)
    plan = pipeline.planned(guest, inspection, Options(drivers=payload))
    assert plan.capabilities.block is Bus.VIRTIO_BLK
    assert path not in {target(change) for change in plan.changes}
    assert any("the policies were not looked at" in said and path in said
               for said in plan.warnings) == (what in _UNREADABLE)


@pytest.mark.parametrize("what", [*_UNREADABLE, *_UNSOUND])
def test_software_is_edited_before_8(payload: Path, what: str) -> None:
    guest, inspection, path = _spoiled("7", what)
    with pytest.raises(CannotConvert, match=f"{path} is damaged"):
        pipeline.planned(guest, inspection, Options(drivers=payload))


def _spoiled(name: str, what: str) -> tuple[FakeGuest, Inspection, str]:
    """A guest whose SOFTWARE is spoiled, and where it is."""
    built, inspection = _tree(name).build()
    path = next(name for name in built.files if name.endswith("/SOFTWARE"))
    spoil = (_UNREADABLE | _UNSOUND)[what]
    return FakeGuest(built.files | {path: spoil(built.files[path])}), inspection, path


def test_a_driver_that_cannot_be_installed_is_left_out(tmp_path: Path) -> None:
    """Stripped images lack device classes; that is no reason to leave them behind."""
    other = windows_payloads.inf("other").replace(
        b"4D36E97B-E325-11CE-BFC1-08002BE10318", b"745A17A0-74D3-11D0-B6FE-00A0C90F57DA").replace(
        b"DEV_1001", b"DEV_1052").replace(b"DEV_1042", b"DEV_1052")
    files = {"other.inf": other, "other.sys": windows_payloads.pe()}
    files["other.cat"] = windows_payloads.catalog(files)
    drivers = windows_payloads.write(tmp_path, windows_payloads.tree({
        "viostor/w10/amd64": windows_payloads.package(), "other/w10/amd64": files}))
    built, inspection = _TREES["2022"].build()
    guest = FakeGuest(built.files)
    options = Options(drivers=drivers)
    plan = pipeline.planned(guest, inspection, options)
    assert any(warning.startswith("other is left out: ") for warning in plan.warnings)
    assert not any("other" in target(change) for change in plan.changes)
    assert plan.capabilities.block is Bus.VIRTIO_BLK
    pipeline.apply(guest, plan)
    assert _failed(pipeline.verified(guest, inspection, options, plan)) == []


def _boot_sector() -> bytes:
    from tests.ntfs_volume import boot_sector

    return boot_sector(16)


# --- each link broken once ------------------------------------------------------------------------

Break = Callable[[FakeGuest, Converted], None]


def _set(key: str, *values: RegistryValue) -> Break:
    return lambda guest, done: guest.edit_registry(
        done.system, [SetRegistry(done.system, key, values, "")])


def _delete(key: str) -> Break:
    return lambda guest, done: guest.edit_registry(
        done.system, [DeleteRegistryKey(done.system, key, "")])


def _planned(done: Converted, start: str, *parts: str) -> list[str]:
    keys = [c.key for c in done.plan.changes
            if isinstance(c, SetRegistry) and c.hive == done.system and c.key.startswith(start)
            and all(part in c.key for part in parts)]
    assert keys, (start, parts)
    return keys


def _delete_planned(start: str, *parts: str) -> Break:
    def change(guest: FakeGuest, done: Converted) -> None:
        guest.edit_registry(done.system, [DeleteRegistryKey(done.system, key, "")
                                          for key in _planned(done, start, *parts)])
    return change


def _set_planned(value: RegistryValue, start: str, *parts: str) -> Break:
    def change(guest: FakeGuest, done: Converted) -> None:
        guest.edit_registry(done.system, [SetRegistry(done.system, key, (value,), "")
                                          for key in _planned(done, start, *parts)])
    return change


def _file(name: str, edit: Callable[[bytes], bytes] | None) -> Break:
    def change(guest: FakeGuest, done: Converted) -> None:
        wanted = posixpath.normpath(f"{done.root}/System32/drivers/{name}").lower()
        path = next((path for path in guest.files if path.lower() == wanted), None) or next(
            path for path in guest.files if _STORE in path and path.endswith(f"/{name}"))
        if edit is None:
            del guest.files[path]
        else:
            guest.files[path] = edit(guest.files[path])
    return change


def _other_machine(driver: bytes) -> bytes:
    start = struct.unpack_from("<I", driver, 0x3C)[0] + 4
    return driver[:start] + struct.pack("<H", 0xAA64) + driver[start + 2:]


def _dirty(guest: FakeGuest, done: Converted) -> None:
    content = guest.files[done.system]
    first, = struct.unpack_from("<I", content, 4)
    guest.files[done.system] = content[:4] + struct.pack("<I", first + 1) + content[8:]


def _other_version(guest: FakeGuest, done: Converted) -> None:
    """The package becomes one for another processor."""
    hive = Hive(guest.files[done.system])
    key = next(key for key in _planned(done, r"DriverDatabase\DriverPackages\viostor")
               if key.count("\\") == 2)
    found = hive.key(key)
    value = found.value("Version") if found is not None else None
    assert value is not None
    data = value.data[:2] + b"\5\0" + value.data[4:]
    guest.edit_registry(done.system, [SetRegistry(done.system, key, (registry.binary(
        "Version", data),), "")])


def _gone(part: str, ending: str) -> Break:
    """No file with this in its path, and this at its end, is there any more."""
    def change(guest: FakeGuest, done: Converted) -> None:
        gone = [path for path in guest.files if part in path and path.endswith(ending)]
        assert gone
        for path in gone:
            del guest.files[path]
    return change


_SET = "ControlSet001"
_STORAGE = rf"{_SET}\Control\Class\{{4d36e97b-e325-11ce-bfc1-08002be10318}}"
_ANY: dict[str, tuple[Break, str]] = {
    "no service": (_delete(rf"{_SET}\Services\viostor"), "virtio-blk: service"),
    "Start": (_set(rf"{_SET}\Services\viostor", registry.dword("Start", 3)), "virtio-blk: Start"),
    "Type": (_set(rf"{_SET}\Services\viostor", registry.dword("Type", 16)), "virtio-blk: Type"),
    "StartOverride": (_set(rf"{_SET}\Services\viostor\StartOverride", registry.dword("0", 3)),
                      "virtio-blk: StartOverride"),
    "ImagePath": (_set(rf"{_SET}\Services\viostor",
                       registry.expand_sz("ImagePath", r"system32\drivers\other.sys")),
                  "virtio-blk: driver file"),
    "Group": (_set(rf"{_SET}\Services\viostor", registry.sz("Group", "no such group")),
              "virtio-blk: Group"),
    "order of groups": (_set(rf"{_SET}\Control\ServiceGroupOrder", registry.multi_sz(
        "List", ("SCSI miniport", "Boot Bus Extender"))), "virtio-blk: Group"),
    "no file": (_file("viostor.sys", None), "virtio-blk: driver file"),
    "empty file": (_file("viostor.sys", lambda _: b""), "virtio-blk: driver file"),
    "cut off": (_file("viostor.sys", lambda driver: driver[:len(driver) // 2]), "virtio-blk"),
    "other machine": (_file("viostor.sys", _other_machine), "virtio-blk: machine"),
    "no kernel": (_file("../ntoskrnl.exe", None), "virtio-blk: imports"),
    "disk": (_set(rf"{_SET}\Services\disk", registry.dword("Start", 3)), "Windows: disk"),
    "no partmgr": (_delete(rf"{_SET}\Services\partmgr"), "Windows: partmgr"),
    "dangling filter": (_set(_STORAGE, registry.multi_sz("UpperFilters", ("gone",))),
                        "virtio-blk: filters"),
    "dirty hive": (_dirty, "hive SYSTEM"),
}
_DATABASE: dict[str, tuple[Break, str]] = {
    "no DeviceIds": (_delete_planned(r"DriverDatabase\DeviceIds\PCI", "DEV_1001"), "virtio-blk"),
    "no INF": (_delete_planned(r"DriverDatabase\DriverInfFiles\oem"), "virtio-blk"),
    "Active": (_set_planned(registry.sz("Active", "other.inf_amd64_0000000000000000"),
                            r"DriverDatabase\DriverInfFiles\oem"), "virtio-blk"),
    "no package": (_delete_planned(r"DriverDatabase\DriverPackages\viostor"), "virtio-blk"),
    "other processor": (_other_version, "virtio-blk: Version"),
    "no descriptor": (_delete_planned(r"DriverDatabase\DriverPackages\viostor", "Descriptors",
                                      "DEV_1001"), "virtio-blk: Descriptors"),
    "no configuration": (_delete_planned(r"DriverDatabase\DriverPackages\viostor",
                                         "Configurations"), "virtio-blk: Configurations"),
}
_STORED: dict[str, tuple[Break, str]] = {
    "no package folder": (_gone(f"{_STORE}viostor", ""), "virtio-blk: driver file"),
    "no file in the store": (_gone(f"{_STORE}viostor", ".sys"), "virtio-blk: driver file"),
    "no catalog in the store": (_gone(f"{_STORE}viostor", ".cat"), "virtio-blk: driver store"),
    "other folder": (_set(rf"{_SET}\Services\viostor", registry.expand_sz(
        "ImagePath", r"\SystemRoot\System32\DriverStore\FileRepository\x\viostor.sys")),
                     "virtio-blk: driver file"),
}
_CRITICAL: dict[str, tuple[Break, str]] = {
    "no entry": (_delete_planned(_SET, "CriticalDeviceDatabase", "DEV_1001"), "virtio-blk"),
    "other service": (_set_planned(registry.sz("Service", "other"), _SET,
                                   "CriticalDeviceDatabase", "DEV_1001"), "virtio-blk"),
    "other class": (_set_planned(registry.sz("ClassGUID", "{0}"), _SET,
                                 "CriticalDeviceDatabase", "DEV_1001"), "virtio-blk: class"),
}


#: Those whose every link is broken: each kind of database, made and real, 32 and 64 bits.
_BROKEN = [(name, what) for name, table in (
    ("2008r2", _CRITICAL), ("real 7 x86", _CRITICAL), ("11", _DATABASE), ("real 8.1", _DATABASE),
    ("real 10", _DATABASE), ("11 dirid 13", _DATABASE | _STORED)) for what in (_ANY | table)]


@pytest.mark.parametrize(("name", "what"), [
    pytest.param(*case, marks=[needs_data] if case[0] in _REAL else []) for case in _BROKEN])
def test_a_broken_link_is_found(convert: Callable[[str], Converted], name: str, what: str) -> None:
    done = convert(name)
    change, subject = (_ANY | _DATABASE | _STORED | _CRITICAL)[what]
    guest = FakeGuest(dict(done.files))
    change(guest, done)
    found = pipeline.proof(guest, done.inspection, Bus.VIRTIO_BLK)
    assert any(about.startswith(subject) for about, _ in _failed(found)), _failed(found)
