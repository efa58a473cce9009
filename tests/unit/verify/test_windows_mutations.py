"""Every link of the chain from the disk's controller to its running driver, broken once."""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from random import Random

import pytest

from imgconv.errors import ImgconvError
from imgconv.model import Bus, Capabilities, Finding, Level, Plan
from imgconv.verify import windows as verify
from tests import windows_fixture as fixture
from tests import windows_payloads
from tests.hives import with_checksum
from tests.windows_fixture import DATABASE, DRIVERS, STORE, Windows

_GUESTS: dict[str, tuple[int, int, int, str]] = {
    "10": (10, 0, 16299, "amd64"), "8.1": (6, 3, 9600, "amd64"), "7": (6, 1, 7601, "amd64"),
    "XP": (5, 1, 2600, "x86")}

_PACKAGE = fixture.PACKAGE.format(arch="amd64")
_PACKAGE_KEY = f"{DATABASE}\\DriverPackages\\{_PACKAGE}"
_INF_KEY = f"{DATABASE}\\DriverInfFiles\\oem3.inf"
_SYS = f"{DRIVERS}/viostor.sys"
_FOLDER = f"{STORE}/{_PACKAGE}"
_SERVICE = "Services\\viostor"


def _put(key: str, **values: object) -> Callable[[Windows], None]:
    """Set values of a key of SYSTEM; "*" is both control sets, "" the default value's name `_`."""
    def change(guest: Windows) -> None:
        keys = [f"{name}{key[1:]}" for name in guest.sets()] if key[0] == "*" else [key]
        for path in keys:
            guest.system.setdefault(path, {}).update(values)  # type: ignore[arg-type]
    return change


def _drop(*keys: str) -> Callable[[Windows], None]:
    def change(guest: Windows) -> None:
        for key in keys:
            guest.drop(key)
    return change


def _file(path: str, content: Callable[[Windows, bytes], bytes | None]) -> Callable[
        [Windows], None]:
    def change(guest: Windows) -> None:
        made = content(guest, guest.files[path])
        if made is None:
            del guest.files[path]
        else:
            guest.files[path] = made
    return change


def _without(path: str) -> Callable[[Windows], None]:
    return _file(path, lambda _guest, _data: None)


def _both(path: str, content: Callable[[Windows, bytes], bytes]) -> Callable[[Windows], None]:
    """Change the driver and its copy in the driver store alike."""
    def change(guest: Windows) -> None:
        for name in (path, f"{_FOLDER}/viostor.sys"):
            if name in guest.files:
                guest.files[name] = content(guest, guest.files[name])
    return change


def _no_list(guest: Windows) -> None:
    other = windows_payloads.catalog({"viostor.sys": b"another file"})
    guest.files |= {path: other for path in guest.files if path.endswith(".cat")}


def _ids_gone(guest: Windows) -> None:
    for name in fixture.IDS:
        guest.drop(f"{DATABASE}\\DeviceIds\\{name}")


def _critical_gone(guest: Windows) -> None:
    for name in fixture.IDS:
        guest.drop("*\\Control\\CriticalDeviceDatabase\\" + name.replace("\\", "#"))


def _critical(**values: str) -> Callable[[Windows], None]:
    def change(guest: Windows) -> None:
        for name in fixture.IDS:
            guest.set("Control\\CriticalDeviceDatabase\\" + name.replace("\\", "#"), **values)
    return change


def _filter(guid: str, what: str, name: str) -> Callable[[Windows], None]:
    return _put(f"*\\Control\\Class\\{guid}", **{what: (name,)})


def _disabled_filter(guest: Windows) -> None:
    guest.service("vsnapflt", start=4)
    guest.set(f"Control\\Class\\{fixture.VOLUME}", LowerFilters=("vsnapflt",))


def _better_but_wrong(guest: Windows) -> None:
    """A newer package of the same driver, whose service is not there."""
    fixture._publish(guest, "oem9.inf", "viostor.inf_amd64_ffffffffffffffff", fixture.SCSI,
                     0x0F000000, {"new": ("viostor2", ())})
    for name in fixture.IDS:
        guest.system[f"{DATABASE}\\DeviceIds\\{name}"]["oem9.inf"] = b"\1\x80\0\0"
        guest.system[f"{DATABASE}\\DriverPackages\\viostor.inf_amd64_ffffffffffffffff"
                     f"\\Descriptors\\{name}"] = {"Configuration": "new"}


