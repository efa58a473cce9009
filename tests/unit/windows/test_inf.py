"""INF files: versions, models and what is installed."""

from __future__ import annotations

from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgconv.windows import registry
from imgconv.windows.inf import Addition, BadInf, File, Inf, Installation, Service, parse
from imgconv.windows.versions import WindowsVersion
from tests.unit.windows.inf_samples import (
    BALLOON,
    EIGHT_ONE,
    ELEVEN_ARM,
    INPUT,
    MINIMAL,
    SERVER_2022,
    SEVEN,
    SEVEN_X86,
    STORAGE,
    TEN,
    TEN_1607,
    TEN_X86,
    XP,
)


def _inf(text: str) -> Inf:
    return parse(text.replace("\n", "\r\n").encode("cp1252"), "test.inf")


def _installed(text: str, windows: WindowsVersion = TEN) -> Installation:
    """What the section [thing] does, with `text` behind it."""
    return _inf(MINIMAL + text).installation("thing", windows)


def _service(lines: str, windows: WindowsVersion = TEN) -> Service:
    (service,) = _installed("[thing.Services]\nAddService=s,2,s_inst\n[s_inst]\nServiceType=1\n"
                            f"StartType=3\nErrorControl=1\n{lines}", windows).services
    return service


def _dword(key: str, name: str, value: int) -> Addition:
    return Addition("HKR", key, name, registry.DWORD, value.to_bytes(4, "little"), 0x10001)


# --- drivers like virtio-win's ------------------------------------------------------------------


def test_storage_of_today() -> None:
    inf = _inf(STORAGE)
    version = inf.version(TEN)
    assert (version.class_name, version.class_guid, version.provider, version.catalog) == (
        "SCSIAdapter", "{4D36E97B-E325-11CE-BFC1-08002BE10318}", "Red Hat, Inc.", "viostor.cat")
    assert (version.date, version.version) == (date(2024, 2, 14), (100, 95, 104, 26200))
    assert inf.sources(TEN) == ("viostor.sys",)
    one, two = inf.models(TEN)
    assert inf.models(SERVER_2022) == (one, two)
    assert one.ids == ("PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00", "PCI\\VEN_1AF4&DEV_1001")
    assert (one.description, one.description_token) == ("Red Hat VirtIO SCSI controller",
                                                        "%Stor.Desc%")
    assert (one.manufacturer, one.manufacturer_token) == ("Red Hat, Inc.", "%VENDOR%")
    done = inf.installation(two.install, TEN)
    assert (done.section, done.software, done.unsupported) == ("stor_inst", (), ())
    assert done.files == (File("viostor.sys", "{package}/viostor.sys"),)
    (service,) = done.services
    assert service == Service(
        "viostor", 2, 1, 0, 1, "%13%\\viostor.sys", "SCSI miniport", "Red Hat VirtIO SCSI Service",
        (), (_dword("Parameters\\PnpInterface", "5", 1), _dword("Parameters", "BusType", 1)),
        (Addition("HKR", "", "EventMessageFile", registry.EXPAND_SZ,
                  registry.sz("", "%SystemRoot%\\System32\\IoLogMsg.dll").data, 0x20000),))
    assert done.device == (
        Addition("HKR", "Interrupt Management", None, registry.NONE, b"", 0x10),
        _dword("Interrupt Management\\Affinity Policy", "GroupPolicy", 1))


@pytest.mark.parametrize(("windows", "count"), [
    (TEN, 2), (SERVER_2022, 2), (ELEVEN_ARM, 1), (TEN_1607, 0), (EIGHT_ONE, 0), (TEN_X86, 0)])
def test_storage_is_for_some_windows(windows: WindowsVersion, count: int) -> None:
    assert len(_inf(STORAGE).models(windows)) == count


def test_strings_are_by_token() -> None:
    strings = _inf(STORAGE).strings
    assert strings["vendor"] == "Red Hat, Inc."
    assert strings["stor.desc"] == "Red Hat VirtIO SCSI controller"


