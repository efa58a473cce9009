"""Prove, by reading the disk as it is now, that a Windows guest starts from its disk.

No Windows is run for it: `windows.boot_start` says how Windows finds and starts the drivers of its
disk, and every link of that chain is a finding. It shares nothing with what wrote the registry.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from imgconv.errors import CannotConvert, GuestFileMissing, HostileInput, ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.model import (
    Bus,
    Capabilities,
    DeleteRegistryKey,
    Finding,
    Inspection,
    Level,
    PatchDevice,
    Plan,
    RegistryValue,
    SetRegistry,
    WindowsOs,
    WriteFile,
    target,
)
from imgconv.verify import windows_loader
from imgconv.windows import (
    boot_match,
    boot_start,
    control_sets,
    devices,
    hive_check,
    hives,
    places,
)
from imgconv.windows.boot_start import Link
from imgconv.windows.devices import PciDevice
from imgconv.windows.inf import INF_LIMIT
from imgconv.windows.registry import HIVE_LIMIT, Hive
from imgconv.windows.versions import FIRST_DRIVER_DATABASE, of

#: The folders below one entry of DevicePath that are looked into.
_MOST_FOLDERS = 64
_MOST_INFS = 64


def verify(reader: Reader, inspection: Inspection, plan: Plan) -> tuple[Finding, ...]:
    """Every boot-critical fact of the disk, for the bus of `plan.capabilities`.

    `plan` also tells what was to be written: all of that must be there. Raises CannotConvert for
    a SYSTEM hive that says nothing, HostileInput for what exceeds a limit.
    """
    guest = _Guest(reader, inspection)
    findings = [*_hives(reader, guest, plan), *_written(reader, plan),
                *windows_loader.findings(reader, inspection)]
    if guest.system is None:
        return tuple(findings)
    system, bus = guest.system, plan.capabilities.block
    device = devices.controller(bus)
    chain = boot_start.explain(system, reader, guest.systemroot, guest.windows, device)
    findings += _findings(device.name, chain.links)
    findings += _findings("Windows", boot_start.stack(system, reader, guest.systemroot,
                                                      guest.windows))
    findings += _way_back(guest, reader, bus, system)
    findings += _claims(guest, reader, plan.capabilities, system)
    return tuple(findings)


def capabilities(reader: Reader, inspection: Inspection,
                 wanted: Bus = Bus.VIRTIO_BLK) -> Capabilities:
    """What the guest is proven able to drive now: `wanted` if its chain holds, else the first of
    virtio-blk, virtio-scsi, SATA and IDE whose chain does, with the reason.

    Raises CannotConvert when none does.
    """
    guest = _Guest(reader, inspection)
    if guest.system is None:
        raise CannotConvert("this Windows has no registry to read",
                            hint="look at it with `imgconv inspect`; the disk may be damaged")
    reason = ""
    for bus in dict.fromkeys((wanted, *Bus)):
        chain = boot_start.explain(guest.system, reader, guest.systemroot, guest.windows,
                                   devices.controller(bus))
        if chain.holds:
            net, rng, balloon = (
                _drives(guest, reader, guest.system, device)[0] is Level.PROVEN for device in (
                    devices.VIRTIO_NET, devices.VIRTIO_RNG, devices.VIRTIO_BALLOON))
            return Capabilities(bus, net, rng, balloon, _virtio_1_0(guest, guest.system, bus),
                                reason)
        broken = next(link for link in chain.links if link.level is Level.FAILED)
        reason = reason or f"Windows does not start from {bus}: {broken.message}"
    raise CannotConvert("this Windows has a working driver for no disk controller that there is",
                        hint="convert it with `imgconv virtio-ize`, which gives it one")


def proven(able_to: Capabilities, findings: Sequence[Finding]) -> Capabilities:
    """`able_to` without the devices for which `verify` has found no driver.

    So the machine of a conversion is the one that `capabilities` would have led to.
    """
    sure = {finding.subject for finding in findings if finding.level is Level.PROVEN}
    return replace(able_to, net=able_to.net and devices.VIRTIO_NET.name in sure,
                   rng=able_to.rng and devices.VIRTIO_RNG.name in sure,
                   balloon=able_to.balloon and devices.VIRTIO_BALLOON.name in sure)


def _virtio_1_0(guest: _Guest, system: Hive, bus: Bus) -> bool:
    """Whether the driver of the disk knows the modern device as well as the transitional one."""
    match = boot_match.find(system, control_sets.current(system), guest.windows,
                            devices.controller(bus, modern=True).as_device)
    return not match.failed or not bus.is_virtio


class _Guest:
    """A Windows guest's registry, as Windows would see it after starting."""

    def __init__(self, reader: Reader, inspection: Inspection) -> None:
        assert isinstance(inspection.os, WindowsOs)
        self.systemroot = inspection.os.systemroot
        self.windows = of(inspection)
        self.path = reader.find(f"{self.systemroot}/System32/config/SYSTEM")
        self.problem = "" if self.path is not None else "there is no SYSTEM hive"
        self.system: Hive | None = None
        try:
            if self.path is not None:
                self.system = hives.load(reader, self.path).hive
        except ImgconvError as error:
            self.problem = error.message

    def hive(self, reader: Reader, name: str) -> Hive | None:
        """Another hive, None where there is none that can be read."""
        path = reader.find(f"{self.systemroot}/System32/config/{name}")
        try:
            return hives.load(reader, path).hive if path is not None else None
        except ImgconvError:
            return None


