from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from imgconv.errors import ImgconvError
from imgconv.model import AppendFile, WriteFile
from imgconv.windows import guest_files, registry, staging
from imgconv.windows.driver_database import Published
from imgconv.windows.edits import Edits
from imgconv.windows.inf import File, Inf, Installation, Model, Version
from imgconv.windows.registry import Hive
from imgconv.windows.versions import WindowsVersion
from imgconv.windows.virtio_win import DriverPackage
from tests.fake_guest import FakeGuest
from tests.hives import make_hive
from tests.unit.windows.driver_packages import from_iso
from tests.windows_data import needs_data

WIN10 = WindowsVersion(10, 0, 16299, "amd64")
WIN7 = WindowsVersion(6, 1, 7601, "x86")
CATALOGS = "/c/Windows/System32/CatRoot/{F750E6C3-38EE-11D1-85E5-00C04FC295EE}"


class TwoModels(Inf):
    """An INF of two models with one driver, as viostor's."""

    def version(self, windows: WindowsVersion) -> Version:
        return Version("SCSIAdapter", "{4d36e97b}", "Red Hat", date(2017, 8, 1), (62, 74, 104, 1),
                       self.strings.get("catalog", "viostor.cat"))

    def models(self, windows: WindowsVersion) -> tuple[Model, ...]:
        return tuple(Model("d", "%d%", "m", "%m%", "scsi_inst", (hardware_id,))
                     for hardware_id in (r"PCI\VEN_1AF4&DEV_1001", r"PCI\VEN_1AF4&DEV_1042"))

    def installation(self, install: str, windows: WindowsVersion) -> Installation:
        target = self.strings.get("target", "System32/drivers/viostor.sys")
        return Installation(install, (), (), (), (File("VioStor.SYS", target),
                                                  File("helper.exe", "System32/helper.exe")))


PUBLISHED = Published("viostor.inf_amd64_0123456789abcdef", "oem7.inf")
KEPT = replace(PUBLISHED, kept=True)
STORE = f"/c/Windows/System32/DriverStore/FileRepository/{PUBLISHED.package_folder}"
PACKAGE = DriverPackage(
    TwoModels("viostor.inf"),
    {"viostor.inf": b"inf", "viostor.sys": b"sys", "viostor.cat": b"cat", "helper.exe": b"exe"},
    "amd64", "viostor/w10/amd64 of virtio-win.iso", "Microsoft")


def guest(systemroot: str = "/c/Windows", drivers: str = "System32/drivers") -> FakeGuest:
    return FakeGuest({f"{systemroot}/{drivers}/disk.sys": "", f"{systemroot}/INF/disk.inf": "",
                      f"{systemroot}/System32/CatRoot/{{F750E6C3-38EE-11D1-85E5-00C04FC295EE}}/"
                      "x.cat": ""})


def apply(fake: FakeGuest, changes: tuple[WriteFile, ...]) -> dict[str, bytes]:
    for change in changes:
        fake.write(change.path, change.content, change.mode)
    return {change.path: change.content for change in changes}


def test_windows_8_and_newer_have_a_driver_store() -> None:
    fake = guest()
    changes = staging.files(fake, "/c/Windows", PACKAGE, PUBLISHED, boot=True, windows=WIN10)
    assert apply(fake, changes) == {
        f"{STORE}/viostor.inf": b"inf", f"{STORE}/viostor.sys": b"sys",
        f"{STORE}/viostor.cat": b"cat", f"{STORE}/helper.exe": b"exe",
        "/c/Windows/INF/oem7.inf": b"inf",
        f"{CATALOGS}/oem7.cat": b"cat",
        "/c/Windows/System32/drivers/viostor.sys": b"sys",
    }
    assert all(change.before is None and "viostor" in change.why for change in changes)
    assert staging.files(fake, "/c/Windows", PACKAGE, PUBLISHED, boot=True, windows=WIN10) == ()


def test_windows_installs_other_drivers_itself() -> None:
    changes = staging.files(guest(), "/c/Windows", PACKAGE, PUBLISHED, boot=False, windows=WIN10)
    assert not any("drivers/" in change.path for change in changes)
    assert len(changes) == 6


