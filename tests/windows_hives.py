"""What the hives of made Windows guests hold: keys and values for `tests.hives.make_hive`.

Nothing of it comes from a real hive's file; names and numbers are those that Windows uses.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from imgconv.model import RegistryValue
from imgconv.windows import registry
from tests.hives import Value

Keys = dict[str, dict[str, Value]]

HDC = "{4d36e96a-e325-11ce-bfc1-08002be10318}"
SCSI_ADAPTER = "{4d36e97b-e325-11ce-bfc1-08002be10318}"
DISK_DRIVE = "{4d36e967-e325-11ce-bfc1-08002be10318}"
NET = "{4d36e972-e325-11ce-bfc1-08002be10318}"
SYSTEM = "{4d36e97d-e325-11ce-bfc1-08002be10318}"
VOLUME = "{71a27cdd-812a-11d0-bec7-08002be2092f}"
#: The network interface, and the place of its adapter on the PCI bus.
INTERFACE = "{6b1f7c3e-52d4-4c0a-9b7e-0d1c2f3a4b5c}"
ADAPTER = r"PCI\VEN_8086&DEV_100E&SUBSYS_001E8086&REV_02\3&267a616a&0&18"

#: The groups that boot drivers and file systems are in, in the order in which they start.
GROUPS: Final = (
    "System Reserved", "EMS", "WdfLoadGroup", "Boot Bus Extender", "System Bus Extender",
    "SCSI miniport", "Port", "Primary Disk", "SCSI Class", "SCSI CDROM Class",
    "FSFilter Infrastructure", "FSFilter System", "FSFilter Bottom", "FSFilter Encryption",
    "FSFilter Anti-Virus", "FSFilter Top", "Filter", "Boot File System", "Base", "Pointer Port",
    "Keyboard Port", "Pointer Class", "Keyboard Class", "Video Init", "Video", "Video Save",
    "File System", "Streams Drivers", "NDIS Wrapper", "COM Infrastructure", "Event Log",
    "PlugPlay", "Cryptography", "PNP_TDI", "NDIS", "TDI", "NetBIOSGroup", "NetworkProvider",
    "Extended Base", "PCI Configuration")


@dataclass(frozen=True, slots=True)
class Release:
    """One Windows: what its registry says of it. `folder` is the system root's name on C:.

    `real` names the SYSTEM hive of tests.windows_data that is of such a Windows, `service_pack` is
    0 without one.
    """

    product: str
    version: tuple[int, int, int]
    arch: str
    edition: str = "Professional"
    server: bool = False
    service_pack: int = 0
    display: str = ""
    folder: str = "Windows"
    real: str = ""

    @property
    def release(self) -> tuple[int, int]:
        return self.version[:2]

    @property
    def driver_database(self) -> bool:
        """Whether boot drivers are found by the DriverDatabase."""
        return self.release >= (6, 2)


@dataclass(frozen=True, slots=True)
class Service:
    """A driver that comes with Windows; `image` is below the system root ("" is NAME.sys)."""

    name: str
    group: str = ""
    start: int = 0
    tag: int = 0
    error: int = 3
    type: int = 1
    image: str = ""
    since: tuple[int, int] = (5, 0)
    until: tuple[int, int] = (99, 0)
    parameters: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return self.image or rf"System32\drivers\{self.name.lower()}.sys"


_STORPORT: Final[Mapping[str, Mapping[str, Value]]] = {
    "Parameters": {"BusType": 11}, r"Parameters\PnpInterface": {"5": 1}}

SERVICES: Final = (
    Service("ACPI", "Boot Bus Extender", tag=1, until=(6, 1)),
    Service("ACPI", "Core", tag=2, since=(6, 2)),
    Service("atapi", "SCSI Miniport", tag=25),
    Service("cdrom", "SCSI CDROM Class", start=1, tag=2, error=1),
    Service("Disk", "SCSI Class", tag=2, error=1, until=(5, 2)),
    Service("disk", error=1, since=(6, 0)),
    Service("dmio", "System Bus Extender", tag=14, until=(5, 2)),
    Service("E1G60", "NDIS", start=3, error=1, image=r"system32\DRIVERS\E1G60.sys"),
    Service("FltMgr", "FSFilter Infrastructure", tag=1, type=2),
    Service("Fs_Rec", "File System", error=0, type=8),
    Service("Ftdisk", "System Bus Extender", tag=8, until=(5, 2)),
    Service("fvevol", "PnP Filter", tag=5, since=(6, 1)),
    Service("intelide", "System Bus Extender", tag=4),
    Service("LSI_SAS", "SCSI Miniport", tag=34, error=1, since=(6, 0), parameters=_STORPORT),
    Service("mountmgr", "System Bus Extender"),
    Service("msahci", "SCSI Miniport", tag=33, since=(6, 0), until=(6, 1)),
    Service("msisadrv", "Boot Bus Extender", tag=2, since=(6, 0)),
    Service("Mup", "Network", error=1, type=2),
    Service("NDIS", "NDIS Wrapper"),
    Service("Ntfs", "Boot File System", start=3, error=1, type=2, since=(6, 0)),
    Service("Ntfs", "File System", start=4, error=1, type=2, until=(5, 2)),
    Service("PartMgr", "Boot Bus Extender"),
    Service("PCI", "Boot Bus Extender", tag=3),
    Service("PCIIde", "System Bus Extender", tag=18),
    Service("spaceport", "System Bus Extender", tag=8, since=(6, 2)),
    Service("storahci", "SCSI Miniport", tag=28, since=(6, 2), parameters=_STORPORT),
    Service("stornvme", "SCSI Miniport", tag=29, since=(6, 3), parameters=_STORPORT),
    Service("Tcpip", "PNP_TDI", tag=3, error=1, since=(6, 0)),
    Service("Tcpip", "PNP_TDI", tag=3, start=1, error=1, until=(5, 2)),
    Service("vdrvroot", "Boot Bus Extender", tag=4, since=(6, 1)),
    Service("volmgr", "System Bus Extender", tag=9, since=(6, 0)),
    Service("volmgrx", "System Bus Extender", tag=10, since=(6, 0)),
    Service("VolSnap"),
    Service("volume", since=(10, 0)),
    Service("Wdf01000", "WdfLoadGroup", error=1, since=(6, 0)),
)

#: A disk's controller, and the drivers that it needs.
CONTROLLERS: Final = {"ide": ("intelide", "atapi"), "sata": ("storahci", "msahci"),
                      "sas": ("LSI_SAS",)}
_STORAGE = {"atapi", "intelide", "pciide", "storahci", "msahci", "stornvme", "lsi_sas"}

#: What is found by which identifier: class, service, and the section of the INF.
_IN_BOX: Final = {
    "mshdc.inf": {
        r"PCI\CC_0101": (HDC, "pciide", "pciide_Inst"),
        r"PCI\CC_010601": (HDC, "storahci", "msahci_Inst"),
        r"PCI\VEN_8086&DEV_7010": (HDC, "intelide", "intelide_Inst"),
        r"PCI\VEN_8086&DEV_7111": (HDC, "intelide", "intelide_Inst"),
        "Internal_IDE_Channel": (HDC, "atapi", "atapi_Inst")},
    "disk.inf": {"GenDisk": (DISK_DRIVE, "disk", "disk_install.NT")},
    "lsi_sas.inf": {r"PCI\VEN_1000&DEV_0054": (SCSI_ADAPTER, "LSI_SAS", "LSI_SAS_Inst")},
    "machine.inf": {
        "*PNP0A03": (SYSTEM, "pci", "PCI_DRV"),
        r"PCI\VEN_8086&DEV_1237": (SYSTEM, "", "NO_DRV"),
        r"PCI\CC_0604": (SYSTEM, "pci", "PCI_DRV")},
    "acpi.inf": {r"ACPI_HAL\PNP0C08": (SYSTEM, "ACPI", "ACPI_Inst.NT")},
    "volume.inf": {r"STORAGE\Volume": (VOLUME, "volume", "volume_install.NT")},
}
_NVME: Final = {r"PCI\CC_010802": (SCSI_ADAPTER, "stornvme", "Stornvme_Inst")}
_NET_IN_BOX: Final = {"nete1g3e.inf": {r"PCI\VEN_8086&DEV_100E": (NET, "E1G60", "E1000.Install")}}
#: 21 June 2006, the date of all that comes with Windows, as Windows counts time.
_IN_BOX_TIME = 0x01C694C5_A38C8000


# --- SYSTEM ---------------------------------------------------------------------------------------


def services(release: Release) -> tuple[Service, ...]:
    """The drivers that come with that Windows."""
    return tuple(service for service in SERVICES
                 if service.since <= release.release <= service.until)


def control_sets(release: Release) -> tuple[str, ...]:
    """There is no second one for "Last Known Good" since Windows 8."""
    return ("ControlSet001",) if release.driver_database else ("ControlSet001", "ControlSet002")


def system(release: Release, controller: str, mounted: Mapping[str, bytes]) -> Keys:
    """The SYSTEM hive of a Windows that was installed on that kind of controller.

    `mounted` are the values of MountedDevices.
    """
    keys: Keys = {
        "Select": {"Current": 1, "Default": 1, "Failed": 0,
                   "LastKnownGood": len(control_sets(release))},
        "Setup": {"SystemSetupInProgress": 0, "SetupType": 0, "CmdLine": "", "OsLoaderPath": "\\",
                  "SystemPartition": r"\Device\HarddiskVolume1"},
        "MountedDevices": dict(mounted)}
    for name in control_sets(release):
        keys |= {rf"{name}\{path}": values
                 for path, values in _control_set(release, controller).items()}
    if release.driver_database:
        in_box = dict(_IN_BOX)
        if release.release >= (6, 3):
            in_box["stornvme.inf"] = _NVME
        keys |= driver_database(release, in_box)
    return keys


def drivers(release: Release) -> Keys:
    """The DRIVERS hive: what is not needed to start."""
    return driver_database(release, _NET_IN_BOX)


def _control_set(release: Release, controller: str) -> Keys:
    root = "system32" if release.release < (6, 0) else "System32"
    keys: Keys = {
        "Control": {"CurrentUser": "USERNAME", "SystemStartOptions": " NOEXECUTE=OPTIN",
                    "FirmwareBootDevice": "multi(0)disk(0)rdisk(0)partition(1)"},
        r"Control\ComputerName\ComputerName": {"ComputerName": "GUEST"},
        r"Control\GroupOrderList": {
            "SCSI Miniport": struct.pack("<4I", 3, 0x100, 0x101, 25),
            "System Bus Extender": struct.pack("<4I", 3, 7, 3, 4)},
        r"Control\ProductOptions": {"ProductType": "ServerNT" if release.server else "WinNT"},
        r"Control\ServiceGroupOrder": {"List": GROUPS},
        r"Control\Session Manager": {"BootExecute": ("autocheck autochk *",)},
        r"Control\Session Manager\Environment": {
            "ComSpec": registry.expand_sz("ComSpec", rf"%SystemRoot%\{root}\cmd.exe"),
            "OS": "Windows_NT",
            "Path": registry.expand_sz("Path", rf"%SystemRoot%\{root};%SystemRoot%"),
            "PROCESSOR_ARCHITECTURE": {"x86": "x86"}.get(release.arch, release.arch.upper())},
        r"Control\TimeZoneInformation": {
            "Bias": 0xFFFFFFC4, "ActiveTimeBias": 0xFFFFFFC4, "StandardBias": 0,
            "DaylightBias": 0xFFFFFFC4, "StandardName": "@tzres.dll,-322",
            "DaylightName": "@tzres.dll,-321", "TimeZoneKeyName": "W. Europe Standard Time"},
        r"Control\Windows": {
            "Directory": registry.expand_sz("Directory", "%SystemRoot%"),
            "SystemDirectory": registry.expand_sz("SystemDirectory", r"%SystemRoot%\system32"),
            "CSDVersion": release.service_pack << 8},
        rf"Control\Class\{SYSTEM}": {"Class": "System", "": "System devices"},
        rf"Control\Class\{DISK_DRIVE}": {"Class": "DiskDrive", "": "Disk drives",
                                         "UpperFilters": ("PartMgr",)},
        rf"Control\Class\{SCSI_ADAPTER}": {"Class": "SCSIAdapter", "": "Storage controllers"},
        rf"Control\Class\{HDC}": {"Class": "hdc", "": "IDE ATA/ATAPI controllers"},
        **_network(),
        **_services(release, controller)}
    if not release.driver_database:
        for name, identifiers in _IN_BOX.items():
            keys |= _critical_devices(release, name, identifiers)
    return keys


def _services(release: Release, controller: str) -> Keys:
    keys: Keys = {}
    for service in services(release):
        values: dict[str, Value] = {"Type": service.type, "Start": service.start,
                                    "ErrorControl": service.error}
        if service.name not in ("Fs_Rec", "Ntfs"):  # these two are found without
            values["ImagePath"] = registry.expand_sz("ImagePath", service.path)
        if service.group:
            values["Group"] = service.group
        if service.tag:
            values["Tag"] = service.tag
        key = rf"Services\{service.name}"
        keys[key] = values
        keys |= {rf"{key}\{path}": dict(more) for path, more in service.parameters.items()}
        # A boot driver whose device was not there when Windows was installed does not start.
        if service.name.lower() in _STORAGE and service.name not in CONTROLLERS[controller]:
            if release.driver_database:
                keys[rf"{key}\StartOverride"] = {"0": 3}
            else:
                values["Start"] = 3
    return keys


def _network() -> Keys:
    """An Intel adapter, as the hypervisor that the guest comes from gave it one."""
    hardware, _, _ = ADAPTER.rpartition("\\")
    device = hardware.partition("&SUBSYS")[0]
    return {
        rf"Control\Class\{NET}": {"Class": "Net", "": "Network adapters"},
        rf"Control\Class\{NET}\0007": {
            "DriverDesc": "Intel(R) PRO/1000 MT Desktop Adapter", "InfPath": "nete1g3e.inf",
            "NetCfgInstanceId": INTERFACE, "MatchingDeviceId": device.lower(),
            "DeviceInstanceID": ADAPTER},
        rf"Control\Network\{NET}\{INTERFACE}\Connection": {
            "Name": "Local Area Connection", "PnpInstanceID": ADAPTER},
        rf"Enum\{ADAPTER}": {
            "HardwareID": (hardware, device), "ClassGUID": NET, "Service": "E1G60",
            "Driver": rf"{NET}\0007", "ConfigFlags": 0},
        r"Services\Tcpip\Parameters": {"Hostname": "guest", "NV Hostname": "guest", "Domain": ""},
        rf"Services\Tcpip\Parameters\Interfaces\{INTERFACE}": {"EnableDHCP": 1, "Domain": "",
                                                               "NameServer": ""}}


def static_address(address: str = "192.0.2.10", gateway: str = "192.0.2.1") -> Keys:
    """What a control set has more when the network interface has an address of its own."""
    return {rf"Services\Tcpip\Parameters\Interfaces\{INTERFACE}": {
        "EnableDHCP": 0, "IPAddress": (address,), "SubnetMask": ("255.255.255.0",),
        "DefaultGateway": (gateway,), "NameServer": gateway}}


def _critical_devices(release: Release, name: str,
                      identifiers: Mapping[str, tuple[str, str, str]]) -> Keys:
    keys: Keys = {}
    known = {service.name.lower() for service in services(release)}
    for identifier, (guid, wanted, _) in identifiers.items():
        service = "msahci" if wanted == "storahci" else wanted
        if service and service.lower() not in known:
            continue
        name_of_key = identifier.replace("\\", "#")
        key = rf"Control\CriticalDeviceDatabase\{name_of_key}"
        keys[key] = {"ClassGUID": guid.upper()}
        if service:
            keys[key]["Service"] = service
        if release.release >= (6, 1):
            keys[key]["DriverPackageId"] = package(release, name)
    return keys


# --- the DriverDatabase ---------------------------------------------------------------------------


def package(release: Release, name: str) -> str:
    """The name of an INF's folder in the driver store: the last part is a hash, here a made one."""
    language = "" if release.driver_database else "_neutral"
    number = int.from_bytes(name.encode()[:8].ljust(8, b"."), "big")
    return f"{name}_{release.arch}{language}_{number:016x}"


