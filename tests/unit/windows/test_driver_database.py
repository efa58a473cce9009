from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgconv.errors import CannotConvert, HostileInput
from imgconv.model import DeleteRegistryKey, RegistryValue, SetRegistry
from imgconv.windows import (
    driver_database,
    driver_database_values,
    inf,
    package_name,
    places,
    registry,
)
from imgconv.windows.driver_database import Published
from imgconv.windows.driver_database_values import VersionValue
from imgconv.windows.edits import Edits
from imgconv.windows.inf import Installation, Model, Service, Version
from imgconv.windows.package_name import DriverStore
from imgconv.windows.registry import Hive
from imgconv.windows.versions import WindowsVersion
from imgconv.windows.virtio_win import DriverPackage
from tests.fake_guest import FakeGuest
from tests.hives import Value, make_hive
from tests.unit.windows.driver_packages import (
    BLK,
    BLK_1_0,
    NET,
    SCSI,
    SYSTEM_CLASS,
    WINDOWS_8_1,
    WINDOWS_10,
    MadeInf,
    from_iso,
    number,
    package,
    system_hive,
)
from tests.windows_data import hive, needs_data

SYSTEM = "/Windows/System32/config/SYSTEM"
DRIVERS = "/Windows/System32/config/DRIVERS"
REPOSITORY = "/Windows/System32/DriverStore/FileRepository"
DATABASES = ("SYSTEM-win8.1-x64", "SYSTEM-win10-1709-x64")

#: hive, folder: class, date, version, tail. What the third parties' packages of the real hives are.
THIRD_PARTY = {
    (DATABASES[0], "vboxguest.inf_amd64_7c8d1446c2599c22"): (
        SYSTEM_CLASS, date(2015, 11, 10), (5, 0, 10, 0), "00a0"),
    (DATABASES[1], "dellrbtn.inf_amd64_f97e65ab5ad63c31"): (
        "{745A17A0-74D3-11D0-B6FE-00A0C90F57DA}", date(2016, 10, 26), (17, 38, 40, 165), ""),
    (DATABASES[1], "heci.inf_amd64_b029e08ef3dd5b21"): (
        SYSTEM_CLASS, date(2016, 3, 28), (11, 0, 5, 1189), ""),
    (DATABASES[1], "iwdbus.inf_amd64_2174cb4f0f69d5e4"): (
        SYSTEM_CLASS, date(2015, 6, 8), (4, 5, 61, 0), ""),
    (DATABASES[1], "apfiltr.inf_amd64_2d4012c4b3408b59"): (
        "{4D36E96F-E325-11CE-BFC1-08002BE10318}", date(2015, 6, 23), (10, 1207, 101, 103), "0082"),
    (DATABASES[1], "nvstusb.inf_amd64_f9c4b7a768bcba99"): (
        "{36FC9E60-C465-11CF-8056-444553540000}", date(2016, 12, 29), (6, 14, 13, 6904), "004002"),
    (DATABASES[1], "st_accel.inf_amd64_f254a99a0a74721d"): (
        SYSTEM_CLASS, date(2016, 10, 7), (2, 2, 3, 13), "0042"),
}


# --- the encodings ------------------------------------------------------------------------------


def test_a_version_is_what_windows_10_wrote_for_viostor() -> None:
    # From lxc/distrobuilder, which has what Windows wrote when it imported this driver.
    written = bytes.fromhex("00ff0900000000007be9364d25e3ce11bfc108002be10318"
                            "00c0978c0fe7d701fc5368005a0064000000000000000000")
    value = VersionValue(9, driver_database.SCSI_ADAPTER, date(2021, 12, 2), (100, 90, 104, 21500))
    assert value.encode() == written
    assert driver_database_values.decode_version(written) == value


@pytest.mark.parametrize("data", [b"", bytes(47), bytes(49), bytes(24) + b"\xff" * 24])
def test_a_version_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(HostileInput):
        driver_database_values.decode_version(data)


@given(st.binary(max_size=60))
def test_whatever_a_guest_has_is_read_or_refused(data: bytes) -> None:
    for decode, size in ((driver_database_values.decode_version, 48),
                         (driver_database_values.decode_id_match, 4)):
        try:
            decode(data)
        except HostileInput:
            continue
        assert len(data) == size
    assert package_name.encode_oem_map(set(package_name.decode_oem_map(data))) == data.rstrip(b"\0")


