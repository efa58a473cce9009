r"""Services: the keys by which Windows loads drivers, and the controllers that are fallen back to.

They are written in every control set: "Last Known Good" starts with another than the current one.

Two things are left out on purpose:

- `Enum`, the devices that were found. PnP makes an instance's key when it finds the device, with
  rights that only SYSTEM has; an instance that is half there counts as installed and is not
  installed again.
- `Tag`, the place within the load group. It only counts when `Control\GroupOrderList` lists it;
  Windows takes a free one when it installs a driver. Drivers without one come last in their group,
  which for a storage controller is soon enough: the group's order says when its disks are needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from imgconv.errors import CannotConvert
from imgconv.guest.protocols import Reader
from imgconv.model import RegistryValue
from imgconv.windows import control_sets, places, registry
from imgconv.windows.additions import grouped, key_name
from imgconv.windows.edits import Edits
from imgconv.windows.inf import Addition, Service

#: The in-box drivers of the controllers that every machine type of QEMU can have: AHCI (storahci
#: from Windows 8 on, msahci on Vista to 7) and IDE (a controller's and the channel's).
FALLBACK_CONTROLLERS: Final = ("storahci", "msahci", "atapi", "intelide", "pciide")

#: SERVICE_BOOT_START: the boot loader loads it, before there is a file system.
BOOT_START: Final = 0

#: FLG_ADDREG_* of INF files.
_NO_CLOBBER, _DELETE_VALUE, _APPEND, _OVERWRITE_ONLY = 0x2, 0x4, 0x8, 0x20


def plan(system: Edits, services: Iterable[Service], *, owner: str | None = None,
         folder: str = "", boot: bool = False) -> None:
    """Install services as an INF's .Services section does it, free of any StartOverride.

    `owner` is the published INF's name (oemN.inf) on Windows 8 and newer, whose `Owners` names it;
    7 and older have no such value. `folder` is the package's in the driver store, for drivers that
    are loaded from there. With `boot` the boot loader is to load them, whatever the INF
    says. Raises CannotConvert when a boot driver's load group is none that Windows knows,
    BadInf.
    """
    for service in services:
        start = BOOT_START if boot else service.start
        if start == BOOT_START and service.group:
            _check_group(system, service)
        for control_set in control_sets.names(system.hive):
            _install(system, rf"{control_set}\Services",
                     replace(service, start=start, binary=_binary(service, folder)), owner)
    clear_start_override(system, [service.name for service in services])


def clear_start_override(system: Edits, names: Iterable[str]) -> None:
    """Delete the services' StartOverride keys, whose value 0 = 3 demotes a boot driver.

    Windows 8 and newer write it for drivers without a device, so that the next start is quicker:
    for 44 drivers in the real hive of 10, atapi, intelide, pciide and storahci among them. When
    the disk then is on such a controller, Windows stops with 0x7B.
    """
    for control_set in control_sets.names(system.hive):
        for name in names:
            system.delete(rf"{control_set}\Services\{name}\StartOverride",
                          f"lets Windows load {name} although its device was absent before")


def plan_fallback(system: Edits, reader: Reader, systemroot: str,
                  names: Iterable[str] = FALLBACK_CONTROLLERS) -> None:
    """See to it that Windows still starts from IDE and SATA: the in-box drivers that it has are
    loaded at boot.

    Windows 8 and newer have Start 0 and a StartOverride; 7 sets the Start of those that it does
    not use to 3 (msahci and pciide in the real hive), XP to 4.
    """
    for name in names:
        if reader.find(f"{systemroot.rstrip('/')}/System32/drivers/{name}.sys") is None:
            continue
        for control_set in control_sets.names(system.hive):
            key = rf"{control_set}\Services\{name}"
            if system.hive.key(key) is not None:
                system.set(key, (registry.dword("Start", BOOT_START),),
                           f"lets Windows start from a disk on {name}")
        clear_start_override(system, (name,))


def _install(system: Edits, services: str, service: Service, owner: str | None) -> None:
    key = rf"{services}\{key_name(service.name)}"
    why = f"installs the driver {service.name}"
    system.set(key, _values(system, key, service, owner), why)
    _add(system, key, service.additions, why)
    _add(system, rf"{services}\EventLog\System\{service.name}", service.event_log,
         f"names the texts of what {service.name} logs")


def _values(system: Edits, key: str, service: Service,
            owner: str | None) -> Iterable[RegistryValue]:
    yield registry.dword("Type", service.type)
    yield registry.dword("Start", service.start)
    yield registry.dword("ErrorControl", service.error_control)
    yield registry.expand_sz("ImagePath", service.binary)
    if service.group:
        yield registry.sz("Group", service.group)
    if service.display_name:
        yield registry.sz("DisplayName", service.display_name)
    if service.dependencies:
        yield registry.multi_sz("DependOnService", service.dependencies)
    if owner is not None:
        yield registry.multi_sz("Owners", _with(_strings(system, key, "Owners"), (owner,)))


def _binary(service: Service, folder: str) -> str:
    return service.binary.replace(
        "%13%", rf"\SystemRoot\{places.FILE_REPOSITORY}\{folder}".replace("/", "\\"))


def _add(system: Edits, top: str, additions: Iterable[Addition], why: str) -> None:
    for below, values in grouped(additions):
        key = rf"{top}\{below}".rstrip("\\")
        system.set(key, [value for one in values
                         if (value := _value(system, key, one)) is not None], why)


def _value(system: Edits, key: str, addition: Addition) -> RegistryValue | None:
    """What an addition comes to in view of what is there, None for nothing."""
    name = addition.name or ""
    if addition.flags & _DELETE_VALUE:
        return None
    there = system.hive.key(key)
    exists = there is not None and there.value(name) is not None
    if addition.flags & (_NO_CLOBBER if exists else _OVERWRITE_ONLY):
        return None
    if addition.flags & _APPEND and addition.type == registry.MULTI_SZ:
        return registry.multi_sz(name, _with(_strings(system, key, name),
                                             registry.multi_string(addition.data)))
    return RegistryValue(name, addition.type, addition.data)


def _strings(system: Edits, key: str, name: str) -> tuple[str, ...]:
    there = system.hive.key(key)
    return there.strings(name) if there is not None else ()


def _with(there: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    known = {text.upper() for text in there}
    return there + tuple(text for text in more if text.upper() not in known)


def _check_group(system: Edits, service: Service) -> None:
    order = system.hive.key(
        rf"{control_sets.current(system.hive)}\Control\ServiceGroupOrder")
    groups = order.strings("List") if order is not None else ()
    if service.group.upper() not in {group.upper() for group in groups}:
        raise CannotConvert(
            f"the registry does not know the load group {service.group!r} of {service.name}",
            hint="every Windows has a ServiceGroupOrder with it: this SYSTEM hive is damaged")