def driver_database(release: Release,
                    in_box: Mapping[str, Mapping[str, tuple[str, str, str]]]) -> Keys:
    """The DriverDatabase with these INFs: class, service and section by the device's identifier."""
    architecture = {"x86": 0, "amd64": 9, "arm64": 12}[release.arch]
    major, minor, build = release.version
    keys: Keys = {"DriverDatabase": {
        "Version": major | minor << 8 if major >= 10 else major << 24 | minor << 16,
        "Architecture": architecture, "OemInfMap": b"\xe0"}}
    for name, identifiers in in_box.items():
        folder = package(release, name)
        guid = next(iter(identifiers.values()))[0]
        sections = {section: service for _, service, section in identifiers.values()}
        keys[rf"DriverDatabase\DriverInfFiles\{name}"] = {
            "": (folder,), "Active": folder, "Configurations": tuple(sections)}
        there = keys.setdefault(rf"DriverDatabase\DeviceIds\{guid}", {})
        there[name] = RegistryValue(name, registry.NONE, b"")
        key = rf"DriverDatabase\DriverPackages\{folder}"
        keys[key] = {
            "": name, "Provider": "Microsoft", "SignerScore": 0x0D000003, "StatusFlags": 0x12,
            "Version": struct.pack("<HHI16sQ4H8x", 0xFFFF, architecture, 0, UUID(guid).bytes_le,
                                   _IN_BOX_TIME, 0, build, minor, major)}
        for section, service in sections.items():
            values: dict[str, Value] = {"ConfigFlags": 0}
            if service:
                values["Service"] = service
            if major >= 10:
                values["ConfigScope"] = 7
            keys[rf"{key}\Configurations\{section}"] = values
        for identifier, (_, _, section) in identifiers.items():
            description = f"{identifier.lower()}.devicedesc"
            keys[rf"{key}\Descriptors\{identifier}"] = {
                "Configuration": section, "Manufacturer": "%ms%", "Description": f"%{description}%"}
            keys.setdefault(rf"{key}\Strings", {"ms": "Microsoft"})[description] = "A device"
            keys.setdefault(rf"DriverDatabase\DeviceIds\{identifier}", {})[name] = bytes(
                (1, 0xFF, 0, 0))
    return keys