def test_the_first_id_of_a_line_is_the_hardware_id() -> None:
    lines = ((r"USB\A", "B", "C", "D"), ("E", r"usb\a"))
    assert {name: match.encode().hex() for name, match in
            driver_database_values.id_matches(lines).items()} == {
        r"USB\A": "03ff0000", "B": "02ff0000", "C": "02ff0100", "D": "02ff0200", "E": "01ff0000"}


def test_a_match_that_is_none_is_refused() -> None:
    with pytest.raises(HostileInput):
        driver_database_values.decode_id_match(b"\1\xff\0")


@pytest.mark.parametrize(("numbers", "encoded"), [
    (set(), ""), ({0}, "80"), ({0, 1, 2}, "e0"), (set(range(14)), "fffc"), ({1, 9}, "4040")])
def test_oem_map(numbers: set[int], encoded: str) -> None:
    assert package_name.encode_oem_map(numbers).hex() == encoded
    assert set(package_name.decode_oem_map(bytes.fromhex(encoded))) == numbers


@pytest.mark.parametrize(("signer", "score"), [
    ("", 0x80000000), ("Red Hat, Inc.", 0x0F000000),
    ("Microsoft Windows Hardware Compatibility Publisher", 0x0D000005)])
def test_signer_score(signer: str, score: int) -> None:
    assert driver_database_values.signer_score(signer) == score


@needs_data
@pytest.mark.parametrize("name", DATABASES)
def test_every_version_and_id_of_real_hives_is_made_again(name: str) -> None:
    database = Hive(hive(name)).key("DriverDatabase")
    assert database is not None
    packages, ids = database.key("DriverPackages"), database.key("DeviceIds")
    assert packages is not None
    assert ids is not None
    versions = [value.data for key in packages.subkeys()
                if (value := key.value("Version")) is not None]
    assert len(versions) == {DATABASES[0]: 159, DATABASES[1]: 222}[name]
    assert [driver_database_values.decode_version(data).encode() for data in versions] == versions
    matches = [value.data for _, key in ids.walk() for value in key.values()
               if value.type == registry.BINARY]
    assert len(matches) > 4000
    assert [driver_database_values.decode_id_match(data).encode() for data in matches] == matches


@needs_data
def test_third_party_packages_of_real_hives_are_made_from_their_facts() -> None:
    made = 0
    for name in DATABASES:
        system = Hive(hive(name))
        database = system.key("DriverDatabase")
        assert database is not None
        packages = database.key("DriverPackages")
        assert packages is not None
        for key in packages.subkeys():
            oem = key.text("") or ""
            if package_name.oem_number(oem) is None:
                continue
            class_guid, day, version, tail = THIRD_PARTY[name, key.name]
            written = key.value("Version")
            assert written is not None
            # The tail is not understood: zero where the kernel can install the package (flags 12).
            assert (key.number("StatusFlags") == 0x12) == (tail == "")
            assert written.data == VersionValue(
                9, class_guid, day, version, tail=bytes.fromhex(tail.ljust(16, "0"))).encode()
            # Each of these INFs has one id a line, so all are hardware ids.
            ids = {path: value for path, below in _walk(database, "DeviceIds")
                   if (value := below.value(oem)) is not None}
            expected = {path: RegistryValue(oem, registry.BINARY, match.encode())
                        for path, match in driver_database_values.id_matches(
                            (path,) for path in ids if not path.startswith("{")).items()}
            expected[class_guid.lower()] = RegistryValue(oem, registry.NONE, b"")
            assert ids == expected
            assert len(ids) > 1
            made += 1
    assert made == len(THIRD_PARTY)