def _findings(subject: str, links: tuple[Link, ...]) -> Iterator[Finding]:
    for link in links:
        yield Finding(link.level, f"{subject}: {link.name}", link.message, link.evidence)


# --- what was written -----------------------------------------------------------------------------


def _edited(plan: Plan) -> tuple[str, ...]:
    return tuple(dict.fromkeys(change.hive for change in plan.changes
                               if isinstance(change, SetRegistry | DeleteRegistryKey)))


def _hives(reader: Reader, guest: _Guest, plan: Plan) -> Iterator[Finding]:
    """Hives that were edited must be finished and whole; others may wait for their logs."""
    edited = _edited(plan)
    for path in dict.fromkeys((*((guest.path,) if guest.path else ()), *edited)):
        name = path.rpartition("/")[2]
        try:
            data = reader.read(path, HIVE_LIMIT)
        except GuestFileMissing:
            yield Finding(Level.FAILED, f"hive {name}", f"{path} does not exist")
            continue
        problems = hive_check.check(data) if path in edited else ()
        for problem in problems:
            yield Finding(Level.FAILED, f"hive {name}", problem, path)
        if path in edited and not problems:
            yield Finding(Level.PROVEN, f"hive {name}", "it is whole and finished",
                          f"{len(data):,} bytes")
    if guest.problem:
        yield Finding(Level.FAILED, "hive SYSTEM", guest.problem, guest.path or "")


def _written(reader: Reader, plan: Plan) -> Iterator[Finding]:
    """What was planned is there."""
    edited = _edited(plan)
    for path in edited:
        yield from _registry(reader, plan, path)
    files = {change.path: change for change in plan.changes if isinstance(change, WriteFile)}
    for path, change in files.items():
        if path in edited:
            continue
        if reader.size(path) != len(change.content) or reader.read(
                path, max(1, len(change.content))) != change.content:
            yield Finding(Level.FAILED, f"files: {path}", "it does not hold what was written to it")
        else:
            yield Finding(Level.PROVEN, f"files: {path}", "it holds what was written to it",
                          change.why)


    for patch in (change for change in plan.changes if isinstance(change, PatchDevice)):
        there = reader.read_device(patch.device, patch.offset, len(patch.after)) == patch.after
        yield Finding(Level.PROVEN if there else Level.FAILED, target(patch),
                      "it holds what was written to it" if there else
                      "it does not hold what was written to it", patch.why)


def _registry(reader: Reader, plan: Plan, path: str) -> Iterator[Finding]:
    name = path.rpartition("/")[2]
    try:
        hive = Hive(reader.read(path, HIVE_LIMIT))
        wrong = list(_wrong(hive, plan, path))
    except (HostileInput, GuestFileMissing) as error:
        yield Finding(Level.FAILED, f"hive {name}", error.message, path)
        return
    for what in wrong[:8]:
        yield Finding(Level.FAILED, f"hive {name}", "what was written is not there", what)
    if not wrong:
        yield Finding(Level.PROVEN, f"hive {name}", "all that was written is there", path)


def _wrong(hive: Hive, plan: Plan, path: str) -> Iterator[str]:
    wanted: dict[str, dict[str, RegistryValue]] = {}
    deleted: dict[str, None] = {}
    for change in plan.changes:
        match change:
            case SetRegistry() if change.hive == path:
                wanted.setdefault(change.key, {}).update(
                    {value.name.lower(): value for value in change.values})
                deleted.pop(change.key, None)
            case DeleteRegistryKey() if change.hive == path:
                below = change.key.lower() + "\\"
                wanted = {key: values for key, values in wanted.items()
                          if not (key.lower() + "\\").startswith(below)}
                deleted[change.key] = None
    for key, values in wanted.items():
        node = hive.key(key)
        there = {value.name.lower(): value for value in node.values()} if node is not None else {}
        if node is None:
            yield key
        for name, value in values.items():
            now = there.get(name)
            if now is None or (now.type, now.data) != (value.type, value.data):
                yield f"{key}: {value.name or '(default)'}"
    above = tuple(key.lower() + "\\" for key in wanted)
    for key in deleted:
        if hive.key(key) is not None and not any(
                name.startswith(key.lower() + "\\") for name in above):
            yield f"{key} ought to be gone"