# --- SOFTWARE and the others ----------------------------------------------------------------------


def software(release: Release) -> Keys:
    major, minor, build = release.version
    # Windows 10 and later tell programs that ask here that they are 6.3.
    version = "6.3" if major >= 10 else f"{major}.{minor}"
    current: dict[str, Value] = {
        "ProductName": release.product, "CurrentVersion": version, "CurrentBuild": str(build),
        "CurrentBuildNumber": str(build), "EditionID": release.edition,
        "SystemRoot": rf"C:\{release.folder}", "PathName": rf"C:\{release.folder}",
        "CurrentType": "Multiprocessor Free", "RegisteredOwner": "Windows User"}
    if release.release >= (6, 0):
        current["InstallationType"] = "Server" if release.server else "Client"
    if major >= 10:
        current |= {"CurrentMajorVersionNumber": major, "CurrentMinorVersionNumber": minor,
                    "UBR": 15, "DisplayVersion": release.display}
    if release.service_pack:
        current["CSDVersion"] = f"Service Pack {release.service_pack}"
    here = r"Microsoft\Windows\CurrentVersion"
    return {
        r"Microsoft\Windows NT\CurrentVersion": current,
        r"Microsoft\Windows NT\CurrentVersion\Winlogon": {"Shell": "explorer.exe"},
        here: {
            "ProgramFilesDir": r"C:\Program Files",
            "CommonFilesDir": r"C:\Program Files\Common Files",
            "DevicePath": registry.expand_sz("DevicePath", r"%SystemRoot%\inf")},
        rf"{here}\Group Policy": {}, rf"{here}\Policies\System": {"EnableLUA": 1},
        rf"{here}\Run": {}, rf"{here}\RunOnce": {}, rf"{here}\Setup": {"BootDir": "C:\\"},
        rf"{here}\Uninstall": {}, "Policies": {}, "Classes": {},
        **({rf"WOW6432Node\{here}": {"ProgramFilesDir": r"C:\Program Files (x86)"}}
           if release.arch == "amd64" else {})}