_VERSION = struct.Struct("<HHI")
_ALL: list[tuple[str, Callable[[Windows], None], str]] = [
    ("service gone", _drop(f"*\\{_SERVICE}"), "virtio-blk: service"),
    ("start 3", _put(f"*\\{_SERVICE}", Start=3), "virtio-blk: Start"),
    ("start 4", _put(f"*\\{_SERVICE}", Start=4), "virtio-blk: Start"),
    ("start 1", _put(f"*\\{_SERVICE}", Start=1), "virtio-blk: Start"),
    ("wrong type", _put(f"*\\{_SERVICE}", Type=2), "virtio-blk: Type"),
    ("demoted", _put(f"*\\{_SERVICE}\\StartOverride", **{"0": 3}), "virtio-blk: StartOverride"),
    ("disabled", _put(f"*\\{_SERVICE}\\StartOverride", **{"0": 4}), "virtio-blk: StartOverride"),
    ("wrong image path", _put(f"*\\{_SERVICE}", ImagePath="system32\\drivers\\vistor.sys"),
     "virtio-blk: driver file"),
    ("image path of no loader", _put(f"*\\{_SERVICE}", ImagePath="\\Device\\X\\viostor.sys"),
     "virtio-blk: ImagePath"),
    ("image path that climbs", _put(f"*\\{_SERVICE}", ImagePath="..\\..\\viostor.sys"),
     "virtio-blk: ImagePath"),
    ("unknown group", _put(f"*\\{_SERVICE}", Group="SCSI minports"), "virtio-blk: Group"),
    ("group not listed", _put("*\\Control\\ServiceGroupOrder", List=("Boot Bus Extender",)),
     "virtio-blk: Group"),
    ("before the bus", _put("*\\Control\\ServiceGroupOrder",
                            List=("SCSI miniport", "System Bus Extender", "Boot Bus Extender")),
     "virtio-blk: Group"),
    ("needs a service", _put(f"*\\{_SERVICE}", DependOnService=("nothing",)),
     "virtio-blk: DependOnService"),
    ("needs a group", _put(f"*\\{_SERVICE}", DependOnGroup=("NDIS",)),
     "virtio-blk: DependOnGroup"),
    ("file gone", _without(_SYS), "virtio-blk: driver file"),
    ("file empty", _both(_SYS, lambda _, data: b""), "virtio-blk: driver file"),
    ("file cut off", _both(_SYS, lambda _, data: data[:300]), "virtio-blk: driver file"),
    ("file of zeros", _both(_SYS, lambda _, data: bytes(len(data))), "virtio-blk: driver file"),
    ("for another processor", _both(_SYS, lambda *_: windows_payloads.pe(0xAA64)),
     "virtio-blk: machine"),
    ("needs what is not there", _both(_SYS, lambda guest, _: guest.pe(
        imports=("ntoskrnl.exe", "wdfldr.sys"))), "virtio-blk: imports"),
    ("its library gone", _without(f"{DRIVERS}/storport.sys"), "virtio-blk: imports"),
    ("disk demoted", _put("*\\Services\\disk", Start=3), "Windows: disk"),
    ("disk overridden", _put("*\\Services\\disk\\StartOverride", **{"0": 3}), "Windows: disk"),
    ("disk without file", _without(f"{DRIVERS}/disk.sys"), "Windows: disk"),
    ("partmgr gone", _drop("*\\Services\\partmgr"), "Windows: partmgr"),
    ("pci demoted", _put("*\\Services\\pci", Start=1), "Windows: pci"),
    ("mountmgr disabled", _put("*\\Services\\mountmgr", Start=4), "Windows: mountmgr"),
    ("volsnap file gone", _without(f"{DRIVERS}/volsnap.sys"), "Windows: volsnap"),
    ("filter of disks dangles", _filter(fixture.DISK, "LowerFilters", "vsepflt"),
     "Windows: filters of DiskDrive"),
    ("filter of volumes dangles", _filter(fixture.VOLUME, "UpperFilters", "snapman"),
     "Windows: filters of Volume"),
    ("filter of controllers dangles", _filter(fixture.SCSI, "UpperFilters", "vmscsi"),
     "virtio-blk: filters of SCSIAdapter"),
    ("filter disabled", _disabled_filter, "Windows: filters of Volume"),
    ("other control set lacks it", _drop(f"ControlSet002\\{_SERVICE}"),
     "virtio-blk: ControlSet002"),
    ("other control set demotes the disk", _put("ControlSet002\\Services\\disk", Start=3),
     "Windows: ControlSet002"),
    ("way back demoted", _put("*\\Services\\atapi\\StartOverride", **{"0": 3}),
     "way back: IDE (PIIX3)"),
    ("what was written is not there", _put("ControlSet001\\Services\\viostor",
                                           Group="Primary Disk"), "hive SYSTEM"),
]
_NEW: list[tuple[str, Callable[[Windows], None], str]] = [
    ("DriverDatabase gone", _drop(DATABASE), "virtio-blk: DriverDatabase"),
    ("ids gone", _ids_gone, "virtio-blk: DeviceIds"),
    ("id's value odd", _put(f"{DATABASE}\\DeviceIds\\{fixture.IDS[0]}", **{"oem3.inf": b"\7"}),
     "virtio-blk: DeviceIds"),
    ("INF unknown", _drop(_INF_KEY), "virtio-blk: DriverInfFiles"),
    ("other package active", _put(_INF_KEY, Active="viostor.inf_amd64_3333333333333333"),
     "virtio-blk: DriverInfFiles"),
    ("no package active", _put(_INF_KEY, Active=""), "virtio-blk: DriverInfFiles"),
    ("package gone", _drop(_PACKAGE_KEY), "virtio-blk: DriverPackages"),
    ("package for x86", _put(_PACKAGE_KEY, Version=fixture.version(fixture.SCSI, 0)),
     "virtio-blk: Version"),
    ("version cut off", _put(_PACKAGE_KEY, Version=b"\0\xff\x09\0"), "virtio-blk: Version"),
    ("class of networks", _put(_PACKAGE_KEY, Version=fixture.version(
        "{4d36e972-e325-11ce-bfc1-08002be10318}", 9)), "virtio-blk: class"),
    ("class unknown to Windows", _drop(f"*\\Control\\Class\\{fixture.SCSI}"), "virtio-blk: class"),
    ("descriptor gone", _drop(f"{_PACKAGE_KEY}\\Descriptors\\{fixture.IDS[0]}"),
     "virtio-blk: Descriptors"),
    ("other configuration", _put(f"{_PACKAGE_KEY}\\Descriptors\\{fixture.IDS[0]}",
                                 Configuration="rhelscsi_inst"), "virtio-blk: Configurations"),
    ("configuration gone", _drop(f"{_PACKAGE_KEY}\\Configurations"), "virtio-blk: Configurations"),
    ("no service", _put(f"{_PACKAGE_KEY}\\Configurations\\viostor_inst", Service=""),
     "virtio-blk: Configurations"),
    ("device disabled", _put(f"{_PACKAGE_KEY}\\Configurations\\viostor_inst", ConfigFlags=1),
     "virtio-blk: Configurations"),
    ("device left out", _put(f"{_PACKAGE_KEY}\\Configurations\\viostor_inst",
                             ExcludeIds=(fixture.IDS[0],)), "virtio-blk: Configurations"),
    ("better driver without service", _better_but_wrong, "virtio-blk: service"),
    ("driver store without driver", _without(f"{_FOLDER}/viostor.sys"),
     "virtio-blk: driver store"),
    ("driver store without INF", _without(f"{_FOLDER}/viostor.inf"), "virtio-blk: driver store"),
    ("driver store with another driver", _file(f"{_FOLDER}/viostor.sys", lambda guest, _:
                                               guest.pe(content=b"other")),
     "virtio-blk: driver store"),
    ("catalog without the driver", _no_list, "virtio-blk: signature"),
    ("catalog damaged", _file(f"{fixture.CATALOGS}/oem3.cat", lambda _, data: data[:99]),
     "virtio-blk: signature"),
    ("catalog not published", _without(f"{fixture.CATALOGS}/oem3.cat"), "virtio-blk: signature"),
    ("volmgr demoted", _put("*\\Services\\volmgr", Start=2), "Windows: volmgr"),
]
_OLD: list[tuple[str, Callable[[Windows], None], str]] = [
    ("entries gone", _critical_gone, "virtio-blk: CriticalDeviceDatabase"),
    ("entry in one control set", _drop(*(
        "ControlSet002\\Control\\CriticalDeviceDatabase\\" + name.replace("\\", "#")
        for name in fixture.IDS)), "virtio-blk: ControlSet002"),
    ("other service", _critical(Service="vioscsi"), "virtio-blk: service"),
    ("no service", _critical(Service=""), "virtio-blk: CriticalDeviceDatabase"),
    ("class of networks", _critical(ClassGUID="{4d36e972-e325-11ce-bfc1-08002be10318}"),
     "virtio-blk: class"),
]
_OLD_64 = [("catalog without the driver", _no_list, "virtio-blk: signature"),
           ("catalog gone", _without(f"{fixture.CATALOGS}/viostor.cat"), "virtio-blk: signature"),
           ("volmgr demoted", _put("*\\Services\\volmgr", Start=2), "Windows: volmgr")]
