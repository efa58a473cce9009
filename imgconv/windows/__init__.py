"""Windows guests: the plan is composed here, each step in a module of its own."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from imgconv.errors import CannotConvert, ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.model import (
    Bus,
    Capabilities,
    Change,
    Inspection,
    Options,
    PatchDevice,
    Plan,
    WindowsOs,
    WriteFile,
)
from imgconv.windows import (
    bcd,
    clock,
    critical_device_database,
    driver_database,
    efi,
    first_boot,
    foreign,
    guest_agent,
    hives,
    network,
    ntfs,
    policy,
    san_policy,
    services,
    staging,
    versions,
    virtio_win,
    volumes,
)
from imgconv.windows.driver_database import Published
from imgconv.windows.edits import Edits
from imgconv.windows.hives import LoadedHive
from imgconv.windows.package_name import DriverStore
from imgconv.windows.versions import FIRST_DRIVER_DATABASE, WindowsVersion
from imgconv.windows.virtio_win import DriverPackage, Selection

#: The driver that a disk on each bus needs, and virtio-win's names for those of other devices.
STORAGE: Final = {Bus.VIRTIO_BLK: "viostor", Bus.VIRTIO_SCSI: "vioscsi"}
NET, RNG, BALLOON = "netkvm", "viorng", "balloon"

#: The ids of the modern (1.0) devices of the storage drivers; one without them is legacy only.
_MODERN: Final = ("DEV_1042", "DEV_1048")

#: osinfo-db's first Windows on q35, whose controller is SATA; older ones get i440fx and IDE.
_FIRST_ON_SATA: Final = (6, 1)

#: The PCI vendor of the e1000 family, which the machine has where there is no NetKVM.
_INTEL: Final = "8086"


def plan(reader: Reader, inspection: Inspection, options: Options) -> Plan:
    """What it takes that this Windows starts with its disks on `options.block`.

    Without a driver for its version it is prepared for IDE and SATA instead, and a warning says so.
    Raises CannotConvert, BadPayload when no drivers are found at all.
    """
    windows = versions.of(inspection)
    with virtio_win.open_payload(options.drivers) as payload:
        selection = payload.select(windows)
    registry = _Registry.load(reader, inspection)
    root = _systemroot(inspection)

    changes: list[Change] = []
    files, selection, left_out = _installed(reader, registry, selection, windows, root,
                                            STORAGE[options.block])
    changes += files
    able_to = replace(_capabilities(selection, windows, options.block),
                      localtime=clock.localtime(registry.system.hive))
    if windows.release < FIRST_DRIVER_DATABASE:
        assert registry.software is not None
        staging.device_path(registry.software, selection.packages)
        critical_device_database.plan_fallback(registry.system)
    services.plan_fallback(registry.system, reader, root)
    warnings = [*_refused(selection, options.block), *left_out, *registry.warnings,
                *(f"{package.name}: {warning}" for package in selection.packages
                  for warning in package.warnings),
                *volumes.warnings(inspection), *foreign.plan(registry.system, windows),
                *san_policy.plan(registry.system, inspection, windows),
                *policy.warnings(reader, inspection, registry.system.hive,
                                 registry.software.hive if registry.software else None)]
    more, said = _first_boot(reader, registry.system, selection, windows, root)
    changes += [*more, *efi.plan(reader, inspection), *_head_count(reader, inspection, windows)]
    if registry.boot is not None:
        bcd.plan(registry.boot, reader, inspection)
        warnings += bcd.warnings(registry.boot.hive, inspection)
    if able_to.reason:
        warnings.insert(0, able_to.reason)
    return Plan((*changes, *registry.changes()), able_to,
                tuple(dict.fromkeys((*warnings, *said))))


def old_bus(windows: WindowsVersion) -> Bus:
    """What the disks hang on when it is not virtio: the controller of the fitting machine."""
    return Bus.SATA if windows.release >= _FIRST_ON_SATA else Bus.IDE


@dataclass(frozen=True, slots=True)
class _Registry:
    """The guest's hives and what is to be edited in them; `drivers` is there since Windows 8, and
    `boot` (the BCD) since Vista. Since Windows 8, SOFTWARE is not edited but only asked about
    policies, so it may be unreadable there: `software` is None then, and `unread` says why."""

    loaded: tuple[LoadedHive, ...]
    edits: tuple[Edits, ...]
    system: Edits
    software: Edits | None
    drivers: Edits | None
    boot: Edits | None
    unread: tuple[str, ...] = ()

    @classmethod
    def load(cls, reader: Reader, inspection: Inspection) -> _Registry:
        """Raises CannotConvert."""
        loaded: list[LoadedHive] = []

        def edits(path: str | None) -> Edits | None:
            if path is None:
                return None
            loaded.append(hives.load(reader, path))
            return Edits(loaded[-1].hive, path)

        folder = f"{_systemroot(inspection)}/System32/config"
        paths = {name: reader.find(f"{folder}/{name}")
                 for name in ("SYSTEM", "SOFTWARE", "DRIVERS")}
        system = edits(paths["SYSTEM"])
        if system is None or paths["SOFTWARE"] is None:
            raise CannotConvert(f"{folder} has no SYSTEM or no SOFTWARE hive",
                                hint="this Windows is not complete")
        software: Edits | None = None
        unread: tuple[str, ...] = ()
        try:
            software = edits(paths["SOFTWARE"])
        except ImgconvError as error:
            if versions.of(inspection).release < FIRST_DRIVER_DATABASE:
                raise
            unread = (policy.not_looked_at(error),)
        drivers, boot = edits(paths["DRIVERS"]), edits(bcd.path(reader, inspection))
        found = tuple(one for one in (system, software, drivers, boot) if one is not None)
        return cls(tuple(loaded), found, system, software, drivers, boot, unread)

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self.unread, *(warning for hive in self.loaded for warning in hive.warnings))

    def changes(self) -> tuple[Change, ...]:
        return tuple(change for hive, edits in zip(self.loaded, self.edits, strict=True)
                     for change in hive.finish(edits.changes()))


def _systemroot(inspection: Inspection) -> str:
    assert isinstance(inspection.os, WindowsOs)
    return inspection.os.systemroot


def _capabilities(selection: Selection, windows: WindowsVersion, wanted: Bus) -> Capabilities:
    storage = selection.package(STORAGE[wanted])
    has = {name: selection.package(name) is not None for name in (NET, RNG, BALLOON)}
    if storage is None:
        return Capabilities(old_bus(windows), has[NET], has[RNG], has[BALLOON], reason=(
            f"the payload has no {STORAGE[wanted]} that this Windows could load, so its disks "
            f"stay on {old_bus(windows)}"))
    modern = any(number in identifier.upper() for model in storage.inf.models(windows)
                 for identifier in model.ids for number in _MODERN)
    return Capabilities(wanted, has[NET], has[RNG], has[BALLOON], virtio_1_0=modern)


def _head_count(reader: Reader, inspection: Inspection,
                windows: WindowsVersion) -> tuple[PatchDevice, ...]:
    if windows.release >= ntfs.FIRST_WITHOUT_HEADS:
        return ()
    device = inspection.root
    sector = reader.read_device(device, 0, ntfs.BOOT_SECTOR)
    heads = ntfs.head_count(sector, reader.device_size(device.rstrip("0123456789")), windows)
    if heads is None:
        return ()
    offset = ntfs.HEADS_OFFSET
    return (PatchDevice(device, offset, sector[offset:offset + 2], heads.to_bytes(2, "little"),
                        "this Windows asks the BIOS by the heads that its volume says"),)


def _refused(selection: Selection, wanted: Bus) -> list[str]:
    """Storage and network first: that is what a user misses."""
    names = (STORAGE[wanted], NET)
    unsuited = [refusal for refusal in selection.unsuited if refusal.name in names]
    return [f"{refusal.name} is not used: {refusal.why} ({refusal.origin})"
            for refusal in sorted((*selection.refused, *unsuited),
                                  key=lambda refusal: refusal.name not in names)]


def _installed(reader: Reader, registry: _Registry, selection: Selection, windows: WindowsVersion,
               root: str, storage: str) -> tuple[list[WriteFile], Selection, list[str]]:
    """Publish and stage every package; the one called `storage` is the disk's.

    Returns the files, the selection of what was installed, and a warning for each package that
    cannot be: no guest shall stay behind for a tablet's driver. Raises ImgconvError for the disk's.
    """
    store = _driver_store(reader, registry, windows, root)
    files: list[WriteFile] = []
    done: list[DriverPackage] = []
    published: list[Published] = []
    warnings = []
    for package in selection.packages:
        boot = package.name == storage
        try:
            with ExitStack() as undone:
                for edits in registry.edits:
                    undone.enter_context(edits.all_or_nothing())
                if store is not None:
                    undone.enter_context(store.all_or_nothing())
                names = driver_database.publish(
                    registry.system, registry.drivers, package, windows, store,
                    imported=datetime.now(UTC)) if store is not None else None
                written = staging.files(reader, root, package, names, boot=boot, windows=windows)
                if boot:
                    _start_at_boot(registry.system, package, names, windows)
        except ImgconvError as error:
            if boot:
                raise
            warnings.append(f"{package.name} is left out: {error.message}")
        else:
            files += written
            done.append(package)
            published += [names] if names is not None else []
    if store is not None:
        driver_database.mark_names(registry.system, store, published)
    return files, replace(selection, packages=tuple(done)), warnings


def _driver_store(reader: Reader, registry: _Registry, windows: WindowsVersion,
                  root: str) -> DriverStore | None:
    """What Windows 8 and newer keep packages in. Raises CannotConvert where it should be there."""
    if windows.release < FIRST_DRIVER_DATABASE:
        return None
    driver_database.require(registry.system.hive)
    drivers = registry.drivers
    return DriverStore(registry.system.hive, drivers.hive if drivers is not None else None,
                       reader, root)


def _start_at_boot(system: Edits, package: DriverPackage, published: Published | None,
                   windows: WindowsVersion) -> None:
    """Install the services of the disk's driver, as Windows itself does with any other driver when
    it meets the device."""
    if published is None:
        critical_device_database.plan(system, package, windows)
    installs = dict.fromkeys(model.install for model in package.inf.models(windows))
    for install in installs:
        services.plan(system, package.inf.installation(install, windows).services,
                      owner=published.inf_name if published is not None else None,
                      folder=published.package_folder if published is not None else "", boot=True)


def _first_boot(reader: Reader, system: Edits, selection: Selection, windows: WindowsVersion,
                root: str) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """What only the running Windows can do: addresses of the new network adapter, the agent."""
    vendor = network.VIRTIO if selection.package(NET) is not None else _INTEL
    lines, warnings = network.plan(network.static_addresses(system.hive), windows, 1, vendor,
                                   network.ipv6_addresses(system.hive))
    steps = [first_boot.Step("give the network adapter its addresses", attempts=1,
                             powershell=lines)] if lines else []
    files, install = guest_agent.plan(reader, system.hive, root, selection.agent)
    return (*files, *first_boot.plan(reader, system, root, [*steps, *install])), warnings