#: The other hives that Windows cannot do without; nobody looks inside.
OTHERS: Final[Mapping[str, Keys]] = {
    "SAM": {r"SAM\Domains\Account": {}, r"SAM\Domains\Builtin": {}},
    "SECURITY": {"Policy": {}},
    "DEFAULT": {"Software": {}}}


# --- BCD ------------------------------------------------------------------------------------------

_BOOTMGR = "{9dea862c-5cdd-4e70-acc1-f32b344d4795}"
_LOADER = "{5b8c2a10-7d3e-4f61-9a52-3c4d5e6f7081}"
_RESUME = "{5b8c2a0f-7d3e-4f61-9a52-3c4d5e6f7081}"
_SETTINGS = "{6efb52bf-1766-41db-a6b3-0ee5eff72bd7}"


def bcd(release: Release, *, efi: bool, boot: bytes, root: bytes) -> Keys:
    """The boot configuration; `boot` and `root` are the device elements of the system's partition
    and of Windows' own (see `device`)."""
    ending = "efi" if efi else "exe"
    folder = rf"\{release.folder}"
    manager = r"\EFI\Microsoft\Boot\bootmgfw.efi" if efi else r"\bootmgr"
    objects: dict[str, tuple[int, dict[str, Value]]] = {
        _BOOTMGR: (0x10100002, {
            "11000001": boot, "12000002": manager, "12000004": "Windows Boot Manager",
            "12000005": "en-US", "23000003": _LOADER, "23000006": _RESUME,
            "24000001": (_LOADER,), "25000004": _number(30)}),
        _LOADER: (0x10200003, {
            "11000001": root, "12000002": rf"{folder}\system32\winload.{ending}",
            "12000004": release.product, "12000005": "en-US", "14000006": (_SETTINGS,),
            "21000001": root, "22000002": folder, "23000003": _RESUME, "25000020": _number(0)}),
        _RESUME: (0x10200004, {
            "11000001": root, "12000002": rf"{folder}\system32\winresume.{ending}",
            "12000004": "Windows Resume Application", "21000001": root,
            "22000002": r"\hiberfil.sys"}),
        _SETTINGS: (0x20200003, {"16000020": b"\0"})}
    keys: Keys = {"Description": {"KeyName": "BCD00000000", "System": 1, "TreatAsSystem": 1}}
    for guid, (kind, elements) in objects.items():
        keys[rf"Objects\{guid}\Description"] = {"Type": kind}
        keys |= {rf"Objects\{guid}\Elements\{element}": {"Element": value}
                 for element, value in elements.items()}
    return keys


def device(partition: UUID | int, disk: UUID | int) -> bytes:
    """A device element that names a partition: by GUIDs, or by offset in bytes and signature."""
    def identifier(value: UUID | int) -> bytes:
        return value.bytes_le if isinstance(value, UUID) else struct.pack("<Q8x", value)
    # Six is a partition; what follows the GUID of further options is 0x48 bytes long.
    return struct.pack("<16xIIII16sII16s16x", 6, 0, 0x48, 0, identifier(partition), 0,
                       isinstance(disk, int), identifier(disk))


def _number(value: int) -> bytes:
    return value.to_bytes(8, "little")