_BOOTMGR = [("bootmgr gone", _without("/bootmgr"), "start: bootmgr"),
            ("BCD gone", _without("/Boot/BCD"), "start: BCD"),
            ("winload gone", _without("/Windows/System32/winload.exe"), "start: loader")]
_XP = [*((f"{name} gone", _without(f"/{name}"), f"start: {name}")
         for name in ("ntldr", "boot.ini", "NTDETECT.COM")),
       ("ftdisk gone", _drop("*\\Services\\ftdisk"), "Windows: ftdisk")]
_TEN = [("volume driver gone", _drop("*\\Services\\volume"), "Windows: volume")]

_CASES = [(name, *case) for name, cases in (
    ("10", _ALL + _NEW + _TEN + _BOOTMGR), ("8.1", _ALL + _NEW + _BOOTMGR),
    ("7", _ALL + _OLD + _OLD_64 + _BOOTMGR),
    ("XP", _ALL + _OLD + _XP)) for case in cases]


def _verify(guest: Windows, system: bytes | None = None) -> tuple[Finding, ...]:
    return verify.verify(guest.guest(system), guest.inspection, fixture.plan())


def _failed(findings: tuple[Finding, ...]) -> list[str]:
    return [finding.subject for finding in findings if finding.level is Level.FAILED]