def test_older_windows_have_folders() -> None:
    fake = guest("/c/WINDOWS", "system32/DRIVERS")
    changes = staging.files(fake, "/c/WINDOWS", PACKAGE, None, boot=True, windows=WIN7)
    assert sorted(apply(fake, changes)) == [
        "/c/WINDOWS/Drivers/VirtIO/viostor/helper.exe",
        "/c/WINDOWS/Drivers/VirtIO/viostor/viostor.cat",
        "/c/WINDOWS/Drivers/VirtIO/viostor/viostor.inf",
        "/c/WINDOWS/Drivers/VirtIO/viostor/viostor.sys",
        "/c/WINDOWS/system32/DRIVERS/viostor.sys",
    ]
    assert staging.files(fake, "/c/WINDOWS", PACKAGE, None, boot=True, windows=WIN7) == ()


def test_an_older_driver_is_replaced_under_its_own_name() -> None:
    fake = guest()
    fake.files["/c/Windows/System32/drivers/VIOSTOR.SYS"] = b"old"
    changes = staging.files(fake, "/c/Windows", PACKAGE, PUBLISHED, boot=True, windows=WIN10)
    assert [(change.path, change.before) for change in changes if change.before is not None] == [
        ("/c/Windows/System32/drivers/VIOSTOR.SYS", b"old")]


def test_a_file_of_the_same_size_is_compared() -> None:
    fake = guest()
    apply(fake, staging.files(fake, "/c/Windows", PACKAGE, PUBLISHED, boot=True, windows=WIN10))
    fake.files[f"{STORE}/viostor.sys"] = b"SYS"
    changes = staging.files(fake, "/c/Windows", PACKAGE, PUBLISHED, boot=True, windows=WIN10)
    assert [change.path for change in changes] == [f"{STORE}/viostor.sys"]


def test_a_kept_package_stays_as_it_is() -> None:
    fake = guest()
    fake.files["/c/Windows/System32/drivers/viostor.sys"] = b"newer"
    fake.files[f"{STORE}/viostor.sys"] = b"newer"
    assert staging.files(fake, "/c/Windows", PACKAGE, KEPT, boot=True, windows=WIN10) == ()


def test_a_kept_package_that_was_never_installed_gives_its_driver() -> None:
    fake = guest()
    fake.files[f"{STORE}/VIOSTOR.sys"] = b"newer"
    assert staging.files(fake, "/c/Windows", PACKAGE, KEPT, boot=False, windows=WIN10) == ()
    change, = staging.files(fake, "/c/Windows", PACKAGE, KEPT, boot=True, windows=WIN10)
    assert (change.path, change.content) == ("/c/Windows/System32/drivers/viostor.sys", b"newer")


def test_another_build_than_the_kept_packages_is_replaced() -> None:
    fake = guest()
    fake.files |= {"/c/Windows/System32/drivers/viostor.sys": b"older",
                   f"{STORE}/viostor.sys": b"newer"}
    change, = staging.files(fake, "/c/Windows", PACKAGE, KEPT, boot=True, windows=WIN10)
    assert (change.before, change.content) == (b"older", b"newer")


def test_a_package_without_a_catalog() -> None:
    package = replace(PACKAGE, inf=TwoModels("viostor.inf", {"catalog": ""}))
    changes = staging.files(guest(), "/c/Windows", package, PUBLISHED, boot=True, windows=WIN10)
    assert not any("CatRoot" in change.path for change in changes)


@pytest.mark.parametrize("missing", ["viostor.sys", "viostor.cat", "viostor.inf"])
def test_incomplete_packages_are_refused(missing: str) -> None:
    files = {name: content for name, content in PACKAGE.files.items() if name != missing}
    with pytest.raises(staging.IncompletePackage) as caught:
        staging.files(guest(), "/c/Windows", replace(PACKAGE, files=files), PUBLISHED,
                      boot=True, windows=WIN10)
    assert caught.value.hint


def test_a_boot_driver_without_a_driver_is_refused() -> None:
    package = replace(PACKAGE, inf=TwoModels("viostor.inf", {"target": "System32/viostor.dll"}))
    with pytest.raises(ImgconvError, match="no driver"):
        staging.files(guest(), "/c/Windows", package, PUBLISHED, boot=True, windows=WIN10)


STORED = replace(PACKAGE, inf=TwoModels("viostor.inf", {"target": "{package}/viostor.sys"}))


def test_a_driver_that_stays_in_the_store_is_copied_nowhere() -> None:
    changes = staging.files(guest(), "/c/Windows", STORED, PUBLISHED, boot=True, windows=WIN10)
    assert [change.path for change in changes if change.path.endswith(".sys")] == [
        f"{STORE}/viostor.sys"]
    assert staging.files(guest(), "/c/Windows", STORED, KEPT, boot=True, windows=WIN10) == ()


