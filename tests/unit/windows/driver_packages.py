"""A driver package made by hand, and small hives to publish it in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from io import BytesIO

import pycdlib

from imgconv.model import RegistryValue
from imgconv.windows import inf, registry
from imgconv.windows.inf import Addition, Installation, Model, Service, Version
from imgconv.windows.versions import WindowsVersion
from imgconv.windows.virtio_win import DriverPackage
from tests.hives import Value, make_hive
from tests.windows_data import SAMPLE_ISO

WINDOWS_10 = WindowsVersion(10, 0, 16299, "amd64")
WINDOWS_8_1 = WindowsVersion(6, 3, 9600, "amd64")
WINDOWS_7 = WindowsVersion(6, 1, 7601, "x86", service_pack=1)

SCSI = "{4D36E97B-E325-11CE-BFC1-08002BE10318}"
NET = "{4D36E972-E325-11CE-BFC1-08002BE10318}"
SYSTEM_CLASS = "{4D36E97D-E325-11CE-BFC1-08002BE10318}"

BLK = r"PCI\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00"
BLK_1_0 = r"PCI\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01"

TRUE = RegistryValue("", 0xFFFF0011, b"\xff")


def number(key: str, name: str, value: int, flags: int = 0) -> Addition:
    return Addition("HKR", key, name, registry.DWORD, value.to_bytes(4, "little"), flags)


VIOSTOR_SERVICE = Service(
    "viostor", 2, 1, 0, 1, r"system32\drivers\viostor.sys", group="SCSI miniport",
    additions=(number(r"Parameters\PnpInterface", "5", 1), number("Parameters", "BusType", 1)),
    event_log=(Addition("HKR", "", "EventMessageFile", registry.EXPAND_SZ,
                        registry.expand_sz("", r"%SystemRoot%\System32\IoLogMsg.dll").data),
               number("", "TypesSupported", 7)))


@dataclass(frozen=True)
class MadeInf(inf.Inf):
    """An INF whose content is given, whatever the Windows."""

    made_version: Version = field(default_factory=lambda: Version(
        "SCSIAdapter", SCSI, "Red Hat, Inc.", date(2017, 7, 19), (100, 74, 104, 14100),
        "viostor.cat"))
    made_models: tuple[Model, ...] = tuple(
        Model("Red Hat VirtIO SCSI controller", "%RHELScsi.DeviceDesc%", "Red Hat, Inc.", "%RHEL%",
              "rhelscsi_inst", (identifier,)) for identifier in (BLK, BLK_1_0))
    made_installation: Installation = field(default_factory=lambda: Installation(
        "rhelscsi_inst", (VIOSTOR_SERVICE,),
        (Addition("HKR", "Interrupt Management", None, registry.NONE, b""),
         number(r"Interrupt Management\MessageSignaledInterruptProperties", "MSISupported", 1)),
        (), ()))

    made_installations: Mapping[str, Installation] = field(default_factory=dict)

    def version(self, windows: WindowsVersion) -> Version:
        return self.made_version

    def models(self, windows: WindowsVersion) -> tuple[Model, ...]:
        return self.made_models

    def installation(self, install: str, windows: WindowsVersion) -> Installation:
        return self.made_installations.get(install, self.made_installation)


def package(made: MadeInf | None = None, arch: str = "amd64", content: bytes = b"the INF",
            signer: str = "Red Hat, Inc.") -> DriverPackage:
    made = made or MadeInf("viostor.inf")
    return DriverPackage(made, {made.name.lower(): content, "viostor.cat": b"catalog"}, arch,
                         "a test", signer)


def from_iso(folder: str, arch: str) -> DriverPackage:
    """A real package of the sample ISO: `folder` is viostor/w10/amd64 or the like."""
    iso = pycdlib.PyCdlib()
    iso.open(str(SAMPLE_ISO))
    try:
        files: dict[str, bytes] = {}
        for child in iso.list_children(rr_path=f"/{folder}"):
            if child.is_file():
                name = child.rock_ridge.name().decode()
                iso.get_file_from_iso_fp(data := BytesIO(), rr_path=f"/{folder}/{name}")
                files[name.lower()] = data.getvalue()
    finally:
        iso.close()
    name = next(name for name in files if name.endswith(".inf"))
    return DriverPackage(inf.parse(files[name], name), files, arch, folder, "Red Hat, Inc.")


def system_hive(more: Mapping[str, Mapping[str, Value]] | None = None) -> bytes:
    """What a SYSTEM hive of 8 or newer needs for a driver to be published; two control sets."""
    tree: dict[str, Mapping[str, Value]] = {
        "Select": {"Current": 1},
        "DriverDatabase": {"OemInfMap": b"\xe0"},
        r"DriverDatabase\DriverInfFiles\oem1.inf": {
            "Active": "vboxguest.inf_amd64_7c8d1446c2599c22"},
    }
    for control_set in ("ControlSet001", "ControlSet002"):
        control = rf"{control_set}\Control"
        boot = r"Properties\{6a3433f4-5626-40e8-a9b9-dbd9ecd2884b}\0003"
        tree |= {
            rf"{control}\Class\{SCSI}\{boot}": {"": TRUE},
            rf"{control}\Class\{SYSTEM_CLASS}\{boot}": {"": TRUE},
            rf"{control}\Class\{NET}": {},
            rf"{control}\ServiceGroupOrder": {"List": ("Boot Bus Extender", "SCSI miniport")},
            rf"{control_set}\Services\disk": {"Start": 0},
        }
    return make_hive(tree | dict(more or {}))
