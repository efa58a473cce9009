"""How Windows comes by the drivers of its disk when it starts: from the device to the volume.

The boot loader loads every service of Start 0 into memory, the disk being reachable by the firmware
only until then. What it has not loaded cannot be loaded later, for there is no disk without it:
stop 0x7B, INACCESSIBLE_BOOT_DEVICE. So the controller's driver must be found by the controller's
ids, be such a service, and have a file that the loader takes; and so must what stands on it (disk,
partitions, volumes) and the filters that hang on their classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from imgconv.guest.protocols import Reader
from imgconv.model import Level
from imgconv.windows import boot_files, boot_match, control_sets, devices
from imgconv.windows.boot_match import Link, Match, failed, proven, warning
from imgconv.windows.devices import Device, PciDevice
from imgconv.windows.registry import Hive, Key, integer
from imgconv.windows.versions import WindowsVersion

#: Setup classes by which Windows knows disk controllers: SCSIAdapter and HDC.
SCSI_ADAPTER: Final = "{4d36e97b-e325-11ce-bfc1-08002be10318}"
IDE_CONTROLLER: Final = "{4d36e96a-e325-11ce-bfc1-08002be10318}"
_DISK: Final = "{4d36e967-e325-11ce-bfc1-08002be10318}"
_VOLUME: Final = "{71a27cdd-812a-11d0-bec7-08002be2092f}"

_BOOT, _DISABLED = 0, 4
_KERNEL_DRIVER = 1

#: These make channels, devices of their own that want a driver (atapi), out of a controller.
_CHANNELLED: Final = ("intelide", "pciide", "msahci", "viaide", "amdide", "cmdide", "aliide")

#: Groups that are in no ServiceGroupOrder of the real hives, though drivers of Windows' own name
#: them: the kernel knows the first two itself, the last is for filters.
_UNLISTED: Final = ("core", "core security extensions", "early-launch", "pnp filter")

#: What stands on the controller; in the real hives of 7, 8.1 and 10 all of these are Start 0. XP's
#: volumes are made by ftdisk, and 2000 has no snapshots of them yet.
_STACK: Final = ("pci", "disk", "partmgr", "mountmgr")
_SNAPSHOTS_FROM: Final = (5, 1)
_FTDISK_UNTIL: Final = (5, 9)
_VOLUME_DRIVER_FROM: Final = (10, 0)

#: A registry with more services that a group would have to be searched through is none.
_MOST_SERVICES: Final = 4096


@dataclass(frozen=True, slots=True)
class Chain:
    """All links from `device` to its driver's file; `service` is "" when Windows has no driver."""

    device: Device
    service: str
    links: tuple[Link, ...]

    @property
    def holds(self) -> bool:
        return all(link.level is not Level.FAILED for link in self.links)


def explain(system: Hive, reader: Reader | None, systemroot: str, windows: WindowsVersion,
            device: PciDevice) -> Chain:
    """How Windows starts with its disk on `device`; the links are those of the current control
    set, and one for each other control set.

    Without a reader nothing is said of files. Raises CannotConvert when the hive names no current
    control set, CorruptHive, HostileInput for a file that is too large.
    """
    current = control_sets.current(system)
    plain = device.as_device
    match, links = _links(system, current, reader, systemroot, windows, plain)
    found = [*links, *_instances(system, current, plain, match.service),
             *_others(system, current, systemroot, windows, plain)]
    return Chain(plain, match.service, tuple(found))


def stack(system: Hive, reader: Reader | None, systemroot: str,
          windows: WindowsVersion) -> tuple[Link, ...]:
    """What has to start whatever the disk hangs on: PCI bus, disk, partitions, volumes, and the
    filters of their classes. Raises as `explain` does."""
    current = control_sets.current(system)
    found = list(_stack(system, current, reader, systemroot, windows))
    for other in _other_sets(system, current):
        problems = [link for link in _stack(system, other, None, systemroot, windows)
                    if link.level is Level.FAILED]
        found.append(_other(system, other, problems))
    return tuple(found)


def _links(system: Hive, control_set: str, reader: Reader | None, systemroot: str,
           windows: WindowsVersion, device: Device) -> tuple[Match, list[Link]]:
    match = boot_match.find(system, control_set, windows, device, (SCSI_ADAPTER, IDE_CONTROLLER))
    links = list(match.links)
    if match.service:
        links += _service(system, control_set, reader, systemroot, windows, match)
        links += _filters(system, control_set, reader, systemroot, match.class_guid)
    if match.service.lower() in _CHANNELLED:
        channel = boot_match.find(system, control_set, windows, devices.IDE_CHANNEL)
        below = list(channel.links)
        if channel.service:
            below += _service(system, control_set, reader, systemroot, windows, channel)
        links += [Link(f"IDE channel: {link.name}", link.level, link.message, link.evidence)
                  for link in below]
    return match, links