def test_one_that_ought_to_stay_there_but_is_missing_is_refused() -> None:
    files = {name: content for name, content in PACKAGE.files.items() if name != "viostor.sys"}
    with pytest.raises(staging.IncompletePackage):
        staging.files(guest(), "/c/Windows", replace(STORED, files=files), PUBLISHED, boot=True,
                      windows=WIN10)


def test_windows_7_loads_nothing_from_its_store() -> None:
    with pytest.raises(staging.IncompletePackage, match="no driver"):
        staging.files(guest(), "/c/Windows", STORED, None, boot=True, windows=WIN7)


@needs_data
@pytest.mark.parametrize(("folder", "windows", "expected"), [
    ("viostor/w10/amd64", WIN10, "viostor.sys"),
    ("vioscsi/w10/amd64", WIN10, "vioscsi.sys"),
    ("viostor/w7/x86", WIN7, "viostor.sys"),
])
def test_real_packages(folder: str, windows: WindowsVersion, expected: str) -> None:
    package, fake = from_iso(folder, windows.arch), guest()
    changes = apply(fake, staging.files(fake, "/c/Windows", package, PUBLISHED, boot=True,
                                        windows=windows))
    assert changes[f"/c/Windows/System32/drivers/{expected}"] == package.files[expected]
    assert len(changes) == (6 if windows is WIN10 else 4)
    assert staging.files(fake, "/c/Windows", package, PUBLISHED, boot=True,
                         windows=windows) == ()


# --- DevicePath ---------------------------------------------------------------------------------

KEY = r"Microsoft\Windows\CurrentVersion"
OTHER = replace(PACKAGE, inf=TwoModels("NetKVM.inf"))
FOLDERS = r"%SystemRoot%\Drivers\VirtIO\viostor;%SystemRoot%\Drivers\VirtIO\netkvm"


def device_path(before: str | None) -> str | None:
    """DevicePath as it is set, None when nothing is."""
    values = {} if before is None else {"DevicePath": registry.expand_sz("DevicePath", before)}
    edits = Edits(Hive(make_hive({KEY: values})), "/c/Windows/System32/config/SOFTWARE")
    staging.device_path(edits, (PACKAGE, OTHER))
    if not edits.changes():
        return None
    change, = edits.changes()
    assert change.key == KEY
    value, = getattr(change, "values")  # noqa: B009 - of SetRegistry
    assert (value.name, value.type) == ("DevicePath", registry.EXPAND_SZ)
    return registry.string(value.data)


@pytest.mark.parametrize(("before", "after"), [
    (None, rf"%SystemRoot%\inf;{FOLDERS}"),
    (r"%SystemRoot%\inf", rf"%SystemRoot%\inf;{FOLDERS}"),
    (r"%SystemRoot%\inf;C:\Drivers;", rf"%SystemRoot%\inf;C:\Drivers;{FOLDERS}"),
    (r"%systemroot%\inf;%SYSTEMROOT%\drivers\virtio\VIOSTOR" "\\",
     r"%systemroot%\inf;%SYSTEMROOT%\drivers\virtio\VIOSTOR" "\\;"
     r"%SystemRoot%\Drivers\VirtIO\netkvm"),
    (rf"%SystemRoot%\inf;{FOLDERS}", None),
])
def test_device_path_names_each_folder_once(before: str | None, after: str | None) -> None:
    assert device_path(before) == after


# --- what it costs ------------------------------------------------------------------------------


@pytest.mark.parametrize(("changes", "expected"), [
    ((), 0),
    ((WriteFile("/a", b"", None, ""),), 1024),
    ((WriteFile("/a", b"x", None, ""),), 4096 + 1024),
    ((WriteFile("/a", bytes(4097), None, ""), WriteFile("/b", b"x", None, "")), 3 * 4096 + 2048),
    ((WriteFile("/a", bytes(5000), bytes(4000), ""),), 4096),
    ((WriteFile("/a", b"x", bytes(9000), ""),), 0),
    ((AppendFile("/a", b"x", ""),), 4096),
])
def test_needed_bytes(changes: tuple[WriteFile | AppendFile, ...], expected: int) -> None:
    assert guest_files.needed_bytes(changes) == expected


@pytest.mark.parametrize(("path", "expected"), [
    ("/C/windows/SYSTEM32/drivers/New.sys", "/c/Windows/System32/drivers/New.sys"),
    ("/c/windows/a/b/c", "/c/Windows/a/b/c"),
    ("/nowhere/a", "/nowhere/a"),
    ("/c/windows/inf/DISK.INF", "/c/Windows/INF/disk.inf"),
])
def test_paths_are_spelled_as_in_the_guest(path: str, expected: str) -> None:
    assert guest_files.spelled(guest(), path) == expected
