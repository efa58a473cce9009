"""Every INF of the sample ISO, which has real drivers of 2010, 2015 and 2017."""

from __future__ import annotations

from datetime import date
from functools import cache
from io import BytesIO

import pycdlib
import pytest

from imgconv.windows import registry
from imgconv.windows.inf import Addition, File, Inf, Installation, parse
from imgconv.windows.versions import WindowsVersion
from tests.unit.windows import inf_samples as samples
from tests.windows_data import SAMPLE_ISO, needs_data

pytestmark = needs_data

#: What the folders are for.
_WINDOWS = {
    "w7": samples.SEVEN, "w8": samples.EIGHT, "w8.1": samples.EIGHT_ONE, "w10": samples.TEN,
    "2k8R2": samples.SERVER_2008_R2, "2k12": samples.SERVER_2012,
    "2k12R2": samples.SERVER_2012_R2, "2k16": samples.SERVER_2016}
#: The last Windows that the drivers of a folder are too new for.
_TOO_OLD = {(6, 1): WindowsVersion(6, 0, 6002, "amd64"), (6, 2): samples.SEVEN,
            (6, 3): samples.EIGHT, (10, 0): samples.EIGHT_ONE}
_FOLDERS = tuple(_WINDOWS)
_ALL = [(driver, folder, "amd64") for driver in ("viostor", "vioscsi", "NetKVM")
        for folder in _FOLDERS] + [
    ("qxl", "w7", "amd64"), ("qxl", "2k8R2", "amd64"), ("viostor", "w7", "x86")]
_MODERN = [entry for entry in _ALL if entry[2] == "amd64" and entry[0] != "qxl"]
_IDS = {
    "viostor": ("PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00",
                "PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01"),
    "vioscsi": ("PCI\\VEN_1AF4&DEV_1004&SUBSYS_00081AF4&REV_00",
                "PCI\\VEN_1AF4&DEV_1048&SUBSYS_11001AF4&REV_01"),
    "NetKVM": ("PCI\\VEN_1AF4&DEV_1000&SUBSYS_00011AF4&REV_00",
               "PCI\\VEN_1AF4&DEV_1041&SUBSYS_11001AF4&REV_01"),
    "qxl": ("PCI\\VEN_1b36&DEV_0100&SUBSYS_11001af4",)}
_MSI = "Interrupt Management\\MessageSignaledInterruptProperties"


@cache
def _files() -> dict[str, bytes]:
    """Every INF of the ISO, by its path in small letters."""
    iso = pycdlib.PyCdlib()
    iso.open(str(SAMPLE_ISO))
    facade = iso.get_joliet_facade() if iso.has_joliet() else iso.get_rock_ridge_facade()
    found = {}
    for folder, _, names in facade.walk("/"):
        for name in names:
            if name.lower().endswith(".inf"):
                content = BytesIO()
                facade.get_file_from_iso_fp(content, f"{folder.rstrip('/')}/{name}")
                found[f"{folder.rstrip('/')}/{name}".lower()] = content.getvalue()
    iso.close()
    return found


@cache
def _inf(driver: str, folder: str, arch: str = "amd64") -> Inf:
    path = f"/{driver}/{folder}/{arch}/{driver}.inf".lower()
    return parse(_files()[path], f"{driver.lower()}.inf")


def _windows(folder: str, arch: str = "amd64") -> WindowsVersion:
    return _WINDOWS[folder] if arch == "amd64" else samples.SEVEN_X86


def _release(driver: str, folder: str) -> tuple[int, int]:
    """The first Windows that the driver is for: storage drivers of 8 are those of 8.1 as well."""
    release = _WINDOWS[folder].release
    return (6, 2) if driver.startswith("vio") and release == (6, 3) else release


def _installed(driver: str, folder: str, arch: str = "amd64") -> Installation:
    inf, windows = _inf(driver, folder, arch), _windows(folder, arch)
    (install,) = {model.install for model in inf.models(windows)}
    return inf.installation(install, windows)