@pytest.mark.parametrize("name", _GUESTS)
def test_the_unbroken_guest_is_proven(name: str) -> None:
    findings = _verify(fixture.windows(*_GUESTS[name]))
    assert _failed(findings) == []
    proven = {finding.subject for finding in findings if finding.level is Level.PROVEN}
    assert {"virtio-blk: Start", "virtio-blk: imports", "virtio-blk: machine", "Windows: disk",
            "hive SYSTEM", "way back: IDE (PIIX3)", "way back: SATA (ICH9)"} <= proven
    if name != "XP":
        assert "virtio-blk: signature" in proven


@pytest.mark.parametrize(("name", "what", "change", "subject"), _CASES,
                         ids=[f"{case[0]}-{case[1]}" for case in _CASES])
def test_a_broken_link_is_found(name: str, what: str, change: Callable[[Windows], None],
                                subject: str) -> None:
    guest = fixture.windows(*_GUESTS[name])
    change(guest)
    assert subject in _failed(_verify(guest)), what


def _signature(driver: bytes, *, name: str = "10", **files: bytes) -> Finding:
    """What is said of the signature of a driver that no catalog lists."""
    guest = fixture.windows(*_GUESTS[name])
    for path in list(guest.files):
        if path.endswith("/viostor.sys"):
            guest.files[path] = driver
        elif path.startswith(fixture.CATALOGS):
            guest.files[path] = files.get("catalog", windows_payloads.catalog({}))
    return next(finding for finding in _verify(guest) if finding.subject == "virtio-blk: signature")