def _stack(system: Hive, control_set: str, reader: Reader | None, systemroot: str,
           windows: WindowsVersion) -> Iterator[Link]:
    ftdisk = windows.release <= _FTDISK_UNTIL
    names = [*_STACK, "ftdisk" if ftdisk else "volmgr"]
    if windows.release >= _SNAPSHOTS_FROM:
        names.append("volsnap")
    if windows.release >= _VOLUME_DRIVER_FROM:
        names.append("volume")
    for name in names:
        key = system.key(f"{control_set}\\Services\\{name}")
        if key is None:
            yield failed(name, "the service is not there")
            continue
        links = [*_start(key, name), *_file(key, reader, systemroot)]
        problems = [link for link in links if link.level is Level.FAILED]
        unsure = [link for link in links if link.level is Level.WARNING]
        if problems:
            yield failed(name, "; ".join(link.message for link in problems))
        elif unsure:
            yield warning(name, unsure[0].message, unsure[0].evidence)
        else:
            yield proven(name, "starts at boot", key.text("ImagePath") or "")
    for device in (devices.PCI_BUS, devices.DISK):
        match = boot_match.find(system, control_set, windows, device)
        # Those that Windows has met already it knows by themselves, not by these ids.
        yield proven(device.name, f"its driver is {match.service}") if (
            match.service and not match.failed) else warning(
                device.name, "Windows would not find a driver for a new one",
                "; ".join(link.message for link in match.links if link.level is Level.FAILED))
    for guid in (_DISK, _VOLUME):
        yield from _filters(system, control_set, reader, systemroot, guid)


# --- a service ------------------------------------------------------------------------------------


def _service(system: Hive, control_set: str, reader: Reader | None, systemroot: str,
             windows: WindowsVersion, match: Match) -> Iterator[Link]:
    name = match.service
    key = system.key(f"{control_set}\\Services\\{name}")
    if key is None:
        yield failed("service", f"there is no service {name}")
        return
    yield proven("service", f"the service {key.name} is there", key.text("DisplayName") or "")
    kind = key.number("Type")
    yield proven("Type", f"{name} is a kernel driver") if kind == _KERNEL_DRIVER else failed(
        "Type", f"{name} is no kernel driver", f"Type {kind}")
    yield from _start(key, name)
    yield _group(system, control_set, key, name)
    yield from _dependencies(system, control_set, key, name)
    path = boot_files.resolve(systemroot, key.text("ImagePath"), name)
    if path is None:
        yield _unknown_path(key)
    else:
        yield proven("ImagePath", f"{name} is {path}", key.text("ImagePath") or "by default")
        if reader is not None:
            yield from boot_files.check(reader, systemroot, windows, path, match)


def _start(key: Key, name: str) -> Iterator[Link]:
    start = key.number("Start")
    yield proven("Start", f"{name} starts at boot") if start == _BOOT else failed(
        "Start", f"{name} does not start at boot", f"Start {start}")
    override = key.key("StartOverride")
    demoted = [f"{value.name!r} is {integer(value.data[:4])}"
               for value in (override.values() if override is not None else ())
               if value.data and integer(value.data[:4]) != _BOOT]
    if demoted:
        yield failed("StartOverride", f"Windows has taken {name} out of the boot, because its "
                     "device was not there", ", ".join(demoted[:4]))
    elif start == _BOOT:
        yield proven("StartOverride", f"nothing takes {name} out of the boot")


def _group(system: Hive, control_set: str, key: Key, name: str) -> Link:
    group = key.text("Group") or ""
    order = _order(system, control_set)
    if not group:
        return proven("Group", f"{name} is in no group: it starts after those that are")
    if group.lower() in _UNLISTED:
        return proven("Group", f"{name} is in the group {group}, which Windows itself knows")
    if group.lower() not in order:
        return failed("Group", f"{name} is in the group {group}, which is not in "
                      "ServiceGroupOrder")
    position = order.index(group.lower())
    pci = system.key(f"{control_set}\\Services\\pci")
    bus = ((pci.text("Group") if pci is not None else None) or "Boot Bus Extender").lower()
    if bus in order and order.index(bus) > position:
        return failed("Group", f"{name} would start before the PCI bus", group)
    return proven("Group", f"{name} starts after the PCI bus",
                  f"{group} is number {position + 1} of {len(order)}")


def _order(system: Hive, control_set: str) -> list[str]:
    key = system.key(f"{control_set}\\Control\\ServiceGroupOrder")
    return [group.lower() for group in (key.strings("List") if key is not None else ())]


def _dependencies(system: Hive, control_set: str, key: Key, name: str) -> Iterator[Link]:
    for other in key.strings("DependOnService"):
        service = system.key(f"{control_set}\\Services\\{other}")
        start = service.number("Start") if service is not None else None
        yield proven("DependOnService", f"{other}, which {name} needs, starts at boot") if (
            start == _BOOT) else failed("DependOnService", f"{name} needs {other}, which does not "
                                        "start at boot", f"Start {start}")
    groups = {group.lower() for group in key.strings("DependOnGroup")}
    services = system.key(f"{control_set}\\Services") if groups else None
    for index, service in enumerate(services.subkeys() if services is not None else ()):
        if index >= _MOST_SERVICES or not groups:
            break
        if service.number("Start") == _BOOT:
            groups.discard((service.text("Group") or "").lower())
    for group in sorted(groups):
        yield failed("DependOnGroup", f"{name} needs the group {group}, of which nothing starts "
                     "at boot")