# --- the other controllers and devices ------------------------------------------------------------


def _way_back(guest: _Guest, reader: Reader, bus: Bus, system: Hive) -> Iterator[Finding]:
    """The controllers without virtio: the guest must go on starting from what it has met."""
    known = {service.lower() for _, service in boot_start.installed_controllers(system)}
    for other in (Bus.SATA, Bus.IDE):
        if other is bus:
            continue
        device = devices.controller(other)
        chain = boot_start.explain(system, reader, guest.systemroot, guest.windows, device)
        if chain.holds:
            yield Finding(Level.PROVEN, f"way back: {device.name}",
                          "Windows also starts from this controller", chain.service)
            continue
        broken = [link for link in chain.links if link.level is Level.FAILED]
        used = chain.service.lower() in known
        yield Finding(Level.FAILED if used else Level.WARNING, f"way back: {device.name}",
                      "Windows does not start from this controller"
                      + (", though it has it in use" if used else ""),
                      "; ".join(f"{link.name}: {link.message}" for link in broken[:3]))
    for name, service in boot_start.installed_controllers(system):
        yield Finding(Level.PROVEN, f"way back: {name}", f"{service} still starts at boot")


def _claims(guest: _Guest, reader: Reader, able_to: Capabilities,
            system: Hive) -> Iterator[Finding]:
    """What else the machine gets. Windows starts without, so nothing here is a failure."""
    for claimed, device in ((able_to.net, devices.VIRTIO_NET), (able_to.rng, devices.VIRTIO_RNG),
                            (able_to.balloon, devices.VIRTIO_BALLOON)):
        if claimed:
            level, message, evidence = _drives(guest, reader, system, device)
            yield Finding(level, device.name, message, evidence)


def _drives(guest: _Guest, reader: Reader, system: Hive,
            device: PciDevice) -> tuple[Level, str, str]:
    """Whether Windows will find a driver for a device once it runs."""
    current = control_sets.current(system)
    plain = device.as_device
    if guest.windows.release < FIRST_DRIVER_DATABASE:
        return _by_path(guest, reader, device)
    problem = ""
    for database in (guest.hive(reader, "DRIVERS"), system):
        if database is None or database.key(boot_match.DATABASE) is None:
            continue
        match = boot_match.find(system, current, guest.windows, plain, database=database)
        problems = [link for link in match.links if link.level is Level.FAILED]
        if not problems:
            folder = f"{guest.systemroot}/{places.FILE_REPOSITORY}/{match.package}"
            found = reader.find(folder)
            endings = {name.lower().rpartition(".")[2] for name in reader.names(found)
                       } if found is not None else set()
            if {"inf", "sys", "cat"} <= endings:
                return Level.PROVEN, f"Windows finds the driver {match.service}", folder
            problem = f"{folder} lacks the driver's files"
        elif match.inf or not problem:
            problem = problems[0].message
    return Level.WARNING, "Windows has no driver ready for this device", problem


def _by_path(guest: _Guest, reader: Reader, device: PciDevice) -> tuple[Level, str, str]:
    """Windows 7 and older look through the INF files in the folders of DevicePath."""
    software = guest.hive(reader, "SOFTWARE")
    key = software.key("Microsoft\\Windows\\CurrentVersion") if software is not None else None
    value = key.text("DevicePath") if key is not None else None
    wanted = device.hardware_ids[0].partition("&SUBSYS")[0].lower()
    for entry in (value or "").split(";"):
        path = entry.strip().replace("\\", "/").rstrip("/")
        folder = path.lower().removeprefix("%systemroot%/")
        # Windows' own folder has thousands, none of them for virtio.
        if folder == path.lower() or folder in ("inf", ""):
            continue
        for name in _infs(reader, f"{guest.systemroot}/{folder}"):
            text = reader.read(name, INF_LIMIT)
            plain = text.decode("utf-16", "replace") if text[:2] in (b"\xff\xfe", b"\xfe\xff") \
                else text.decode("latin-1")
            stem = name.rpartition("/")[2].rpartition(".")[0].lower()
            siblings = {s.lower() for s in reader.names(name.rpartition("/")[0])}
            if wanted in plain.lower() and {f"{stem}.sys", f"{stem}.cat"} <= siblings:
                return Level.PROVEN, "Windows finds the driver in DevicePath", name
    return Level.WARNING, "Windows has no driver ready for this device", value or "no DevicePath"


def _infs(reader: Reader, folder: str) -> Iterator[str]:
    top = reader.find(folder)
    if top is None:
        return
    names = reader.names(top)
    folders = [top, *(f"{top}/{name}" for name in names if reader.is_dir(f"{top}/{name}"))]
    found = [f"{path}/{name}" for path in folders[:_MOST_FOLDERS] for name in reader.names(path)
             if name.lower().endswith(".inf")]
    yield from found[:_MOST_INFS]