def _numbers(additions: tuple[Addition, ...]) -> dict[str, int]:
    return {f"{addition.key}\\{addition.name}": registry.integer(addition.data)
            for addition in additions if addition.type == registry.DWORD}


def _texts(additions: tuple[Addition, ...]) -> dict[str, str]:
    return {f"{addition.key}\\{addition.name}": registry.string(addition.data)
            for addition in additions if addition.type in (registry.SZ, registry.EXPAND_SZ)}


def test_the_whole_iso_is_tested() -> None:
    assert set(_files()) == {f"/{driver}/{folder}/{arch}/{driver}.inf".lower()
                             for driver, folder, arch in _ALL}


@pytest.mark.parametrize(("driver", "folder", "arch"), _ALL)
def test_models(driver: str, folder: str, arch: str) -> None:
    inf = _inf(driver, folder, arch)
    ids = tuple(model.ids for model in inf.models(_windows(folder, arch)))
    if arch == "x86":
        assert ids == tuple((f"PCI\\VEN_1AF4&DEV_1001&SUBSYS_{subsystem}",)
                            for subsystem in ("00000000", "00020000", "00021AF4"))
    else:
        assert ids == tuple((name,) for name in _IDS[driver])


@pytest.mark.parametrize(("driver", "folder", "arch"), _ALL)
def test_another_architecture_has_no_models(driver: str, folder: str, arch: str) -> None:
    windows = _windows(folder, arch)
    for other in {"x86", "amd64", "arm64"} - {arch}:
        stranger = WindowsVersion(windows.major, windows.minor, windows.build, other)
        assert _inf(driver, folder, arch).models(stranger) == ()


@pytest.mark.parametrize(("driver", "folder", "arch"), _MODERN)
def test_an_older_windows_has_no_models(driver: str, folder: str, arch: str) -> None:
    inf, windows = _inf(driver, folder, arch), _windows(folder)
    assert inf.models(_TOO_OLD[_release(driver, folder)]) == ()
    assert inf.models(samples.SERVER_2022) == inf.models(windows)


@pytest.mark.parametrize(("driver", "folder", "arch"), _ALL)
def test_versions(driver: str, folder: str, arch: str) -> None:
    version = _inf(driver, folder, arch).version(_windows(folder, arch))
    assert version.catalog == f"{driver.lower()}.cat"
    name, guid = {"NetKVM": ("Net", "{4d36e972-e325-11ce-bfc1-08002be10318}"),
                  "qxl": ("Display", "{4d36e968-e325-11ce-bfc1-08002be10318}")}.get(
        driver, ("SCSIAdapter", "{4D36E97B-E325-11CE-BFC1-08002BE10318}"))
    assert (version.class_name, version.class_guid) == (name, guid)
    if arch == "x86":
        expected = "Red Hat, Inc.", date(2010, 9, 20), (6, 0, 0, 10)
    elif driver == "qxl":
        expected = "Red Hat", date(2015, 9, 22), (6, 1, 0, 10024)
    else:
        major, minor = _release(driver, folder)
        expected = "Red Hat, Inc.", date(2017, 7, 19), (major * 10 + minor, 74, 104, 14100)
    assert (version.provider, version.date, version.version) == expected


@pytest.mark.parametrize(("driver", "folder", "arch"),
                         [entry for entry in _ALL if entry[0].startswith("vio")])
def test_storage(driver: str, folder: str, arch: str) -> None:
    done = _installed(driver, folder, arch)
    assert done.section == "rhelscsi_inst"
    assert done.files == (File(f"{driver}.sys", f"System32/drivers/{driver}.sys"),)
    assert (done.software, done.unsupported) == ((), ())
    (service,) = done.services
    assert (service.name, service.flags, service.type, service.start, service.error_control) == (
        driver, 2, 1, 0, 1)
    assert (service.binary, service.group) == (f"system32\\drivers\\{driver}.sys", "SCSI miniport")
    assert _numbers(service.additions) == {
        "Parameters\\PnpInterface\\5": 1, "Parameters\\BusType": 0xA if driver == "vioscsi" else 1}
    assert _numbers(service.event_log) == {"\\TypesSupported": 7}
    assert _texts(service.event_log) == {
        "\\EventMessageFile": "%SystemRoot%\\System32\\IoLogMsg.dll"}
    msi = {f"{_MSI}\\MSISupported": 0 if arch == "x86" else 1,
           f"{_MSI}\\MessageNumberLimit": 2 if arch == "x86" else 256,
           "Interrupt Management\\Affinity Policy\\DevicePolicy": 5}
    if driver == "vioscsi":
        msi["Interrupt Management\\Affinity Policy\\DevicePriority"] = 3
    assert _numbers(done.device) == msi
    assert [addition.key for addition in done.device if addition.name is None] == [
        "Interrupt Management", _MSI, "Interrupt Management\\Affinity Policy"]