def _file(key: Key, reader: Reader | None, systemroot: str) -> Iterator[Link]:
    """Whether a service's file is there at all: for those that Windows brings."""
    path = boot_files.resolve(systemroot, key.text("ImagePath"), key.name)
    if path is None:
        yield _unknown_path(key)
    elif reader is not None:
        found = reader.find(path)
        if found is None or not reader.size(found):
            yield failed("driver file", f"{path} does not exist")


def _unknown_path(key: Key) -> Link:
    image_path = key.text("ImagePath") or ""
    if boot_files.on_other_drive(image_path):
        return warning("ImagePath", f"{key.name} is on another drive than C:, and it is not known "
                       "whether that is Windows' own", image_path)
    return failed("ImagePath", f"the loader does not know the path of {key.name}", image_path)


# --- what hangs on classes, instances, control sets -----------------------------------------------


def _filters(system: Hive, control_set: str, reader: Reader | None, systemroot: str,
             guid: str) -> Iterator[Link]:
    """A filter that is named but not there keeps every device of the class from starting."""
    key = system.key(f"{control_set}\\Control\\Class\\{guid}")
    if key is None:
        return
    what = f"filters of {key.text('Class') or guid}"
    for name in (*key.strings("UpperFilters"), *key.strings("LowerFilters")):
        service = system.key(f"{control_set}\\Services\\{name}")
        if service is None:
            yield failed(what, f"{name} is a filter, but no service")
            continue
        start = service.number("Start")
        file = next(_file(service, reader, systemroot), None)
        if file is not None and file.level is Level.FAILED:
            yield failed(what, f"{name}: {file.message}", file.evidence)
        elif start is None or start >= _DISABLED:
            yield failed(what, f"{name} is disabled", f"Start {start}")
        elif start != _BOOT:
            yield warning(what, f"{name} does not start at boot", f"Start {start}")
        elif file is not None:
            yield warning(what, file.message, file.evidence)
        else:
            yield proven(what, f"{name} starts at boot")


def _instances(system: Hive, control_set: str, device: Device, service: str) -> Iterator[Link]:
    """Where Windows has met the device already. It then keeps what it had, but the place on the
    bus has to be the same too, so nothing is built on that."""
    for name in device.hardware_ids[:1]:
        key = system.key(f"{control_set}\\Enum\\{name}")
        for instance in (key.subkeys() if key is not None else ()):
            has = instance.text("Service") or "none"
            if (instance.number("ConfigFlags") or 0) & 1:
                yield warning("Enum", "this device was met before and is disabled", instance.name)
            elif has.lower() == service.lower():
                yield proven("Enum", f"this device was met before and has {has}", instance.name)
            else:
                yield warning("Enum", f"this device was met before; its driver was {has}",
                              instance.name)


def _other_sets(system: Hive, current: str) -> Iterator[str]:
    for name in control_sets.names(system):
        if name.lower() != current.lower():
            yield name


def _others(system: Hive, current: str, systemroot: str, windows: WindowsVersion,
            device: Device) -> Iterator[Link]:
    for other in _other_sets(system, current):
        _, links = _links(system, other, None, systemroot, windows, device)
        yield _other(system, other, [link for link in links if link.level is Level.FAILED])


def _other(system: Hive, name: str, problems: list[Link]) -> Link:
    """What is wrong in a control set matters when Windows would ever start with it."""
    if not problems:
        return proven(name, "it holds in this control set too")
    select = system.key("Select")
    known = select is not None and any(
        select.number(value) == int(name[-3:]) for value in ("Default", "LastKnownGood"))
    message = "; ".join(f"{link.name}: {link.message}" for link in problems[:3])
    return Link(name, Level.FAILED if known else Level.WARNING, message)


def installed_controllers(system: Hive) -> tuple[tuple[str, str], ...]:
    """The disk controllers that Windows has met: (device id, service), as far as they have a
    driver that starts at boot. Raises as `explain` does."""
    current = control_sets.current(system)
    found: dict[tuple[str, str], None] = {}
    top = system.key(f"{current}\\Enum\\PCI")
    for device in (top.subkeys() if top is not None else ()):
        for instance in device.subkeys():
            service = instance.text("Service") or ""
            guid = (instance.text("ClassGUID") or "").lower()
            key = system.key(f"{current}\\Services\\{service}") if service else None
            if guid in (SCSI_ADAPTER, IDE_CONTROLLER) and key is not None and all(
                    link.level is Level.PROVEN for link in _start(key, service)):
                found[(device.name, service)] = None
    return tuple(found)


__all__ = ["Chain", "Link", "explain", "installed_controllers", "stack"]