#: Third parties' packages of the real hive of 10, as their INFs have it.
ON_10 = {
    "iwdbus.inf_amd64_2174cb4f0f69d5e4": MadeInf(
        "iwdbus.inf",
        made_version=Version("System", SYSTEM_CLASS, "Intel Corporation", date(2015, 6, 8),
                             (4, 5, 61, 0)),
        made_models=(Model("IWD Bus Enumerator", "%IWDBus.DeviceDesc%", "(Standard system devices)",
                           "%StdMfg%", "IWDBus_Device", (r"root\iwdbus",)),),
        made_installation=Installation(
            "IWDBus_Device.NT", (Service("iwdbus", 2, 1, 3, 1, ""),),
            (number("", "UsesSection", 0),), (), (), ("Wdf",))),
    "dellrbtn.inf_amd64_f97e65ab5ad63c31": MadeInf(
        "DellRbtn.inf",
        made_version=Version("HIDClass", "{745A17A0-74D3-11D0-B6FE-00A0C90F57DA}", "Dell Inc",
                             date(2016, 10, 26), (17, 38, 40, 165)),
        made_models=tuple(
            Model(text, token, "Dell Inc", "%vendor%", install, (identifier,))
            for text, token, install, identifier in (
                ("Airplane Mode Switch", "%DellRbtn%", "rbtn", r"ACPI\DELLABCE"),
                ("Airplane Mode Switch Collection", "%CustomCollection%", "collection",
                 r"HID\VEN_DELL&DEV_ABCE"))),
        made_installations={
            "rbtn": Installation(
                "DellRbtn.Inst.win8.NT", (Service("DellRbtn", 2, 1, 3, 1, ""),),
                (inf.Addition("HKR", "", "UpperFilters", registry.MULTI_SZ,
                              registry.multi_sz("", ("mshidkmdf",)).data),), (), ()),
            "collection": Installation(
                "customCollection.Inst.NT", (Service("x", 0, 1, 3, 1, ""),),
                (inf.Addition("HKR", "", "SelectiveSuspendEnabled", registry.BINARY, b"\1"),),
                (), ())}),
    "heci.inf_amd64_b029e08ef3dd5b21": MadeInf(
        "heci.inf",
        made_version=Version("System", SYSTEM_CLASS, "Intel", date(2016, 3, 28),
                             (11, 0, 5, 1189)),
        made_models=(Model("Intel(R) Management Engine Interface ", "%TEE_DeviceDesc%", "Intel",
                           "%MfgName%", "tee", (r"PCI\VEN_8086&DEV_1E3A",)),),
        made_installation=Installation(
            "TEE_DDI_W10_x64",
            (Service("MEIx64", 2, 1, 3, 1, "", additions=(
                number("Parameters", "WdTimerTic", 120),
                inf.Addition("HKR", "Parameters", "BusClients", registry.MULTI_SZ,
                             registry.multi_sz("", (
                                 "{27B961DB-3057-49BB-BD0D-ACA9FD8FF697}",)).data))),),
            (number(r"Interrupt Management\MessageSignaledInterruptProperties",
                    "MSISupported", 1),), (), ())),
}


@needs_data
@pytest.mark.parametrize("theirs", ON_10)
def test_whole_packages_are_written_as_windows_10_wrote_them(theirs: str) -> None:
    whql = "Microsoft Windows Hardware Compatibility Publisher"
    system = Edits(Hive(hive(DATABASES[1])), SYSTEM)
    store = DriverStore(system.hive, None, FakeGuest({}), "/Windows")
    ours, = driver_database.plan(system, None, [package(ON_10[theirs], signer=whql)], WINDOWS_10,
                                 store, imported=datetime(2020, 1, 1, tzinfo=UTC))
    top = rf"DriverDatabase\DriverPackages\{ours.package_folder}"
    written = {change.key.removeprefix(top): _named(change.values) for change in system.changes()
               if isinstance(change, SetRegistry) and change.key.startswith(top)}
    packages = system.hive.key(r"DriverDatabase\DriverPackages")
    assert packages is not None
    expected = {f"\\{path}".rstrip("\\"): _named(key.values())
                for path, key in _walk(packages, theirs) if "Properties" not in path.split("\\")}
    _same_but_for(written[""], expected[""], {"", "OemPath", "ImportDate"})
    # A section is there that adds nothing to the device's key.
    written.pop(r"\Configurations\IWDBus_Device.NT\Device", None)
    assert {path: values for path, values in written.items() if path} == {
        path: values for path, values in expected.items() if path and values}


@needs_data
def test_oem_map_of_real_hives() -> None:
    for name, taken in zip(DATABASES, (3, 14), strict=True):
        store = DriverStore(Hive(hive(name)), None, FakeGuest({}), "/Windows")
        database = Hive(hive(name)).key("DriverDatabase")
        assert database is not None
        written = database.value("OemInfMap")
        assert written is not None
        assert package_name.encode_oem_map(set(range(taken))) == written.data == store.oem_map()
        assert store.take() == f"oem{taken}.inf"