_PLAIN = windows_payloads.pe(signed=False)


def test_a_signature_of_its_own_is_proven() -> None:
    for digest in ("sha1", "sha256"):
        found = _signature(windows_payloads.sign(_PLAIN, digest=digest))
        assert found.level is Level.PROVEN
        assert "its own signature covers" in found.message
        assert "leads to Microsoft by name" in found.message


@pytest.mark.parametrize(("driver", "why"), [
    (windows_payloads.with_certificates(_PLAIN, bytes(16)), "catalog"),
    (windows_payloads.with_certificates(_PLAIN, struct.pack("<IHH", 24, 0x200, 2) + bytes(16)),
     "catalog"),
    (windows_payloads.sign(_PLAIN, of=windows_payloads.pe(signed=False, content=b"other")),
     "its own signature is for other files"),
    (windows_payloads.sign(_PLAIN, signer="Me", issuer="Me", crossed=False),
     "its own signature is a test signature"),
    (windows_payloads.sign(_PLAIN, crossed=False), "its own signature does not lead to Microsoft"),
], ids=["zeros", "no PKCS#7", "of another file", "test signature", "not Microsoft's"])
def test_a_signature_that_is_none(driver: bytes, why: str) -> None:
    found = _signature(driver)
    assert found.level is Level.FAILED
    assert why in found.evidence
    listed = windows_payloads.catalog({"viostor.sys": driver})
    assert _signature(driver, catalog=listed).level is Level.PROVEN


def test_a_signature_that_was_changed() -> None:
    data = windows_payloads.sign(_PLAIN)
    at = len(data.rstrip(b"\0")) - 20
    found = _signature(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1:])
    assert found.level is Level.FAILED
    assert "its own signature was changed" in found.evidence


def test_a_catalog_must_lead_to_microsoft_too() -> None:
    listed = windows_payloads.catalog({"viostor.sys": _PLAIN}, crossed=False)
    assert _signature(_PLAIN, catalog=listed).level is Level.FAILED


def test_32_bit_windows_starts_without_a_signature() -> None:
    driver = windows_payloads.pe(windows_payloads.X86, signed=False)
    assert _signature(driver, name="XP").level is Level.WARNING


def test_windows_2000_has_no_snapshots_of_volumes() -> None:
    guest = fixture.windows(5, 0, 2195, "x86")
    guest.drop("*\\Services\\volsnap")
    assert _failed(_verify(guest)) == []


@pytest.mark.parametrize("folder", ["inf", "inf\\", "", "\\"])
def test_windows_own_folder_of_the_device_path_is_not_read(folder: str) -> None:
    guest = fixture.windows(*_GUESTS["7"])
    guest.software = {"Microsoft\\Windows\\CurrentVersion": {
        "DevicePath": f"%SystemRoot%\\{folder}"}}
    guest.files |= {f"/Windows/inf/netkvm.{ending}": b"PCI\\VEN_1AF4&DEV_1000"
                    for ending in ("inf", "sys", "cat")}
    assert not verify.capabilities(guest.guest(), guest.inspection).net


def _dirty(hive: bytes) -> bytes:
    first, = struct.unpack_from("<I", hive, 4)
    return with_checksum(hive[:4] + struct.pack("<I", first + 1) + hive[8:])


@pytest.mark.parametrize("change", [
    _dirty, lambda hive: hive[:508] + bytes(4) + hive[512:], lambda hive: hive[:5000],
    lambda hive: b"", lambda hive: bytes(len(hive))],
    ids=["dirty", "checksum", "cut off", "empty", "zeros"])
def test_a_damaged_hive_is_found(change: Callable[[bytes], bytes]) -> None:
    guest = fixture.windows(*_GUESTS["10"])
    assert "hive SYSTEM" in _failed(_verify(guest, change(guest.hive())))


