"""Windows guests made from nothing that start from virtio-blk, to be broken link by link.

What Windows brings is there as far as its start from a disk needs it: services and their files,
the classes, the order of groups; and viostor as it is once it is installed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cache

from imgconv.model import (
    Bus,
    Capabilities,
    Firmware,
    Inspection,
    Plan,
    RegistryValue,
    SetRegistry,
    WindowsOs,
)
from imgconv.windows.registry import sz
from tests import windows_hives, windows_payloads
from tests.fake_guest import FakeGuest
from tests.hives import Value, make_hive

CONFIG = "/Windows/System32/config"
DRIVERS = "/Windows/System32/drivers"
PACKAGE = "viostor.inf_{arch}_0123456789abcdef"
STORE = "/Windows/System32/DriverStore/FileRepository"
CATALOGS = "/Windows/System32/CatRoot/{F750E6C3-38EE-11D1-85E5-00C04FC295EE}"
SCSI = "{4d36e97b-e325-11ce-bfc1-08002be10318}"
HDC = "{4d36e96a-e325-11ce-bfc1-08002be10318}"
DISK = "{4d36e967-e325-11ce-bfc1-08002be10318}"
VOLUME = "{71a27cdd-812a-11d0-bec7-08002be2092f}"
SYSTEM_CLASS = "{4d36e97d-e325-11ce-bfc1-08002be10318}"
IDS = ("PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00", "PCI\\VEN_1AF4&DEV_1001")
DATABASE = "DriverDatabase"

_ORDER = ("System Reserved", "Boot Bus Extender", "System Bus Extender", "SCSI miniport",
          "Primary Disk", "Filter", "Boot File System")
_ARCHES = {"amd64": (9, windows_payloads.AMD64, "x86_64"), "x86": (0, windows_payloads.X86, "i386")}


def version(guid: str, arch: int, *, mark: int = 0xFFFF) -> bytes:
    """DriverPackages' Version."""
    parts = guid.strip("{}").split("-")
    return struct.pack("<HHIIHH", mark, arch, 0, *(int(part, 16) for part in parts[:3])) \
        + bytes.fromhex("".join(parts[3:])) + struct.pack("<Q4HQ", 1 << 56, 4, 3, 2, 100, 0)