@needs_data
@pytest.mark.parametrize("name", DATABASES)
def test_in_real_hives_the_class_says_what_is_in_system(name: str) -> None:
    system = Hive(hive(name))
    database, classes = system.key("DriverDatabase"), system.key(r"ControlSet001\Control\Class")
    assert database is not None
    assert classes is not None
    packages = database.key("DriverPackages")
    assert packages is not None
    used = {driver_database_values.decode_version(value.data).class_guid
            for key in packages.subkeys() if (value := key.value("Version")) is not None}
    assert used == {key.name.lower() for key in classes.subkeys()
                    if driver_database.critical_for_boot(system, key.name)}


@needs_data
def test_viostor_is_published_as_windows_10_does_it() -> None:
    # What to expect: lxc/distrobuilder has the keys that Windows made for a newer viostor.
    made = from_iso("viostor/w10/amd64", "amd64")
    guest, (published,) = _publish(hive(DATABASES[1]), [made])
    done = Hive(guest.files[SYSTEM])
    top = rf"DriverDatabase\DriverPackages\{published.package_folder}"
    key = done.key(top)
    assert key is not None
    service, device = r"Services\viostor\Parameters", r"Device\Interrupt Management"
    assert {path: _named(below.values()) for path, below in
            _walk(key, r"Configurations\rhelscsi_inst")} == {
        "": {"Service": "viostor", "ConfigFlags": 0, "ConfigScope": 7},
        "Device": {}, device: {}, rf"{device}\Affinity Policy": {"DevicePolicy": 5},
        rf"{device}\MessageSignaledInterruptProperties": {"MSISupported": 1,
                                                          "MessageNumberLimit": 256},
        "Services": {}, r"Services\viostor": {}, service: {"BusType": 1},
        rf"{service}\PnpInterface": {"5": 1}}
    description = {"Configuration": "rhelscsi_inst", "Manufacturer": "%rhel%",
                   "Description": "%rhelscsi.devicedesc%"}
    assert {path: _named(below.values()) for path, below in _walk(key, "Descriptors")
            if below.values()} == dict.fromkeys((BLK, BLK_1_0), description)
    assert _shown(done, rf"{top}\Strings") == {
        "rhel": "Red Hat, Inc.", "rhelscsi.devicedesc": "Red Hat VirtIO SCSI controller"}
    assert _shown(done, top)["Version"] == VersionValue(
        9, SCSI, date(2017, 7, 19), (100, 74, 104, 14100)).encode()


# --- publishing ---------------------------------------------------------------------------------


def test_everything_of_a_package_is_written_in_system() -> None:
    guest, published = _publish(system_hive(), [package()])
    folder = published[0].package_folder
    assert published == (Published(folder, "oem3.inf"),)
    database = "DriverDatabase"
    done = Hive(guest.files[SYSTEM])
    assert _shown(done, database) == {"OemInfMap": b"\xf0"}
    assert _shown(done, rf"{database}\DriverInfFiles\oem3.inf") == {
        "": (folder,), "Active": folder, "Configurations": ("rhelscsi_inst",)}
    for identifier in (BLK, BLK_1_0):
        assert _shown(done, rf"{database}\DeviceIds\{identifier}") == {
            "oem3.inf": bytes.fromhex("01ff0000")}
        assert _shown(done, rf"{database}\DriverPackages\{folder}\Descriptors\{identifier}") == {
            "Configuration": "rhelscsi_inst", "Manufacturer": "%rhel%",
            "Description": "%rhelscsi.devicedesc%"}
    key = done.key(rf"{database}\DeviceIds\{SCSI}")
    assert key is not None
    assert key.name == SCSI.lower()
    assert key.values() == (RegistryValue("oem3.inf", registry.NONE, b""),)
    version = VersionValue(9, SCSI, date(2017, 7, 19), (100, 74, 104, 14100)).encode()
    top = rf"{database}\DriverPackages\{folder}"
    assert _shown(done, top) == {
        "": "oem3.inf", "Version": version, "Provider": "Red Hat, Inc.", "InfName": "viostor.inf",
        "OemPath": "imgconv", "SignerName": "Red Hat, Inc.", "SignerScore": 0x0F000000,
        "StatusFlags": 0x12}
    assert _shown(done, rf"{top}\Strings") == {
        "rhel": "Red Hat, Inc.", "rhelscsi.devicedesc": "Red Hat VirtIO SCSI controller"}
    configuration = rf"{top}\Configurations\rhelscsi_inst"
    assert _shown(done, configuration) == {"Service": "viostor", "ConfigScope": 7,
                                           "ConfigFlags": 0}
    device = rf"{configuration}\Device\Interrupt Management"
    assert _shown(done, device) == {}
    assert _shown(done, rf"{device}\MessageSignaledInterruptProperties") == {"MSISupported": 1}
    parameters = rf"{configuration}\Services\viostor\Parameters"
    assert _shown(done, parameters) == {"BusType": 1}
    assert _shown(done, rf"{parameters}\PnpInterface") == {"5": 1}


