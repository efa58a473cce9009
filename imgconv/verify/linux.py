"""Prove, by reading the disk as it is now, that a Linux guest finds its disks on the new bus."""

from __future__ import annotations

from collections.abc import Iterator

from imgconv import linux
from imgconv.errors import HostileInput
from imgconv.guest.protocols import Reader
from imgconv.linux import cmdline, crypttab, fstab, initramfs, kernels
from imgconv.linux.device_names import Renamer, parse
from imgconv.linux.initramfs import check
from imgconv.linux.kernels import Kernel
from imgconv.model import (
    Finding,
    Inspection,
    Level,
    Names,
    Options,
    Plan,
    RunInGuest,
    WriteFile,
)

_TAGGED = ("UUID=", "LABEL=", "PARTUUID=", "/dev/disk/by-")


def verify(reader: Reader, inspection: Inspection, plan: Plan) -> tuple[Finding, ...]:
    """Every boot-critical fact of the disk, for the bus of `plan.capabilities`.

    `plan` also tells what was there before: a name that never resolved is a warning, one that
    imgconv wrote is a failure. Raises CannotConvert as planning does.
    """
    bus = plan.capabilities.block
    # By device name: this renamer changes nothing that is right on the bus, by whatever name.
    renamer = Renamer.of(inspection, Names.DEVICE, bus)
    _, offered = linux.boot_chain(reader)
    findings: list[Finding] = []
    for kernel in offered:
        findings += _kernel(reader, inspection, renamer, kernel, default=kernel is offered[0])
    findings += _fstab(reader, renamer, plan)
    findings += _crypttab(reader, renamer)
    findings += _next_initramfs(reader, renamer, offered)
    return tuple(findings)


def planned_again(reader: Reader, inspection: Inspection, options: Options) -> Finding:
    """Planning again after applying must yield no change."""
    again = linux.plan(reader, inspection, options)
    left = sorted({" ".join(change.argv) if isinstance(change, RunInGuest) else change.path
                   for change in again.changes})
    if left:
        return Finding(Level.FAILED, "plan", "planning again is not empty", ", ".join(left))
    return Finding(Level.PROVEN, "plan", "planning again yields no change")


def _kernel(reader: Reader, inspection: Inspection, renamer: Renamer, kernel: Kernel, *,
            default: bool) -> Iterator[Finding]:
    bus = renamer.bus
    subject = f"kernel {kernel.release}"
    if not kernel.can_drive(bus) and bus.is_virtio:
        yield Finding(Level.FAILED if default else Level.WARNING, subject,
                      f"it has no driver for {bus}", kernel.image)
        return
    if bus.is_virtio:
        yield from _initramfs(reader, inspection, renamer, kernel)
    for entry in kernel.entries:
        specs = cmdline.devices(entry.cmdline)
        roots = [spec for key, spec in specs if key == "root"]
        where = f"{entry.source}: {entry.title}"
        if not roots:
            yield Finding(Level.WARNING, subject, "no root= on its command line", where)
        for key, spec in specs:
            filesystem = renamer.resolves(spec)
            if key == "root" and filesystem is not None and _device(
                    filesystem.device) == _device(inspection.root):
                yield Finding(Level.PROVEN, subject, f"root={spec} is the guest's root", where)
            elif key == "resume" and filesystem is not None:
                yield Finding(Level.PROVEN, subject, f"resume={spec} is there", where)
            elif key == "resume" and parse(spec) is None:
                yield Finding(Level.WARNING, subject, f"resume={spec} is on no given disk", where)
            else:
                yield Finding(Level.FAILED, subject, f"{key}={spec} does not lead to "
                              f"{inspection.root if key == 'root' else 'a device'} on {bus}", where)


def _device(name: str) -> str:
    """libguestfs names btrfs subvolumes btrfsvol:/dev/sda2/@; the device is what counts here."""
    return "/".join(name.removeprefix("btrfsvol:").split("/")[:3]) if name.startswith(
        "btrfsvol:") else name


def _initramfs(reader: Reader, inspection: Inspection, renamer: Renamer,
               kernel: Kernel) -> Iterator[Finding]:
    if kernel.initramfs is None:
        yield Finding(Level.PROVEN, f"kernel {kernel.release}",
                      f"boots without initramfs and has the drivers for {renamer.bus} built in")
        return
    subject = f"initramfs {kernel.initramfs}"
    tool = initramfs.detect(reader)
    if tool is None:
        yield Finding(Level.FAILED, subject, "was made by no tool that imgconv knows")
        return
    try:
        content = initramfs.read(reader, kernel.initramfs)
    except HostileInput as error:
        yield Finding(Level.FAILED, subject, error.message)
        return
    for result in (check.drivers(content, kernel.tree, inspection.arch,
                                 kernels.DRIVERS[renamer.bus], tool),
                   check.names(content, renamer, tool)):
        for problem in result.problems:
            yield Finding(Level.FAILED, subject, problem)
        for fact in result.evidence:
            yield Finding(Level.PROVEN, subject, fact, " + ".join(m.kind for m in content.members))


def _before(plan: Plan, path: str) -> str | None:
    """What `path` held before the plan, None when the plan does not touch it."""
    for change in plan.changes:
        if isinstance(change, WriteFile) and change.path == path:
            return (change.before or b"").decode("utf-8", "surrogateescape")
    return None


def _fstab(reader: Reader, renamer: Renamer, plan: Plan) -> Iterator[Finding]:
    before = _before(plan, fstab.PATH)
    for line in fstab.lines(reader):
        bus_name = parse(line.spec) is not None
        if fstab.is_removable(line) or not (bus_name or line.spec.startswith(_TAGGED)):
            continue
        filesystem = renamer.resolves(line.spec)
        evidence = f"{line.path} {line.type}"
        if filesystem is None:
            inherited = not bus_name and (before is None or line.spec in before.split())
            level = Level.WARNING if line.optional or inherited else Level.FAILED
            yield Finding(level, fstab.PATH, f"{line.spec} is on none of the given disks, "
                          f"as they are named on {renamer.bus}", evidence)
        elif line.type == "swap" and filesystem.type not in ("swap", "swsuspend"):
            yield Finding(Level.WARNING, fstab.PATH, f"{line.spec} is no swap but "
                          f"{filesystem.type or 'empty'}", evidence)
        else:
            yield Finding(Level.PROVEN, fstab.PATH, f"{line.spec} is there", evidence)


def _crypttab(reader: Reader, renamer: Renamer) -> Iterator[Finding]:
    for spec in crypttab.specs(reader):
        if parse(spec) is None and not spec.startswith(_TAGGED):
            continue
        if renamer.resolves(spec) is not None:
            yield Finding(Level.PROVEN, crypttab.PATH, f"{spec} is there")
        else:
            yield Finding(Level.FAILED if parse(spec) else Level.WARNING, crypttab.PATH,
                          f"{spec} is on none of the given disks")


def _next_initramfs(reader: Reader, renamer: Renamer,
                    offered: tuple[Kernel, ...]) -> Iterator[Finding]:
    tool = initramfs.detect(reader)
    if tool is None or not renamer.bus.is_virtio:
        return
    drivers = [name for name in kernels.DRIVERS[renamer.bus]
               if any(kernel.tree.state(name) == "module" for kernel in offered)]
    left = tool.persist(reader, renamer, drivers)
    if left:
        yield Finding(Level.FAILED, tool.NAME, "the guest's next initramfs would lose the drivers",
                      ", ".join(change.path for change in left))
    else:
        yield Finding(Level.PROVEN, tool.NAME, "the guest's next initramfs keeps the drivers",
                      ", ".join(drivers))
