r"""The DriverDatabase of Windows 8 and newer: what the kernel finds its boot drivers by.

`DriverDatabase` is below the root of the SYSTEM hive, and again below that of the DRIVERS hive
(`System32\config\DRIVERS`). No document describes it. What is written here is what Windows itself
wrote in two real SYSTEM hives, 8.1 (159 packages) and 10 1709 (222), and the tests make the same
bytes from the same facts. In short:

- `DriverInfFiles\<inf>`: the packages that were published under this name, which of them is
  active, and the install sections. A third party's is called oemN.inf; `OemInfMap` has their bits.
- `DeviceIds\<hardware id>` and `DeviceIds\{class}`: a value for each INF that knows the device.
- `DriverPackages\<folder>`: what the INF says, so that the kernel can install the device without
  it. `Configurations\<section>` has the service, and as subkeys what goes to the device's key
  (`Device`, from the .HW section), the driver's (`Driver`) and the services' (`Services\<name>`).
  `Descriptors\<id>` has the configuration of each id, and names whose tokens are in `Strings`.
- Ids and section names are spelled as in the INF (`VEN_80ee&DEV_cafe`), the section with its
  decoration (`Install.NT`, `scsi_inst`); tokens, and folders' names, are in small letters.
- `DriverFiles` is empty in both.

SYSTEM holds the packages of classes that are critical for booting, DRIVERS all others. The class
says so: 378 of the 381 packages are of classes with the property {6a3433f4-...} 3, no such class is
without a package, and the remaining three are of the class Extension. `OemInfMap`, which is in
SYSTEM alone, counts the others as well: on 10 those that own services of graphics, sound and
Bluetooth drivers, on 8.1 that of the display driver.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from imgconv.errors import CannotConvert, HostileInput
from imgconv.model import RegistryValue
from imgconv.windows import control_sets, inf, package_name, registry
from imgconv.windows.additions import grouped, key_name, key_path
from imgconv.windows.driver_database_values import (
    ARCHITECTURES,
    SCORE_UNSIGNED,
    VersionValue,
    decode_version,
    filetime,
    id_matches,
    signer_score,
)
from imgconv.windows.edits import Edits
from imgconv.windows.package_name import DriverStore
from imgconv.windows.registry import Hive, Key
from imgconv.windows.versions import WindowsVersion
from imgconv.windows.virtio_win import DriverPackage

#: The class of storage controllers, as DeviceIds spells it.
SCSI_ADAPTER: Final = "{4d36e97b-e325-11ce-bfc1-08002be10318}"
_EXTENSION = "{e2f84ce7-8efa-411c-aa69-97454ca4cb57}"

#: A boolean property (type 0xffff0011, ff is true): the class's devices are needed for booting.
_BOOT_CRITICAL = r"Properties\{6a3433f4-5626-40e8-a9b9-dbd9ecd2884b}\0003"

#: The StatusFlags of packages that the kernel can install by itself (dellrbtn, iwdbus, heci on 10,
#: most of the others on both), and of those that need something run once Windows is up.
_READY = 0x12
_NEEDS_FINISHING = 0x1A
#: CONFIGFLAG_FINISH_INSTALL: as in usbcir.inf and others whose install sections have co-installers.
_FINISH_INSTALL = 0x400

#: What a configuration has of an INF's sections: the install section, .HW, .Services, .Wdf. (.Wdf:
#: iwdbus on 10 has 107; what lxc/distrobuilder has of balloon 105, and of viostor 7.)
_HAS_INSTALL, _HAS_HW, _HAS_SERVICES, _HAS_WDF = 1, 2, 4, 0x100

#: FLG_ADDREG_* of INF files, and how the database shows them in a value's type: mshdc.inf has
#: DevicePriority with type 0x20004, storahci's lists are of type 0x40007.
_APPEND, _NO_CLOBBER = 0x8, 0x2
_TYPE_FLAGS = ((_NO_CLOBBER, 0x20000), (_APPEND, 0x40000))

_OEM_PATH = "imgconv"
_FILTERS = {"UPPERFILTERS", "LOWERFILTERS"}


@dataclass(frozen=True, slots=True)
class Published:
    """A package as the guest knows it: its folder in the driver store, and its name in INF.

    With `kept` it is the guest's own, which is as new as ours or newer: its files are there, the
    database has it as signed, and nothing was planned.
    """

    package_folder: str
    inf_name: str
    kept: bool = False


def plan(system: Edits, drivers: Edits | None, packages: Iterable[DriverPackage],
         windows: WindowsVersion, store: DriverStore, *, imported: datetime | None = None,
         ) -> tuple[Published, ...]:
    """Publish packages in a guest with a DriverDatabase; the result is in the packages' order.

    Without a DRIVERS hive everything goes to SYSTEM, whose database has the same layout.

    Where the guest has the same driver (INF and provider) already, the newer DriverVer wins, date
    before version, as Windows itself would choose among them. An older one stays beside the new
    one: it is the guest's way back. A newer one that is not complete, or not signed, cannot start
    the guest but would win over ours: Windows is made to forget which devices it is for, and the
    rest of it stays for whoever wants to repair or remove it. `imported` is the time that packages
    new to the guest get on Windows 10 and newer.

    Raises CannotConvert when the guest has no DriverDatabase or misses the driver's class, BadInf.
    """
    require(system.hive)
    published = tuple(publish(system, drivers, package, windows, store, imported=imported)
                      for package in packages)
    mark_names(system, store, published)
    return published


def require(system: Hive) -> None:
    """Raise CannotConvert when the guest has no DriverDatabase."""
    if system.key("DriverDatabase") is None:
        raise CannotConvert("the registry has no DriverDatabase",
                            hint="Windows 8 and newer have one: this SYSTEM hive is damaged")


def mark_names(system: Edits, store: DriverStore, published: Iterable[Published]) -> None:
    """Mark the names of the published packages as taken."""
    if any(not one.kept for one in published):
        system.set("DriverDatabase", (registry.binary("OemInfMap", store.oem_map()),),
                   "marks the names of the published drivers as taken")


def critical_for_boot(system: Hive, class_guid: str) -> bool:
    """Whether Windows keeps the packages of a class in SYSTEM. Raises CannotConvert without it."""
    name = class_guid.lower()
    key = system.key(rf"{control_sets.current(system)}\Control\Class\{class_guid}")
    if key is None:
        raise CannotConvert(f"the registry does not know the device class {class_guid}",
                            hint="every Windows has it: this SYSTEM hive is damaged")
    flag = key.key(_BOOT_CRITICAL)
    if flag is not None and (value := flag.value("")) is not None:
        return value.data == b"\xff"
    return name in (SCSI_ADAPTER, _EXTENSION)


def publish(system: Edits, drivers: Edits | None, package: DriverPackage, windows: WindowsVersion,
            store: DriverStore, *, imported: datetime | None = None) -> Published:
    """Publish one package as `plan` does, which also marks its name (`mark_names`)."""
    version = package.inf.version(windows)
    in_system = critical_for_boot(system.hive, version.class_guid)
    edits = drivers if drivers is not None and not in_system else system
    folder = package_name.folder(package, windows)
    newer = [one for one in _as_new(edits.hive, package, version)
             if one.package_folder.upper() != folder.upper()]
    files = (package.inf.name, *package_name.drivers(package, windows).values())
    kept = next((one for one in newer if _usable(edits.hive, one, package, windows)
                 and store.holds(one.package_folder, one.inf_name, files)), None)
    broken = {one.inf_name.upper() for one in newer[:newer.index(kept) if kept else None]}
    if kept is not None:
        _forget_devices(edits, broken - {kept.inf_name.upper()})
        return kept
    ours = edits.hive.key(rf"DriverDatabase\DriverPackages\{folder}")
    name = (ours.text("") if ours is not None else None) or ""
    if package_name.oem_number(name) is None:
        name = store.take()
    store.mark(name)
    _forget_devices(edits, broken - {name.upper()})
    _Publication(edits, package, windows, version, folder, name).write(imported)
    return Published(folder, name)


def _as_new(hive: Hive, package: DriverPackage, version: inf.Version) -> list[Published]:
    """The guest's own packages of the same driver that are not older than ours, the newest first.
    Windows would choose the first."""
    found: list[tuple[tuple[date, tuple[int, ...]], Published]] = []
    packages = hive.key(r"DriverDatabase\DriverPackages")
    start = f"{package.inf.name}_{package.arch}_".upper()
    for key in packages.subkeys() if packages is not None else ():
        name = key.text("") or ""
        if not key.name.upper().startswith(start) or package_name.oem_number(name) is None:
            continue
        if (key.text("Provider") or "").upper() != version.provider.upper():
            continue
        age = _age(key)
        if age is not None and age >= (version.date, version.version) and _active(hive, name, key):
            found.append((age, Published(key.name, name, kept=True)))
    return [one for _, one in sorted(found, key=lambda pair: pair[0], reverse=True)]


def _usable(hive: Hive, theirs: Published, package: DriverPackage,
            windows: WindowsVersion) -> bool:
    """Whether Windows takes the package for a device of ours, and for a signed one."""
    key = hive.key(rf"DriverDatabase\DriverPackages\{theirs.package_folder}")
    score = key.number("SignerScore") if key is not None else None
    ids = id_matches(model.ids for model in package.inf.models(windows))
    return score is not None and score < SCORE_UNSIGNED and any(
        (known := hive.key(rf"DriverDatabase\DeviceIds\{identifier}")) is not None
        and known.value(theirs.inf_name) is not None for identifier in ids)


def _forget_devices(edits: Edits, names: set[str]) -> None:
    """Make Windows forget which devices these INFs (in capitals) are for."""
    top = r"DriverDatabase\DeviceIds"
    known = edits.hive.key(top) if names else None
    for path, key in known.walk() if known is not None else ():
        for value in key.values():
            if path and value.name.upper() in names:
                edits.remove(rf"{top}\{path}", value.name,
                             f"{value.name} is newer than imgconv's driver, but not complete or "
                             "not signed: it must not be chosen")


def _age(package: Key) -> tuple[date, tuple[int, ...]] | None:
    value = package.value("Version")
    try:
        decoded = decode_version(value.data if value is not None else b"")
    except HostileInput:
        return None
    return decoded.date, decoded.version


def _active(hive: Hive, name: str, package: Key) -> bool:
    file = hive.key(rf"DriverDatabase\DriverInfFiles\{name}")
    return file is not None and (file.text("Active") or "").upper() == package.name.upper()


@dataclass(frozen=True, slots=True)
class _Publication:
    """Writes all that the database has of one package."""

    edits: Edits
    package: DriverPackage
    windows: WindowsVersion
    version: inf.Version
    folder: str
    name: str

    def write(self, imported: datetime | None) -> None:
        models = self.package.inf.models(self.windows)
        if not models:
            raise inf.BadInf(f"{self.package.origin}: the INF has no device for this Windows",
                             hint="use drivers that are made for this version of Windows")
        installations = {
            model.install.upper(): self.package.inf.installation(model.install, self.windows)
            for model in models}
        sections = {install: done.section for install, done in installations.items()}
        self._inf_file(tuple(dict.fromkeys(sections.values())))
        self._device_ids(models)
        self._package(imported, any(_finishes(done) for done in installations.values()))
        for installation in installations.values():
            self._configuration(installation)
        self._descriptors(models, sections)

    def _set(self, key: str, values: Iterable[RegistryValue] = ()) -> None:
        self.edits.set(rf"DriverDatabase\{key}", values,
                       f"publishes the driver {self.package.name} as {self.name}")

    def _set_package(self, key: str, values: Iterable[RegistryValue] = ()) -> None:
        self._set(rf"DriverPackages\{self.folder}\{key}".rstrip("\\"), values)

    def _inf_file(self, sections: tuple[str, ...]) -> None:
        self._set(rf"DriverInfFiles\{self.name}", (
            registry.multi_sz("", (self.folder,)),
            registry.sz("Active", self.folder),
            registry.multi_sz("Configurations", sections)))

    def _device_ids(self, models: tuple[inf.Model, ...]) -> None:
        for identifier, match in id_matches(model.ids for model in models).items():
            self._set(rf"DeviceIds\{key_path(identifier)}",
                      (registry.binary(self.name, match.encode()),))
        self._set(rf"DeviceIds\{self.version.class_guid.lower()}",
                  (RegistryValue(self.name, registry.NONE, b""),))

    def _package(self, imported: datetime | None, finishes: bool) -> None:
        package, version = self.package, self.version
        values = [registry.binary("Version", self._version()),
                  registry.sz("Provider", version.provider),
                  registry.sz("InfName", package.inf.name),
                  registry.sz("OemPath", _OEM_PATH)]
        if package.signer:
            values.append(registry.sz("SignerName", package.signer))
        there = self.edits.hive.key(rf"DriverDatabase\DriverPackages\{self.folder}")
        if imported is not None and self.windows.major >= 10 and there is None:
            values.append(registry.binary("ImportDate",
                                          filetime(imported).to_bytes(8, "little")))
        values += [registry.dword("SignerScore", signer_score(package.signer)),
                   registry.dword("StatusFlags", _NEEDS_FINISHING if finishes else _READY),
                   registry.sz("", self.name)]
        self._set_package("", values)

    def _version(self) -> bytes:
        version = self.version
        try:
            return VersionValue(ARCHITECTURES[self.package.arch], version.class_guid.lower(),
                                version.date, version.version).encode()
        except (struct.error, ValueError) as error:
            raise inf.BadInf(f"{self.package.origin}: the INF has an impossible DriverVer or "
                             "ClassGuid",
                             hint="this driver package is damaged: get it anew") from error

    def _configuration(self, installation: inf.Installation) -> None:
        top = rf"Configurations\{key_name(installation.section)}"
        function = next((service.name for service in installation.services
                         if service.flags & 2), "")
        device = [one for one in installation.device if not _is_filter(one)]
        values = [registry.sz("Service", function),
                  *(_value(one) for one in installation.device if _is_filter(one))]
        if self.windows.major >= 10:
            scope = (_HAS_INSTALL | _HAS_HW * bool(installation.device)
                     | _HAS_SERVICES * bool(installation.services)
                     | _HAS_WDF * ("Wdf" in installation.unsupported))
            values.append(registry.dword("ConfigScope", scope))
        values.append(registry.dword("ConfigFlags",
                                     _FINISH_INSTALL if _finishes(installation) else 0))
        self._set_package(top, values)
        self._additions(rf"{top}\Device", device)
        self._additions(rf"{top}\Driver", installation.software)
        for service in installation.services:
            self._additions(rf"{top}\Services\{key_name(service.name)}", service.additions)

    def _additions(self, top: str, additions: Iterable[inf.Addition]) -> None:
        for key, values in grouped(additions):
            self._set_package(rf"{top}\{key}".rstrip("\\"), map(_value, values))

    def _descriptors(self, models: tuple[inf.Model, ...], sections: dict[str, str]) -> None:
        strings: dict[str, str] = {}
        # The first line that names an id is the one that counts.
        described: dict[str, tuple[str, inf.Model]] = {}
        for model in models:
            for token, text in ((model.manufacturer_token, model.manufacturer),
                                (model.description_token, model.description)):
                if _is_token(token):
                    strings.setdefault(token[1:-1].lower(), text)
            for identifier in model.ids:
                described.setdefault(identifier.upper(), (identifier, model))
        for identifier, model in described.values():
            self._set_package(rf"Descriptors\{key_path(identifier)}", (
                registry.sz("Configuration", sections[model.install.upper()]),
                registry.sz("Manufacturer", _name(model.manufacturer_token, model.manufacturer)),
                registry.sz("Description", _name(model.description_token, model.description))))
        self._set_package("Strings", (registry.sz(token, text)
                                      for token, text in strings.items()))


def _value(addition: inf.Addition) -> RegistryValue:
    flags = sum(shown for flag, shown in _TYPE_FLAGS if addition.flags & flag)
    return RegistryValue(addition.name or "", addition.type | flags, addition.data)


def _is_filter(addition: inf.Addition) -> bool:
    """Filters are said of the configuration itself: so in dellrbtn.inf on 10."""
    return not addition.key and (addition.name or "").upper() in _FILTERS


def _finishes(installation: inf.Installation) -> bool:
    return any("COINSTALLER" in one.upper() for one in installation.unsupported)


def _is_token(text: str) -> bool:
    return re.fullmatch(r"%[^%]+%", text) is not None


def _name(token: str, text: str) -> str:
    return token.lower() if _is_token(token) else text