def test_balloon() -> None:
    inf = _inf(BALLOON)
    assert inf.version(SEVEN).catalog == "Balloon64.cat"
    assert inf.version(SEVEN_X86).catalog == "Balloon.cat"
    assert inf.models(SEVEN_X86) == ()
    assert set(inf.sources(SEVEN)) == {"balloon.sys", "blnsvr.exe", "WdfCoInstaller01009.dll"}
    assert set(inf.sources(SEVEN_X86)) == {"balloon.sys", "blnsvr.exe"}
    (model,) = inf.models(SEVEN)
    done = inf.installation(model.install, SEVEN)
    assert done.section == "BALLOON_Device.NT"
    assert done.files == (File("balloon.sys", "System32/drivers/balloon.sys"),
                          File("blnsvr.exe", "System32/balloon_service.exe"))
    driver, program = done.services
    assert (driver.name, driver.flags, driver.binary) == (
        "BALLOON", 2, "system32\\drivers\\balloon.sys")
    assert (program.name, program.flags, program.type, program.start) == (
        "BalloonService", 0, 16, 2)
    assert program.binary == "%SystemRoot%\\System32\\balloon_service.exe"
    assert program.dependencies == ("RpcSs", "+TDI")
    (description,) = program.additions
    assert description.name == "Description"
    assert registry.string(description.data) == "Gives memory back; VirtIO Balloon Driver"
    assert done.unsupported == ("CoInstallers", "Wdf", "Service.Security")


def test_input() -> None:
    inf = _inf(INPUT)
    assert inf.version(TEN).version == (0, 0, 0, 0)
    assert inf.version(TEN).date == date(2021, 1, 2)
    assert inf.version(TEN).catalog == ""
    device, child, through = inf.models(TEN)
    assert (device.description, device.description_token) == ("Virtio input", "Virtio input")
    done = inf.installation(device.install, TEN)
    assert done.software == (_dword("", "Own", 1),)
    assert done.unsupported == ("Needs=PciIoSpaceNotRequired of machine.inf",
                                "Needs=PciD3ColdSupported of machine.inf")
    assert [service.binary for service in done.services] == ["%13%\\vioinput.sys"]
    done = inf.installation(child.install, TEN)
    assert (done.services, done.unsupported) == ((), ("Needs=HID_Inst.Services of input.inf",))
    done = inf.installation(through.install, TEN)
    assert (done.services, done.files) == ((), ())
    assert done.unsupported == ("Needs=HID_Inst.NT of input.inf",)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_the_encoding_makes_no_difference(encoding: str) -> None:
    inf = parse(STORAGE.encode(encoding), "viostor.inf")
    assert inf.models(TEN) == _inf(STORAGE).models(TEN)
    assert inf.installation("stor_inst", TEN) == _inf(STORAGE).installation("stor_inst", TEN)


# --- versions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("driver_ver", "day", "version"), [
    ("1/2/2020", date(2020, 1, 2), (0, 0, 0, 0)),
    ("01-31-2020, 6.1", date(2020, 1, 31), (6, 1, 0, 0)),
    ("12/31/2020,1.2.3.65535", date(2020, 12, 31), (1, 2, 3, 65535)),
    ("12/31/2020, 1.01.01.0001", date(2020, 12, 31), (1, 1, 1, 1))])
def test_driver_ver(driver_ver: str, day: date, version: tuple[int, int, int, int]) -> None:
    found = _inf(MINIMAL.replace("01/31/2020,1.2.3.4", driver_ver)).version(TEN)
    assert (found.date, found.version) == (day, version)


@pytest.mark.parametrize("line", [
    "DriverVer=31/01/2020", "DriverVer=01/01/1600", "DriverVer=", "DriverVer=1/1/2020,1.2.3.4.5",
    "DriverVer=1/1/2020,65536", "DriverVer=1/1/2020,v1", "ClassGuid=x", "CatalogFile=..\\x.cat"])
def test_bad_versions(line: str) -> None:
    inf = _inf(MINIMAL.replace("[Version]", f"[Version]\n{line}"))
    with pytest.raises(BadInf) as caught:
        inf.version(TEN)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "hello", "[Version]\nSignature=x", "[Strings]\na=b"])
def test_what_is_no_inf(text: str) -> None:
    with pytest.raises(BadInf):
        parse(text.encode(), "x.inf")


# --- models -------------------------------------------------------------------------------------


def test_models() -> None:
    inf = _inf(MINIMAL)
    assert [inf.models(windows)[0].ids for windows in (SEVEN_X86, SEVEN, ELEVEN_ARM)] == [
        ("PCI\\X86",), ("PCI\\AMD64",), ("PCI\\ARM64",)]


def test_an_empty_models_section_refuses() -> None:
    inf = _inf(MINIMAL.replace("Us=Models,", "Us=Models,NTamd64.10.0,") + "[Models.NTamd64.10.0]\n")
    assert inf.models(TEN) == ()
    assert len(inf.models(EIGHT_ONE)) == 1