def test_windows_8_1_has_no_config_scope_and_no_import_date() -> None:
    moment = datetime(2020, 1, 1, tzinfo=UTC)
    for windows, more in ((WINDOWS_8_1, set[str]()), (WINDOWS_10, {"ImportDate", "ConfigScope"})):
        guest, (published,) = _publish(system_hive(), [package()], windows, imported=moment)
        top = rf"DriverDatabase\DriverPackages\{published.package_folder}"
        done = Hive(guest.files[SYSTEM])
        names = {*_shown(done, top), *_shown(done, rf"{top}\Configurations\rhelscsi_inst")}
        assert names & {"ImportDate", "ConfigScope"} == more


def test_planning_again_changes_nothing() -> None:
    guest, first = _publish(system_hive(), [package(), package(_net())],
                            imported=datetime(2020, 1, 1, tzinfo=UTC))
    changes, again = _plan(guest, [package(), package(_net())],
                           imported=datetime(2021, 1, 1, tzinfo=UTC))
    assert changes == []
    assert again == first
    assert [one.inf_name for one in again] == ["oem3.inf", "oem4.inf"]


def test_other_classes_go_to_the_drivers_hive() -> None:
    drivers = make_hive({r"DriverDatabase\DriverInfFiles\oem3.inf": {}})
    guest, (boot, net) = _publish(system_hive(), [package(), package(_net())], drivers=drivers)
    # oem3.inf is taken by something in DRIVERS.
    assert (boot.inf_name, net.inf_name) == ("oem4.inf", "oem5.inf")
    system, other = Hive(guest.files[SYSTEM]), Hive(guest.files[DRIVERS])
    for done, published, absent in ((system, boot, net), (other, net, boot)):
        packages = done.key(r"DriverDatabase\DriverPackages")
        assert packages is not None
        assert packages.key(published.package_folder) is not None
        assert packages.key(absent.package_folder) is None
    assert _shown(system, "DriverDatabase") == {"OemInfMap": b"\xec"}
    assert other.key(r"DriverDatabase\DriverInfFiles\oem4.inf") is None


def test_names_of_files_that_are_there_are_not_taken() -> None:
    _, (published,) = _publish(system_hive(), [package()], files={"/Windows/inf/OEM3.inf": b""})
    assert published.inf_name == "oem4.inf"


@pytest.mark.parametrize(("day", "version", "kept"), [
    (date(2017, 7, 19), (100, 74, 104, 14100), True),
    (date(2019, 1, 1), (100, 70, 0, 1), True),
    (date(2017, 7, 19), (100, 74, 104, 14099), False),
    (date(2010, 1, 1), (200, 0, 0, 0), False)])
def test_the_newer_driver_wins(day: date, version: tuple[int, int, int, int], kept: bool) -> None:
    folder = "viostor.inf_amd64_520417bbc533faba"
    theirs = _theirs(folder, VersionValue(9, SCSI, day, version))
    files = _stored(folder)
    guest, (published,) = _publish(theirs, [package()], files=files)
    if kept:
        assert published == Published(folder, "oem1.inf", kept=True)
        assert guest.files[SYSTEM] == theirs
    else:
        assert published.inf_name == "oem3.inf"
        # Theirs stays beside it.
        assert _shown(Hive(guest.files[SYSTEM]),
                      rf"DriverDatabase\DriverPackages\{folder}")["Version"] == VersionValue(
                          9, SCSI, day, version).encode()


