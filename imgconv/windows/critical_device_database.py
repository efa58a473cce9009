r"""The CriticalDeviceDatabase: what Windows 7 and older install boot devices by.

When the disk that Windows starts from hangs on a device that it has not met, the kernel goes
through the device's hardware and compatible ids and takes the first that is a key below
`Control\CriticalDeviceDatabase`, with `#` for each backslash. So every id of the INF is entered,
and of PCI devices the shorter ids as well, which the device has too: the real hive of 7 knows
devices as `PCI#VEN_x&DEV_x` (682), `...&SUBSYS_x` (674), `...&SUBSYS_x&REV_x` (67).

An entry has `Service` and `ClassGUID` (and filters where there are any). In-box entries on 7 also
have `DriverPackageId`, the package's folder. It is left out here: 7 keeps the list of its packages
in files of its own (infpub.dat, infstor.dat), where ours is not; the 25 entries of that hive which
Windows or converters made for devices at run time do without it, and so does all of XP.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from imgconv.windows import control_sets, registry
from imgconv.windows.additions import key_name
from imgconv.windows.edits import Edits
from imgconv.windows.versions import WindowsVersion
from imgconv.windows.virtio_win import DriverPackage

_HDC = "{4D36E96A-E325-11CE-BFC1-08002BE10318}"

#: QEMU's IDE controllers (PIIX3, PIIX4, any other), AHCI, and the channels of IDE, with the service
#: of each. 7 has all of them, XP only those of the machine that it was installed on.
_FALLBACK: Final = (
    ("PCI#VEN_8086&DEV_7010", "intelide"), ("PCI#VEN_8086&DEV_7111", "intelide"),
    ("PCI#CC_0101", "pciide"), ("PCI#CC_010601", "msahci"),
    ("Primary_IDE_Channel", "atapi"), ("Secondary_IDE_Channel", "atapi"),
    ("Internal_IDE_Channel", "atapi"))


def plan(system: Edits, package: DriverPackage, windows: WindowsVersion) -> None:
    """Enter every device of the package, in every control set. Raises BadInf."""
    class_guid = package.inf.version(windows).class_guid.upper()
    for model in package.inf.models(windows):
        services = package.inf.installation(model.install, windows).services
        service = next((one.name for one in services if one.flags & 2), None)
        if service is None:
            continue
        for identifier in ids(model.ids):
            _enter(system, identifier, service, class_guid,
                   f"lets Windows start from a disk on {package.name}")


def plan_fallback(system: Edits) -> None:
    """Enter IDE and AHCI where Windows has the driver and no entry of its own: XP and 2003.

    What is there already stays as it is, whoever made it.
    """
    for control_set in control_sets.names(system.hive):
        for key, service in _FALLBACK:
            entry = rf"{control_set}\Control\CriticalDeviceDatabase\{key}"
            known = system.hive.key(rf"{control_set}\Services\{service}") is not None
            if known and system.hive.key(entry) is None:
                system.set(entry, (registry.sz("Service", service),
                                   registry.sz("ClassGUID", _HDC)),
                           f"lets Windows start from a disk on {service}")


def ids(of_model: tuple[str, ...]) -> Iterator[str]:
    """A model's ids as keys of the database, followed by the shorter ids of PCI devices.

    Raises BadInf for what cannot be a key.
    """
    known: set[str] = set()
    for identifier in of_model:
        name = identifier.replace("\\", "#")
        for one in (name, *_shorter(name)):
            if one.upper() not in known:
                known.add(one.upper())
                yield key_name(one)


def _shorter(name: str) -> Iterator[str]:
    """PCI#VEN_x&DEV_x&SUBSYS_x&REV_x gives ...&SUBSYS_x and PCI#VEN_x&DEV_x."""
    parts = name.split("&")
    kinds = [part.upper().rpartition("#")[2].partition("_")[0] for part in parts]
    if not name.upper().startswith("PCI#") or kinds[:2] != ["VEN", "DEV"]:
        return
    if kinds[2:] == ["SUBSYS", "REV"]:
        yield "&".join(parts[:3])
    if len(parts) > 2:
        yield "&".join(parts[:2])


def _enter(system: Edits, key: str, service: str, class_guid: str, why: str) -> None:
    for control_set in control_sets.names(system.hive):
        system.set(rf"{control_set}\Control\CriticalDeviceDatabase\{key}",
                   (registry.sz("Service", service), registry.sz("ClassGUID", class_guid)), why)