def test_a_manufacturer_of_old() -> None:
    inf = _inf(MINIMAL.replace("Us=Models,NTx86,NTamd64,NTarm64", "%Old%")
               + "[Us]\nThing=thing,PCI\\OLD,,PCI\\COMPATIBLE\n[Strings]\nOld=Us\n")
    (model,) = inf.models(XP)
    assert (model.manufacturer, model.manufacturer_token) == ("Us", "%Old%")
    assert model.ids == ("PCI\\OLD", "PCI\\COMPATIBLE")
    assert inf.models(TEN) == ()


# --- what is installed --------------------------------------------------------------------------


@pytest.mark.parametrize(("windows", "key"), [
    (TEN, "amd64"), (TEN_X86, "nt"), (ELEVEN_ARM, "nt")])
def test_the_section_for_the_architecture(windows: WindowsVersion, key: str) -> None:
    done = _installed("AddReg=plain\n[thing.NT]\nAddReg=nt\n[thing.NTamd64]\nAddReg=amd64\n"
                      "[plain]\nHKR,plain\n[nt]\nHKR,nt\n[amd64]\nHKR,amd64\n", windows)
    assert [addition.key for addition in done.software] == [key]


def test_a_section_of_another_architecture_is_none() -> None:
    inf = _inf(MINIMAL.replace("[thing]", "[thing.NTx86]"))
    assert inf.installation("thing", TEN_X86).section == "thing.NTx86"
    with pytest.raises(BadInf, match="no section"):
        inf.installation("thing", TEN)


@pytest.mark.parametrize(("binary", "windows_has"), [
    ("%12%\\x.sys", "system32\\drivers\\x.sys"),
    ("%12%\\sub\\x.sys", "system32\\drivers\\sub\\x.sys"),
    ("%10%\\System32\\DRIVERS\\x.sys", "system32\\drivers\\x.sys"),
    ("system32\\drivers\\x.sys", "system32\\drivers\\x.sys"),
    ("%11%\\x.sys", "\\SystemRoot\\System32\\x.sys"),
    ("%13%\\x.sys", "%13%\\x.sys")])
def test_the_program_of_a_service(binary: str, windows_has: str) -> None:
    assert _service(f"ServiceBinary={binary}").binary == windows_has


@pytest.mark.parametrize("lines", [
    "ServiceBinary=", "", "ServiceBinary=%12%\\..\\x.sys",
    "ServiceBinary=%13%/../x.sys"])
def test_a_service_without_a_program(lines: str) -> None:
    with pytest.raises(BadInf, match="program"):
        _service(lines)


@pytest.mark.parametrize("text", [
    "AddService=s,2,missing", "AddService=a\\b,2,s_inst", "AddService=s,-1,s_inst",
    "AddService=s,2,bad_start", "AddService=s,2,no_type"])
def test_bad_services(text: str) -> None:
    with pytest.raises(BadInf):
        _installed(f"[thing.Services]\n{text}\n[s_inst]\nServiceType=1\nStartType=0\n"
                   "ErrorControl=0\nServiceBinary=%12%\\x\n[bad_start]\nServiceType=1\n"
                   "StartType=5\nErrorControl=0\nServiceBinary=%12%\\x\n[no_type]\nStartType=0\n"
                   "ErrorControl=0\nServiceBinary=%12%\\x\n")


def test_where_files_go() -> None:
    done = _installed("CopyFiles=@one.sys, drivers, \\\n   elsewhere\nCopyFiles=programs,wow\n"
                      "[drivers]\ntwo.sys\nthree.sys,3.sys,,2\n[elsewhere]\nfour.dll\n"
                      "[programs]\nfive.exe\n[wow]\nsix.dll\n"
                      "[DestinationDirs]\nDefaultDestDir=12\nElsewhere=11,a\\b\nprograms=16422,X\n"
                      "wow=16425\n")
    assert done.files == (
        File("one.sys", "System32/drivers/one.sys"), File("two.sys", "System32/drivers/two.sys"),
        File("3.sys", "System32/drivers/three.sys"), File("four.dll", "System32/a/b/four.dll"),
        File("six.dll", "SysWOW64/six.dll"))
    assert done.unsupported == ("CopyFiles to dirid 16422",)