@pytest.mark.parametrize("change", [
    {"files": False}, {"Provider": "Somebody Else"}, {"Version": b"no"}, {"Active": "another"},
    {"files": ".inf"}, {"files": "/viostor.cat"}, {"files": "oem1.cat"}, {"Score": None},
    {"Score": 0x80000000}])
def test_a_newer_driver_that_is_not_there_does_not_win(
        change: dict[str, str | bytes | bool | int | None]) -> None:
    folder = "viostor.inf_amd64_520417bbc533faba"
    value = VersionValue(9, SCSI, date(2024, 1, 1), (200, 0, 0, 0)).encode()
    hive_file = _theirs(folder, change.get("Version", value), change.get("Active", folder),
                        change.get("Provider", "Red Hat, Inc."), change.get("Score", 0x0D000005))
    gone = change.get("files", True)
    files = {path: content for path, content in _stored(folder).items()
             if gone is not False and not (isinstance(gone, str) and path.endswith(gone))}
    guest, (published,) = _publish(hive_file, [package()], files=files)
    assert published.inf_name == "oem3.inf"
    # What would win over ours is for no device any more; what it had beside it is as it was.
    outranks = not {"Provider", "Version", "Active"} & set(change)
    done = Hive(guest.files[SYSTEM])
    ids = rf"DriverDatabase\DeviceIds\{BLK}"
    assert set(_shown(done, ids)) == {"oem2.inf", "oem3.inf"} | (
        set() if outranks else {"oem1.inf"})
    assert _shown(done, rf"{ids}\below") == {"oem2.inf": b"\1\xff\0\0"}
    changes, again = _plan(guest, [package()])
    assert changes == []
    assert again == (published,)


def test_a_newer_driver_that_is_for_none_of_the_devices_does_not_win() -> None:
    folder = "viostor.inf_amd64_520417bbc533faba"
    value = VersionValue(9, SCSI, date(2024, 1, 1), (200, 0, 0, 0))
    guest, _ = _publish(_theirs(folder, value, score=None), [package()], files=_stored(folder))
    _, (published,) = _plan(guest, [package()])
    assert published.inf_name == "oem3.inf"


def test_a_newer_driver_wins_over_ours_that_is_there_already() -> None:
    folder = "viostor.inf_amd64_520417bbc533faba"
    guest, (ours,) = _publish(system_hive(), [package()])
    value = VersionValue(9, SCSI, date(2024, 1, 1), (200, 0, 0, 0)).encode()
    guest.edit_registry(SYSTEM, [
        SetRegistry(SYSTEM, r"DriverDatabase\DriverInfFiles\oem8.inf",
                    (registry.sz("Active", folder),), ""),
        SetRegistry(SYSTEM, rf"DriverDatabase\DeviceIds\{BLK}",
                    (registry.binary("oem8.inf", b"\1\xff\0\0"),), ""),
        SetRegistry(SYSTEM, rf"DriverDatabase\DriverPackages\{folder}", (
            registry.sz("", "oem8.inf"), registry.binary("Version", value),
            registry.sz("Provider", "Red Hat, Inc."), registry.dword("SignerScore", 1)), "")])
    guest.files |= _stored(folder, "oem8")
    changes, again = _plan(guest, [package()])
    assert again == (Published(folder, "oem8.inf", kept=True),)
    assert changes == []
    assert ours.inf_name == "oem3.inf"


