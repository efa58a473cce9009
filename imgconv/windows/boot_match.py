"""Which driver Windows gives a device before there is anything to install it from: from the
DriverDatabase in SYSTEM since Windows 8, from the CriticalDeviceDatabase before.

This is a reading of the format by itself: it shares nothing with the module that writes it.

DriverDatabase. `DeviceIds\\<id>` has a value for each INF that knows the id; its first byte is 1
where the INF has it as a hardware id and 2 where as a compatible one, its second the INF's feature
score (0xff by default, less is better). The INF leads by `DriverInfFiles\\<inf>`'s Active to
`DriverPackages\\<package>`, whose `Descriptors\\<id>` names the configuration, whose `Service` is
the driver. Among several drivers the best rank wins ("How Windows Ranks Drivers", Microsoft): a
signed one before an unsigned one (all signers are equal since Windows 7), then the feature score,
then hardware id on both sides, hardware id met by a compatible one, compatible id met by a hardware
one, compatible ids; then the id's place; and of equals the newer date, then the higher version.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from imgconv.model import Level
from imgconv.windows.devices import Device
from imgconv.windows.registry import Hive, Key
from imgconv.windows.versions import FIRST_DRIVER_DATABASE, WindowsVersion

#: setupapi.h: SIGNERSCORE_UNSIGNED; everything from there on is not signed.
_UNSIGNED: Final = 0x80000000
#: setupapi.h: what Windows itself brings is scored 0x0d000003 (SIGNERSCORE_INBOX).
_IN_BOX: Final = 0x0D000003
#: PROCESSOR_ARCHITECTURE_* of winnt.h.
_ARCHES: Final = {0: "x86", 9: "amd64", 12: "arm64"}
_DISABLED: Final = 1  # CONFIGFLAG_DISABLED
#: Real ids have one INF or a few.
_MOST: Final = 64

DATABASE: Final = "DriverDatabase"


@dataclass(frozen=True, slots=True)
class Link:
    """One step from a device to its running driver; `name` says which."""

    name: str
    level: Level
    message: str
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Match:
    """What Windows decides for a device: `service` is "" when it has no driver.

    `package` is the folder in the driver store, "" where the registry names none.
    """

    service: str
    links: tuple[Link, ...]
    package: str = ""
    inf: str = ""
    class_guid: str = ""
    in_box: bool = False

    @property
    def failed(self) -> bool:
        return any(link.level is Level.FAILED for link in self.links)


def proven(name: str, message: str, evidence: str = "") -> Link:
    return Link(name, Level.PROVEN, message, evidence)


def failed(name: str, message: str, evidence: str = "") -> Link:
    return Link(name, Level.FAILED, message, evidence)


def warning(name: str, message: str, evidence: str = "") -> Link:
    return Link(name, Level.WARNING, message, evidence)


def find(system: Hive, control_set: str, windows: WindowsVersion, device: Device,
         classes: tuple[str, ...] = (), database: Hive | None = None) -> Match:
    """The driver of `device`; `classes` are the class GUIDs that it may have, () for any.

    `database` is the hive whose DriverDatabase is asked, SYSTEM without it: drivers that are not
    needed for booting have theirs in the hive DRIVERS. Raises CorruptHive.
    """
    if system.key(DATABASE) is not None:
        return _from_database(_Database(database or system, system, control_set, windows), device,
                              classes)
    if windows.release >= FIRST_DRIVER_DATABASE:
        return Match("", (failed(DATABASE, "SYSTEM has none, though this Windows needs it"),))
    return _from_critical_devices(system, control_set, device, classes)


# --- since Windows 8 ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Database:
    """The hive with the database, and what of SYSTEM it refers to."""

    hive: Hive
    system: Hive
    control_set: str
    windows: WindowsVersion


@dataclass(frozen=True, slots=True)
class _Candidate:
    rank: tuple[int, ...]
    match: Match


def _from_database(database: _Database, device: Device, classes: tuple[str, ...]) -> Match:
    found = sorted(_candidates(database, device, classes),
                   key=lambda candidate: candidate.rank)
    if not found:
        return Match("", (failed("DeviceIds", "no driver knows any id of the device",
                                 ", ".join(device.ids[:2])),))
    usable = [candidate for candidate in found if not candidate.match.failed]
    best = (usable or found)[0].match
    # What is broken loses to what is not, but it ought not to be there.
    left = [warning("DeviceIds", f"{other.match.inf} also knows the device, but is broken",
                    next(link.message for link in other.match.links
                         if link.level is Level.FAILED))
            for other in found if usable and other.match.failed]
    return Match(best.service, (*best.links, *left), best.package, best.inf, best.class_guid,
                 best.in_box)


def _candidates(database: _Database, device: Device,
                classes: tuple[str, ...]) -> Iterator[_Candidate]:
    seen: set[str] = set()
    for position, name in enumerate(device.ids):
        compatible = position >= len(device.hardware_ids)
        key = database.hive.key(f"{DATABASE}\\DeviceIds\\{name}")
        for value in (key.values() if key is not None else ())[:_MOST]:
            if value.name.lower() in seen or not value.name:
                continue
            seen.add(value.name.lower())
            if len(value.data) < 2 or value.data[0] not in (1, 2, 3):
                yield _Candidate((9,), Match("", (failed(
                    "DeviceIds", f"{value.name}'s value is none that Windows writes",
                    f"{name}: {value.data.hex(' ')}"),), inf=value.name))
                continue
            met = 2 * compatible + (value.data[0] != 1)
            first = proven("DeviceIds", f"{name} is known to {value.name}", value.data.hex(" "))
            order, match = _package(database, device, name, value.name, classes)
            yield _Candidate((order[0], value.data[1], met, position, *order[1:]),
                             Match(match.service, (first, *match.links), match.package, match.inf,
                                   match.class_guid, match.in_box))


def _package(database: _Database, device: Device, name: str, inf: str,
             classes: tuple[str, ...]) -> tuple[tuple[int, ...], Match]:
    """(unsigned, -date, -version...) and what an INF makes of the id `name`."""
    nothing = (1, 0)
    entry = database.hive.key(f"{DATABASE}\\DriverInfFiles\\{inf}")
    if entry is None:
        return nothing, Match("", (failed("DriverInfFiles", f"{inf} is not there"),), inf=inf)
    package = entry.text("Active") or ""
    if not package:
        return nothing, Match("", (failed("DriverInfFiles", f"no package of {inf} is active"),),
                              inf=inf)
    links = [proven("DriverInfFiles", f"{inf} is {package}")]
    listed = [text.lower() for text in entry.strings("")]
    if package.lower() not in listed:
        links.append(failed("DriverInfFiles", f"{inf}'s active package is none of its packages",
                            package))
    key = database.hive.key(f"{DATABASE}\\DriverPackages\\{package}")
    if key is None:
        return nothing, Match("", (*links, failed("DriverPackages", f"{package} is not there")),
                              package, inf)
    links.append(proven("DriverPackages", f"{package} is there"))
    score = key.number("SignerScore")
    order, guid, version_links = _version(database, key, classes)
    links += version_links
    links.append(_score(score))
    service, more = _descriptor(key, device, name)
    unsigned = int(score is not None and score >= _UNSIGNED)
    return (unsigned, *order), Match(service, (*links, *more), package, inf, guid,
                                     score == _IN_BOX)


def _score(score: int | None) -> Link:
    if score is None:
        return warning("SignerScore", "the package has none")
    if score >= _UNSIGNED:
        return warning("SignerScore", "the package counts as not signed", f"{score:#010x}")
    return proven("SignerScore", "the package counts as signed", f"{score:#010x}")


def _version(database: _Database, package: Key,
             classes: tuple[str, ...]) -> tuple[tuple[int, ...], str, list[Link]]:
    value = package.value("Version")
    if value is None or len(value.data) < 40:
        return (0,), "", [failed("Version", "the package's version cannot be read",
                                 value.data.hex(" ") if value is not None else "")]
    mark, arch = struct.unpack_from("<HH", value.data)
    first, second, third = struct.unpack_from("<IHH", value.data, 8)
    rest = value.data[16:24].hex()
    guid = f"{{{first:08x}-{second:04x}-{third:04x}-{rest[:4]}-{rest[4:]}}}"
    date, *numbers = struct.unpack_from("<Q4H", value.data, 24)
    links = []
    known = _ARCHES.get(arch, f"number {arch}")
    if mark not in (0xFFFF, 0xFF00):
        links.append(warning("Version", "begins like none that Windows writes", f"{mark:04x}"))
    if known != database.windows.arch:
        links.append(failed("Version", f"the package is for {known}, Windows is "
                            f"{database.windows.arch}"))
    else:
        links.append(proven("Version", f"the package is for {known}",
                            ".".join(map(str, reversed(numbers)))))
    links.append(_class(database.system, database.control_set, guid, classes))
    return (-date, *(-number for number in reversed(numbers))), guid, links


def _class(system: Hive, control_set: str, guid: str, classes: tuple[str, ...]) -> Link:
    if classes and guid.lower() not in classes:
        return failed("class", "the driver is not for devices of this class", guid)
    key = system.key(f"{control_set}\\Control\\Class\\{guid}")
    if key is None:
        return failed("class", f"Windows has no class {guid}")
    return proven("class", f"the class is {key.text('Class') or guid}", guid)


def _descriptor(package: Key, device: Device, name: str) -> tuple[str, list[Link]]:
    descriptor = package.key(f"Descriptors\\{name}")
    section = descriptor.text("Configuration") if descriptor is not None else None
    if not section:
        return "", [failed("Descriptors", f"the package does not say how to configure {name}")]
    links = [proven("Descriptors", f"{name} is configured by {section}")]
    configuration = package.key(f"Configurations\\{section}")
    if configuration is None:
        return "", [*links, failed("Configurations", f"the package has no {section}")]
    excluded = {text.upper() for text in configuration.strings("ExcludeIds")}
    if any(text.upper() in excluded for text in device.ids):
        return "", [*links, failed("Configurations", f"{section} leaves this very device out")]
    service = configuration.text("Service") or ""
    flags = configuration.number("ConfigFlags") or 0
    if not service:
        links.append(failed("Configurations", f"{section} names no service"))
    elif flags & _DISABLED:
        links.append(failed("Configurations", f"{section} disables the device", f"{flags:#x}"))
    else:
        links.append(proven("Configurations", f"{section} starts {service}"))
    return service, links


# --- Windows 7 and older --------------------------------------------------------------------------


def _from_critical_devices(system: Hive, control_set: str, device: Device,
                           classes: tuple[str, ...]) -> Match:
    """Windows looks the ids up one after the other and takes the first that is there."""
    link = "CriticalDeviceDatabase"
    for name in device.ids:
        entry = name.replace("\\", "#")
        key = system.key(f"{control_set}\\Control\\{link}\\{entry}")
        if key is None:
            continue
        service, guid = key.text("Service") or "", (key.text("ClassGUID") or "").lower()
        if not service:
            return Match("", (failed(link, f"{entry} names no service"),), class_guid=guid)
        return Match(service, (proven(link, f"{entry} starts {service}"),
                               _class(system, control_set, guid, classes)), class_guid=guid)
    return Match("", (failed(link, "no id of the device is there", ", ".join(device.ids[:2])),))