@dataclass
class Windows:
    """`system` is the tree of the SYSTEM hive, `files` everything but hives."""

    version: tuple[int, int, int]
    arch: str
    system: dict[str, dict[str, Value]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    drivers: dict[str, dict[str, Value]] | None = None
    software: dict[str, dict[str, Value]] | None = None
    package: str = ""

    def sets(self) -> tuple[str, str]:
        return "ControlSet001", "ControlSet002"

    def set(self, key: str, **values: Value) -> None:
        """Set values of a key below both control sets."""
        for name in self.sets():
            self.system.setdefault(f"{name}\\{key}", {}).update(values)

    def drop(self, key: str) -> None:
        """Remove keys of the tree that are `key` or below it; both control sets' with "*"."""
        for full in [f"{name}{key[1:]}" for name in self.sets()] if key[0] == "*" else [key]:
            left = {path: values for path, values in self.system.items()
                    if not f"{path}\\".lower().startswith(f"{full}\\".lower())}
            assert left != self.system, f"{full} is not there"
            self.system = left

    def service(self, name: str, group: str = "", start: int = 0, **values: Value) -> None:
        self.set(f"Services\\{name}", Type=1, Start=start, ErrorControl=1, Group=group,
                 ImagePath=f"system32\\drivers\\{name}.sys", **values)
        self.files[f"{DRIVERS}/{name}.sys"] = self.pe()

    def pe(self, *, signed: bool = True, content: bytes = b"",
           imports: tuple[str, ...] = ("ntoskrnl.exe",)) -> bytes:
        return windows_payloads.pe(_ARCHES[self.arch][1], signed=signed, content=content,
                                   imports=dict.fromkeys(imports, ("Function",)))

    @property
    def inspection(self) -> Inspection:
        return Inspection("/dev/sda1", _ARCHES[self.arch][2], Firmware.BIOS, (), (), WindowsOs(
            "Windows", ".".join(map(str, self.version)), "/Windows"))

    def hive(self) -> bytes:
        return make_hive(self.system)

    def guest(self, system: bytes | None = None) -> FakeGuest:
        hives = {"SYSTEM": system if system is not None else self.hive()}
        for name, tree in (("DRIVERS", self.drivers), ("SOFTWARE", self.software)):
            if tree is not None:
                hives[name] = make_hive(tree)
        return FakeGuest(self.files | {f"{CONFIG}/{name}": data for name, data in hives.items()})


def plan(bus: Bus = Bus.VIRTIO_BLK, *, net: bool = False) -> Plan:
    """A plan that has edited SYSTEM, as far as the fixture's guests already show it."""
    group: RegistryValue = sz("Group", "SCSI miniport")
    return Plan((SetRegistry(f"{CONFIG}/SYSTEM", "ControlSet001\\Services\\viostor", (group,),
                             "so that it starts"),), Capabilities(bus, net=net))


def windows(major: int, minor: int, build: int, arch: str) -> Windows:
    """A guest with viostor in place."""
    made = Windows((major, minor, build), arch)
    made.system["Select"] = {"Current": 1, "Default": 1, "Failed": 0, "LastKnownGood": 2}
    made.files |= _start(made)
    made.set("Control\\ServiceGroupOrder", List=_ORDER)
    for guid, name in ((SCSI, "SCSIAdapter"), (HDC, "hdc"), (DISK, "DiskDrive"),
                       (VOLUME, "Volume"), (SYSTEM_CLASS, "System")):
        made.set(f"Control\\Class\\{guid}", Class=name)
    made.set(f"Control\\Class\\{DISK}", UpperFilters=("PartMgr",))
    made.files[DRIVERS.replace("drivers", "ntoskrnl.exe")] = made.pe()
    made.files[f"{DRIVERS}/storport.sys"] = made.pe()
    made.service("pci", "Boot Bus Extender")
    made.service("partmgr", "Boot Bus Extender")
    for name in ("disk", "volsnap"):
        made.service(name)
    for name in ("mountmgr", "ftdisk" if major < 6 else "volmgr"):
        made.service(name, "System Bus Extender")
    if major >= 10:
        made.service("volume")
    made.service("intelide", "System Bus Extender")
    made.service("atapi", "SCSI miniport")
    made.service("storahci" if (major, minor) >= (6, 2) else "msahci", "SCSI miniport")
    # The controller with which Windows was installed.
    made.set("Enum\\PCI\\VEN_8086&DEV_7111&SUBSYS_00000000&REV_01\\3&1&0", Service="intelide",
             ClassGUID=HDC)
    made.service("viostor", "SCSI miniport")
    driver = made.pe(signed=False, imports=("ntoskrnl.exe", "storport.sys"))
    made.files[f"{DRIVERS}/viostor.sys"] = driver
    (_database if (major, minor) >= (6, 2) else _critical)(made)
    catalog = _catalog(driver)
    if made.package:
        folder = f"{STORE}/{made.package}"
        made.files |= {f"{folder}/viostor.inf": b"[Version]", f"{folder}/viostor.sys": driver,
                       f"{folder}/viostor.cat": catalog, f"{CATALOGS}/oem3.cat": catalog}
    else:
        made.files[f"{CATALOGS}/viostor.cat"] = catalog
    return made


def _start(made: Windows) -> dict[str, bytes]:
    """What the BIOS starts, up to Windows' loader."""
    if made.version < (6, 0):
        return {f"/{name}": b"x" for name in ("ntldr", "boot.ini", "NTDETECT.COM")}
    return {"/bootmgr": b"x", "/Boot/BCD": bcd(), "/Windows/System32/winload.exe": made.pe()}


@cache
def bcd() -> bytes:
    """A boot configuration for BIOS."""
    where = windows_hives.device(1 << 20, 0x1A2B3C4D)
    return make_hive(windows_hives.bcd(windows_hives.Release("Windows", (6, 1, 7601), "amd64"),
                                       efi=False, boot=where, root=where))


@cache
def _catalog(driver: bytes) -> bytes:
    return windows_payloads.catalog({"viostor.sys": driver})


def _critical(made: Windows) -> None:
    for name, service, guid in (*((name, "viostor", SCSI) for name in IDS),
                                ("PCI\\VEN_8086&DEV_7010", "intelide", HDC),
                                ("PCI\\CC_010601", "msahci", HDC),
                                ("Internal_IDE_Channel", "atapi", HDC),
                                ("GenDisk", "disk", DISK), ("*PNP0A03", "pci", SYSTEM_CLASS)):
        made.set(f"Control\\CriticalDeviceDatabase\\{name.replace(chr(92), '#')}",
                 Service=service, ClassGUID=guid)


def _database(made: Windows) -> None:
    made.system[DATABASE] = {"Version": 0xA, "Architecture": _ARCHES[made.arch][0]}
    made.package = PACKAGE.format(arch=made.arch)
    _publish(made, "oem3.inf", made.package, SCSI, 0x0F000000,
             {"viostor_inst": ("viostor", IDS)})
    _publish(made, "mshdc.inf", f"mshdc.inf_{made.arch}_1111111111111111", HDC, 0x0D000003, {
        "intelide_Inst": ("intelide", ("PCI\\VEN_8086&DEV_7010",)),
        "msahci_Inst": ("storahci", ("PCI\\CC_010601",)),
        "atapi_Inst": ("atapi", ("Internal_IDE_Channel",))})
    for inf, service, name, guid in (("disk.inf", "disk", "GenDisk", DISK),
                                     ("pci.inf", "pci", "*PNP0A03", SYSTEM_CLASS)):
        _publish(made, inf, f"{inf}_{made.arch}_2222222222222222", guid, 0x0D000003,
                 {"Inst": (service, (name,))})


def publish_network(made: Windows, endings: tuple[str, ...]) -> None:
    """A driver for virtio-net, of which the driver store has files with these endings."""
    guid = "{4d36e972-e325-11ce-bfc1-08002be10318}"
    package = f"netkvm.inf_{made.arch}_4444444444444444"
    made.set(f"Control\\Class\\{guid}", Class="Net")
    _publish(made, "oem4.inf", package, guid, 0x0F000000, {
        "kvmnet6.ndi": ("netkvm", ("PCI\\VEN_1AF4&DEV_1000",))})
    made.files |= {f"{STORE}/{package}/netkvm.{ending}": b"x" for ending in endings}


def _publish(made: Windows, inf: str, package: str, guid: str, score: int,
             sections: dict[str, tuple[str, tuple[str, ...]]]) -> None:
    made.system[f"{DATABASE}\\DriverInfFiles\\{inf}"] = {
        "": (package,), "Active": package, "Configurations": tuple(sections)}
    key = f"{DATABASE}\\DriverPackages\\{package}"
    mark = 0xFFFF if score == 0x0D000003 else 0xFF00
    made.system[key] = {"": inf, "SignerScore": score, "StatusFlags": 0x12,
                        "Version": version(guid, _ARCHES[made.arch][0], mark=mark)}
    for section, (service, names) in sections.items():
        made.system[f"{key}\\Configurations\\{section}"] = {"Service": service, "ConfigFlags": 0}
        for name in names:
            made.system[f"{DATABASE}\\DeviceIds\\{name}"] = {inf: b"\1\xff\0\0"}
            made.system[f"{key}\\Descriptors\\{name}"] = {"Configuration": section}