def test_compatible_ids_literals_filters_and_co_installers() -> None:
    made = MadeInf(
        "viostor.inf",
        made_models=(Model("A device", "A device", "Maker", "%Maker%", "inst",
                           (r"PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4", r"PCI\VEN_1AF4&DEV_1001")),),
        made_installation=Installation(
            "inst.NTamd64", (Service("other", 0, 1, 3, 1, "x.sys"),),
            (inf.Addition("HKR", "", "UpperFilters", registry.MULTI_SZ, b"f\0\0\0\0\0"),), (), (),
            unsupported=("CoInstallers",)))
    guest, (published,) = _publish(system_hive(), [package(made)])
    done = Hive(guest.files[SYSTEM])
    assert _shown(done, r"DriverDatabase\DeviceIds\PCI\VEN_1AF4&DEV_1001") == {
        "oem3.inf": bytes.fromhex("02ff0000")}
    top = rf"DriverDatabase\DriverPackages\{published.package_folder}"
    assert _shown(done, top)["StatusFlags"] == 0x1A
    assert _shown(done, rf"{top}\Configurations\inst.NTamd64") == {
        "Service": "", "UpperFilters": ("f",), "ConfigScope": 7, "ConfigFlags": 0x400}
    assert _shown(done, rf"{top}\Descriptors\PCI\VEN_1AF4&DEV_1001") == {
        "Configuration": "inst.NTamd64", "Manufacturer": "%maker%", "Description": "A device"}
    assert _shown(done, rf"{top}\Strings") == {"maker": "Maker"}


def test_without_a_database_or_the_class_nothing_is_planned() -> None:
    with pytest.raises(CannotConvert, match="DriverDatabase"):
        _publish(make_hive({"Select": {"Current": 1}}), [package()])
    bare = make_hive({"Select": {"Current": 1}, "DriverDatabase": {},
                      r"ControlSet001\Control\Class": {}})
    with pytest.raises(CannotConvert, match="device class"):
        _publish(bare, [package()])


@pytest.mark.parametrize("made", [
    MadeInf("viostor.inf", made_models=()),
    MadeInf("viostor.inf", made_models=(Model("", "", "", "", "i", ("PCI\\\\X",)),)),
    MadeInf("viostor.inf", made_models=(Model("", "", "", "", "i", ("",)),)),
    MadeInf("viostor.inf", made_installation=Installation("a\\b", (), (), (), ())),
    MadeInf("viostor.inf", made_version=Version("", SCSI, "", date(2017, 7, 19), (99999, 0, 0, 0))),
    MadeInf("viostor.inf", made_version=Version("", SCSI, "", date(1500, 1, 1), (1, 0, 0, 0)))])
def test_an_impossible_inf_is_refused(made: MadeInf) -> None:
    with pytest.raises(inf.BadInf):
        _publish(system_hive(), [package(made)])


def test_all_names_taken() -> None:
    store = DriverStore(Hive(make_hive({"DriverDatabase": {"OemInfMap": b"\xff" * 8192}})), None,
                        FakeGuest({}), "/Windows")
    with pytest.raises(CannotConvert):
        store.take()


def test_the_folder_is_named_after_the_content() -> None:
    name = package_name.folder(package(), WINDOWS_10)
    assert name.startswith("viostor.inf_amd64_")
    assert len(name) == len("viostor.inf_amd64_520417bbc533faba")
    assert package_name.folder(package(), WINDOWS_10) == name
    assert package_name.folder(package(content=b"another"), WINDOWS_10) != name
    assert "_amd64_neutral_" in package_name.folder(package(), WindowsVersion(6, 1, 7601, "amd64"))


@needs_data
@pytest.mark.parametrize(("name", "top"), [(DATABASES[0], ""), (DATABASES[1], "DriverDatabase")])
def test_in_a_real_hive_nothing_else_changes(name: str, top: str) -> None:
    # All of the smaller hive, for time's sake a part of the other.
    windows = WINDOWS_8_1 if name == DATABASES[0] else WINDOWS_10
    guest, (published,) = _publish(hive(name), [package()], windows)
    before, after = _everything(hive(name), top), _everything(guest.files[SYSTEM], top)
    oem, folder = published.inf_name, published.package_folder
    added = {path for path in after if path not in before}
    assert added
    for path in added:
        assert path.startswith((rf"DriverDatabase\DriverInfFiles\{oem}",
                                rf"DriverDatabase\DriverPackages\{folder}",
                                r"DriverDatabase\DeviceIds\PCI\VEN_1AF4&"))
    assert {path for path in before if after.get(path) != before[path]} == {
        "DriverDatabase", rf"DriverDatabase\DeviceIds\{SCSI.lower()}"}
    changes, again = _plan(guest, [package()], windows)
    assert changes == []
    assert again == (published,)


# --- helpers ------------------------------------------------------------------------------------