def test_a_guest_without_virtio_is_proven_on_what_it_has() -> None:
    guest = fixture.windows(*_GUESTS["7"])
    _critical_gone(guest)
    for bus in (Bus.IDE, Bus.SATA):
        assert not _failed(verify.verify(guest.guest(), guest.inspection, fixture.plan(bus)))
    able_to = verify.capabilities(guest.guest(), guest.inspection)
    assert able_to.block is Bus.SATA
    assert "virtio-blk" in able_to.reason


@pytest.mark.parametrize("name", ["10", "7"])
def test_a_driver_for_the_legacy_device_only_is_told(name: str) -> None:
    guest = fixture.windows(*_GUESTS[name])
    assert not verify.capabilities(guest.guest(), guest.inspection).virtio_1_0
    modern = "VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01"
    if name == "7":
        guest.set(f"Control\\CriticalDeviceDatabase\\PCI#{modern}", Service="viostor",
                  ClassGUID=fixture.SCSI)
    else:
        guest.system[f"{DATABASE}\\DeviceIds\\PCI\\{modern}"] = {"oem3.inf": b"\1\xff\0\0"}
        guest.system[f"{_PACKAGE_KEY}\\Descriptors\\PCI\\{modern}"] = {
            "Configuration": "viostor_inst"}
    able_to = verify.capabilities(guest.guest(), guest.inspection)
    assert able_to.virtio_1_0
    assert able_to.block is Bus.VIRTIO_BLK


def test_what_is_claimed_but_not_there_is_a_warning() -> None:
    guest = fixture.windows(*_GUESTS["10"])
    findings = verify.verify(guest.guest(), guest.inspection, fixture.plan(net=True))
    assert [f.level for f in findings if f.subject == "virtio-net"] == [Level.WARNING]
    assert not _failed(findings)


def test_the_network_driver_in_the_hive_drivers_is_found() -> None:
    guest = fixture.windows(*_GUESTS["10"])
    other = Windows((10, 0, 16299), "amd64")
    fixture._publish(other, "oem4.inf", "netkvm.inf_amd64_4444444444444444",
                     "{4d36e972-e325-11ce-bfc1-08002be10318}", 0x0F000000,
                     {"kvmnet6": ("netkvm", ("PCI\\VEN_1AF4&DEV_1000",))})
    guest.set("Control\\Class\\{4d36e972-e325-11ce-bfc1-08002be10318}", Class="Net")
    guest.drivers = other.system
    for ending in ("inf", "sys", "cat"):
        guest.files[f"{STORE}/netkvm.inf_amd64_4444444444444444/netkvm.{ending}"] = b"x"
    assert verify.capabilities(guest.guest(), guest.inspection).net


def test_windows_7_finds_its_network_driver_by_the_device_path() -> None:
    guest = fixture.windows(*_GUESTS["7"])
    guest.software = {"Microsoft\\Windows\\CurrentVersion": {
        "DevicePath": "%SystemRoot%\\inf;%SystemRoot%\\Drivers\\VirtIO"}}
    folder = "/Windows/Drivers/VirtIO/netkvm"
    guest.files |= {f"{folder}/netkvm.inf": b"%x% = kvmnet, PCI\\VEN_1AF4&DEV_1000",
                    f"{folder}/netkvm.sys": b"x", f"{folder}/netkvm.cat": b"x"}
    assert verify.capabilities(guest.guest(), guest.inspection).net
    del guest.files[f"{folder}/netkvm.sys"]
    assert not verify.capabilities(guest.guest(), guest.inspection).net


@pytest.mark.parametrize("name", _GUESTS)
def test_a_hostile_hive_raises_nothing_else(name: str) -> None:
    guest = fixture.windows(*_GUESTS[name])
    whole = guest.hive()
    random = Random(name)
    for _ in range(60):
        hive = bytearray(whole)
        for _ in range(random.choice((1, 4, 40))):
            hive[random.randrange(4096, len(hive))] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
        with suppress(ImgconvError):
            verify.verify(guest.guest(bytes(hive)), guest.inspection,
                          Plan((), Capabilities(Bus.VIRTIO_BLK)))