@pytest.mark.parametrize(("dirid", "target"), [
    ("10", "x"), ("11", "System32/x"), ("12", "System32/drivers/x"), ("13", "{package}/x"),
    ("17", "INF/x"), ("0xC", "System32/drivers/x"), ("16425", "System32/x")])
def test_dirids(dirid: str, target: str) -> None:
    done = _installed(f"CopyFiles=@x\n[DestinationDirs]\nDefaultDestDir={dirid}\n", TEN_X86)
    assert done.files == (File("x", target),)


@pytest.mark.parametrize("text", [
    "CopyFiles=@..\\x\n[DestinationDirs]\nDefaultDestDir=10", "CopyFiles=@x",
    "CopyFiles=@x\n[DestinationDirs]\nDefaultDestDir=10,..\\..",
    "CopyFiles=f\n[f]\nx,a/b\n[DestinationDirs]\nf=10",
    "CopyFiles=f\n[f]\n%up%\n[DestinationDirs]\nf=10\n[Strings]\nup=..",
    "CopyFiles=@x\n[DestinationDirs]\nDefaultDestDir=%10%"])
def test_files_that_must_not_be(text: str) -> None:
    with pytest.raises(BadInf):
        _installed(text)


def test_what_is_not_carried_out_is_named() -> None:
    done = _installed("RegisterDlls=a\nDelReg=b\nAddReg=missing,deleting\nCopyFiles=nowhere\n"
                      "[deleting]\nHKR,,x,4\n[thing.Interfaces]\n[thing.Other]\n"
                      "[thing.HW]\nDelReg=c\n[thing.Services]\nDelService=d\n"
                      "AddService=s,2,s_inst,log,Application\nAddService=t,,s_inst,no_log\n"
                      "[log]\nAddReg=entry\n[entry]\nHKR,,x,0x10001,1\n"
                      "[s_inst]\nServiceType=1\nStartType=3\nErrorControl=1\n"
                      "ServiceBinary=%12%\\s.sys\nStartName=\\Driver\\s\n")
    assert done.unsupported == (
        "RegisterDlls", "DelReg", "HW.DelReg", "Services.DelService", "Interfaces",
        "AddService event log Application\\", "Service.StartName",
        "the event log section no_log, which is missing", "AddReg=missing, which is missing",
        "AddReg that deletes", "CopyFiles=nowhere, which is missing")
    assert [service.event_log for service in done.services] == [(), ()]


def test_needs_may_loop() -> None:
    done = _installed("Needs=other\nAddReg=a\n[other]\nNeeds=thing,other\nAddReg=b\n"
                      "[a]\nHKR,a\n[b]\nHKR,b\n")
    assert [addition.key for addition in done.software] == ["b", "a"]
    assert done.unsupported == ()


def test_needs_may_not_be_deep() -> None:
    chain = "".join(f"[n{n}]\nNeeds=n{n + 1}\n" for n in range(2000))
    with pytest.raises(BadInf, match="deep"):
        _installed(f"Needs=n0\n{chain}")


@pytest.mark.parametrize("text", [
    "AddReg=" + "a," * 3000 + "a\n[a]\n" + "HKR,x\n" * 3000,
    "[thing.Services]\n" + "AddService=s,,s_inst\n" * 10_000 + "[s_inst]\nServiceType=1\n"
    "StartType=0\nErrorControl=0\nServiceBinary=%12%\\x\n" + "Security=x\n" * 10_000,
    "AddReg=a\n[a]\n" + "HKR,,x,,%l%\n" * 10_000 + "[Strings]\nl=" + "x" * 4000,
    "CopyFiles=" + "f," * 9999 + "\n[f]\n" + "x\n" * 9999 + "[DestinationDirs]\nf=11"])
def test_what_would_take_forever(text: str) -> None:
    with pytest.raises(BadInf, match="too much"):
        _installed(text)


def test_too_many_models() -> None:
    inf = _inf(MINIMAL + "[Manufacturer]\n" + "A=Models,NTamd64\n" * 5000 + "[Models.NTamd64]\n"
               + "B=thing,C\n" * 5000)
    with pytest.raises(BadInf, match="too much"):
        inf.models(TEN)


@given(st.text(st.sampled_from('[]"%\\;,=\n 1thingAddRegServices.HKR'), max_size=200))
def test_any_ending_is_read_or_refused(text: str) -> None:
    with suppress(BadInf):
        done = _installed(text)
        assert done.section.startswith("thing")