def _net() -> MadeInf:
    return MadeInf(
        "netkvm.inf",
        made_version=Version("Net", NET, "Red Hat, Inc.", date(2017, 7, 19), (1, 2, 3, 4)),
        made_models=(Model("NIC", "%nic%", "RH", "%rh%", "i", (r"PCI\VEN_1AF4&DEV_1000",)),))


def _theirs(folder: str, version: object, active: object = None,
            provider: object = "Red Hat, Inc.", score: object = 0x0D000005) -> bytes:
    data = version.encode() if isinstance(version, VersionValue) else version
    active = folder if active is None else active
    assert isinstance(data, bytes)
    assert isinstance(active, str)
    assert isinstance(provider, str)
    signed: dict[str, Value] = {"SignerScore": score} if isinstance(score, int) else {}
    match = b"\1\xff\0\0"
    return system_hive({
        r"DriverDatabase\DriverInfFiles\oem1.inf": {"Active": active},
        r"DriverDatabase\DriverInfFiles\oem2.inf": {},
        rf"DriverDatabase\DeviceIds\{BLK}": {"oem1.inf": match, "oem2.inf": match},
        rf"DriverDatabase\DeviceIds\{BLK}\below": {"oem2.inf": match},
        rf"DriverDatabase\DriverPackages\{folder}": {
            "": "oem1.inf", "Version": data, "Provider": provider, "InfName": "viostor.inf",
            **signed}})


def _stored(folder: str, name: str = "oem1") -> dict[str, bytes]:
    """The files of a package that is published under this name."""
    return {f"{REPOSITORY}/{folder}/viostor.inf": b"inf",
            f"{REPOSITORY}/{folder}/viostor.cat": b"cat",
            f"/Windows/{places.CATALOGS}/{name}.cat": b"cat"}


def _publish(system: bytes, packages: list[DriverPackage], windows: WindowsVersion = WINDOWS_10,
             *, drivers: bytes | None = None, files: dict[str, bytes] | None = None,
             imported: datetime | None = None) -> tuple[FakeGuest, tuple[Published, ...]]:
    content: dict[str, bytes | str] = {SYSTEM: system, **(files or {})}
    if drivers is not None:
        content[DRIVERS] = drivers
    guest = FakeGuest(content)
    changes, published = _plan(guest, packages, windows, imported=imported)
    for path in (SYSTEM, DRIVERS):
        if edits := [change for change in changes if change.hive == path]:
            guest.edit_registry(path, edits)
    return guest, published


def _plan(guest: FakeGuest, packages: list[DriverPackage], windows: WindowsVersion = WINDOWS_10,
          *, imported: datetime | None = None,
          ) -> tuple[Sequence[SetRegistry | DeleteRegistryKey], tuple[Published, ...]]:
    system = Edits(Hive(guest.files[SYSTEM]), SYSTEM)
    drivers = Edits(Hive(guest.files[DRIVERS]), DRIVERS) if DRIVERS in guest.files else None
    store = DriverStore(system.hive, drivers.hive if drivers else None, guest, "/Windows")
    published = driver_database.plan(system, drivers, packages, windows, store, imported=imported)
    return [*system.changes(), *(drivers.changes() if drivers else ())], published


def _named(values: Iterable[RegistryValue]) -> dict[str, object]:
    return {value.name: _content(value) for value in values}


def _same_but_for(one: dict[str, object], other: dict[str, object], names: set[str]) -> None:
    assert set(one) == set(other) >= names
    assert {name: one[name] for name in set(one) - names} == {
        name: other[name] for name in set(one) - names}


def _shown(done: Hive, path: str) -> dict[str, object]:
    key = done.key(path)
    assert key is not None, path
    return _named(key.values())


def _content(value: RegistryValue) -> object:
    match value.type:
        case registry.SZ | registry.EXPAND_SZ:
            return registry.string(value.data)
        case registry.MULTI_SZ:
            return registry.multi_string(value.data)
        case registry.DWORD:
            return registry.integer(value.data)
    return value.data


def _walk(key: registry.Key, below: str) -> Sequence[tuple[str, registry.Key]]:
    found = key.key(below)
    assert found is not None
    return list(found.walk())


def _everything(data: bytes, top: str) -> dict[str, frozenset[RegistryValue]]:
    key = Hive(data).key(top)
    assert key is not None
    return {f"{top}\\{path}".strip("\\"): frozenset(below.values())
            for path, below in key.walk()}