@pytest.mark.parametrize("folder", _FOLDERS)
def test_network(folder: str) -> None:
    done = _installed("NetKVM", folder)
    assert done.files == (File("netkvm.sys", "System32/drivers/netkvm.sys"),)
    assert done.unsupported == ("Characteristics", "BusType", "*IfType", "*MediaType",
                                "*PhysicalMediaType")
    (service,) = done.services
    assert (service.name, service.flags, service.type, service.start, service.group) == (
        "netkvm", 2, 1, 3, "NDIS")
    assert (service.binary, service.display_name) == (
        "system32\\drivers\\netkvm.sys", "Red Hat VirtIO Ethernet Adapter Service")
    assert _numbers(service.additions) == {"\\TextModeFlags": 1}
    assert _texts(service.additions) == {"Parameters\\DisableMSI": "0",
                                         "Parameters\\EarlyDebug": "3"}
    assert _numbers(done.device)[f"{_MSI}\\MSISupported"] == 1
    texts = _texts(done.software)
    assert {key: texts[key] for key in (
        "\\BusNumber", "Ndi\\Service", "Ndi\\Interfaces\\UpperRange", "Ndi\\params\\MTU\\default",
        "Ndi\\Params\\ConnectRate\\ParamDesc", "Ndi\\Params\\ConnectRate\\enum\\10000",
        "Ndi\\Params\\*PriorityVLANTag\\enum\\0", "Ndi\\Params\\OffLoad.TxLSO\\enum\\2")} == {
        "\\BusNumber": "0", "Ndi\\Service": "netkvm", "Ndi\\Interfaces\\UpperRange": "ndis5",
        "Ndi\\params\\MTU\\default": "1500",
        "Ndi\\Params\\ConnectRate\\ParamDesc": "Init.ConnectionRate(Mb)",
        "Ndi\\Params\\ConnectRate\\enum\\10000": "10G",
        "Ndi\\Params\\*PriorityVLANTag\\enum\\0": "Disabled",
        "Ndi\\Params\\OffLoad.TxLSO\\enum\\2": "Maximal"}
    assert not any("%" in text for text in texts.values())
    assert ("Ndi\\params\\*RscIPv4\\Type" in texts) == (folder not in ("w7", "2k8R2"))


@pytest.mark.parametrize("folder", ["w7", "2k8R2"])
def test_display(folder: str) -> None:
    inf = _inf("qxl", folder)
    (model,) = inf.models(_WINDOWS[folder])
    assert (model.description, model.description_token) == ("Red Hat QXL GPU", "%RHAT% %QXL%")
    done = _installed("qxl", folder)
    assert done.files == (File("qxl.sys", "System32/drivers/qxl.sys"),
                          File("qxldd.dll", "System32/qxldd.dll"))
    (service,) = done.services
    assert (service.name, service.start, service.error_control, service.group, service.binary) == (
        "qxl", 3, 0, "Video", "system32\\drivers\\qxl.sys")
    assert done.unsupported == ("FeatureScore", "SoftwareSettings")


@pytest.mark.parametrize(("driver", "folder", "arch"), _ALL)
def test_the_sources_are_what_is_copied(driver: str, folder: str, arch: str) -> None:
    sources = _inf(driver, folder, arch).sources(_windows(folder, arch))
    assert {file.source for file in _installed(driver, folder, arch).files} == set(sources)
