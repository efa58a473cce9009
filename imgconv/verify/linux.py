"""Prove, by reading the disk as it is now, that a Linux guest finds its disks on the new bus."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from imgconv import linux
from imgconv.errors import CannotConvert, GuestFileMissing, HostileInput
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import (
    bootloader,
    cmdline,
    configs,
    crypttab,
    esp,
    fstab,
    initramfs,
    kernels,
    places,
)
from imgconv.linux.bootloader import BootEntry, BootLoader
from imgconv.linux.config import Check, Verdict
from imgconv.linux.device_names import Renamer, hangs_on_bus
from imgconv.linux.initramfs import check
from imgconv.linux.inside import Inside
from imgconv.linux.kernels import Kernel
from imgconv.model import (
    Filesystem,
    Finding,
    Firmware,
    Inspection,
    Level,
    Names,
    Plan,
    WriteFile,
)

_SWAP = ("swap", "swsuspend")
#: By how a device is named here we cannot tell which it is; some of them change with the bus.
_UNCHECKED = ("ID=", "/dev/block/", "/dev/root", '"', "'")
_TAGGED = ("UUID=", "LABEL=", "PARTUUID=", "PARTLABEL=", "/dev/disk/by-")
#: Types of fstab that mean any filesystem, or the same one as others do.
_ANY_TYPE = ("auto", "none")
_SAME_TYPE = {"ext3": "ext4", "ext2": "ext4", "msdos": "vfat", "ntfs-3g": "ntfs", "ntfs3": "ntfs",
              "ext4dev": "ext4", "swsuspend": "swap"}


def verify(reader: Reader, inspection: Inspection, plan: Plan) -> tuple[Finding, ...]:
    """Every boot-critical fact of the disk, for the bus of `plan.capabilities`.

    `plan` also tells what was there before: a name that never resolved is a warning, one that
    imgconv wrote is a failure. Raises CannotConvert as planning does.
    """
    bus = plan.capabilities.block
    # By device name: this renamer changes nothing that is right on the bus, by whatever name.
    old_fstab = _before(plan, fstab.PATH) or read_text(reader, fstab.PATH) or ""
    renamer = Renamer.of(inspection, Names.DEVICE, bus,
                         places.of(old_fstab, inspection.filesystems))
    loader, offered = linux.boot_chain(reader)
    findings = [*_left_out(loader.entries(reader), offered), *_firmware(reader, inspection)]
    for kernel in offered:
        findings += _kernel(reader, inspection, renamer, plan, kernel,
                            default=kernel is offered[0])
    findings += _fstab(reader, inspection, renamer, plan)
    findings += _crypttab(reader, renamer, plan)
    # What only the guest's next update would break is no obstacle for a guest as it was found.
    level = Level.FAILED if plan.changes else Level.WARNING
    findings += [_finding(check, level) for check in configs.checks(reader, renamer)]
    findings += _other_loaders(reader, renamer, loader)
    findings += _next_initramfs(reader, renamer, offered, level)
    return tuple(findings)


def _left_out(entries: Sequence[BootEntry], offered: tuple[Kernel, ...]) -> Iterator[Finding]:
    """Entries that start no kernel that is installed: nothing can be said of them."""
    known = {entry for kernel in offered for entry in kernel.entries}
    for index, entry in enumerate(entries):
        # Other systems and memory testers have neither.
        linux_like = entry.initrds or "root=" in entry.cmdline
        if entry not in known and (linux_like or index == 0):
            yield Finding(Level.FAILED if index == 0 else Level.WARNING, entry.source,
                          f"{entry.title!r} starts no kernel that is installed with its modules",
                          entry.kernel)


def _firmware(reader: Reader, inspection: Inspection) -> Iterator[Finding]:
    """The new machine's UEFI knows none of the old one's boot entries, so it starts the fallback
    (UEFI specification 2.10, 3.5.1.1, "Removable Media Boot Behavior")."""
    if inspection.firmware is not Firmware.UEFI:
        return
    name = esp.fallback_name(inspection.arch)
    found = esp.fallback(reader, inspection.arch)
    if found is None:
        yield Finding(Level.FAILED, "UEFI", f"there is no \\EFI\\BOOT\\{name}, which a machine "
                      "without the old one's boot entries starts",
                      "grub-install --removable writes it")
    elif found.problem:
        yield Finding(Level.FAILED, "UEFI", f"{found.path}: {found.problem}")
    else:
        yield Finding(Level.PROVEN, "UEFI", f"{found.path} is there")


def _kernel(reader: Reader, inspection: Inspection, renamer: Renamer, plan: Plan, kernel: Kernel, *,
            default: bool) -> Iterator[Finding]:
    bus = renamer.bus
    subject = f"kernel {kernel.release}"
    if not kernel.can_drive(bus) and bus.is_virtio:
        yield Finding(Level.FAILED if default else Level.WARNING, subject,
                      f"it has no driver for {bus}", kernel.image)
        return
    if bus.is_virtio:
        yield from _initramfs(reader, inspection, renamer, kernel, default=default)
    for entry in kernel.entries:
        specs = cmdline.devices(entry.cmdline)
        roots = [spec for key, spec in specs if key == "root"]
        where = f"{entry.source}: {entry.title}"
        # What imgconv has written must be right; what it found need only not be worse than before.
        ours = Level.WARNING if _before(plan, entry.source) is None else Level.FAILED
        if not roots and entry.source == fstab.PATH:  # no boot loader: the machine says it
            yield Finding(Level.PROVEN, subject, "the machine names the root on its command line",
                          inspection.root)
        elif not roots:
            started = default and entry is kernel.entries[0]
            yield Finding(Level.FAILED if started else ours, subject,
                          "no root= on its command line", where)
        for key, spec in specs:
            filesystem = renamer.resolves(spec)
            if key == "root" and filesystem is not None and _device(
                    filesystem.device) == _device(inspection.root):
                if not kernel.initrds and spec.startswith(("UUID=", "LABEL=")):
                    yield Finding(Level.FAILED, subject, f"root={spec} means nothing to a kernel "
                                  "without initramfs", where)
                else:
                    yield Finding(Level.PROVEN, subject, f"root={spec} is the guest's root", where)
            elif key == "resume" and filesystem is not None:
                if filesystem.type in _SWAP or "resume_offset=" in entry.cmdline:
                    yield Finding(Level.PROVEN, subject, f"resume={spec} is there", where)
                else:
                    yield Finding(ours, subject, f"resume={spec} is no swap", where)
            elif key == "resume" and not hangs_on_bus(spec):
                yield Finding(Level.WARNING, subject, f"resume={spec} is on no given disk", where)
            elif key != "root" and filesystem is not None:
                yield Finding(Level.PROVEN, subject, f"{key}={spec} is there", where)
            else:
                yield Finding(Level.FAILED, subject, f"{key}={spec} does not lead to "
                              f"{inspection.root if key == 'root' else 'a device'} on {bus}", where)


def _device(name: str) -> str:
    """libguestfs names btrfs subvolumes btrfsvol:/dev/sda2/@; the device is what counts here."""
    return "/".join(name.removeprefix("btrfsvol:").split("/")[:3]) if name.startswith(
        "btrfsvol:") else name


def _initramfs(reader: Reader, inspection: Inspection, renamer: Renamer, kernel: Kernel, *,
               default: bool) -> Iterator[Finding]:
    if kernel.initramfs is None:
        yield Finding(Level.PROVEN, f"kernel {kernel.release}",
                      f"boots without initramfs and has the drivers for {renamer.bus} built in")
        return
    subject = f"initramfs {kernel.initramfs}"
    try:
        content = initramfs.read(reader, kernel.initrds)
    except GuestFileMissing:
        # An entry left over from a kernel that is gone has not booted before, either.
        yield Finding(Level.FAILED if default else Level.WARNING, subject, "does not exist")
        return
    except HostileInput as error:
        yield Finding(Level.FAILED, subject, error.message)
        return
    tool = initramfs.tool_of(reader, content)
    if tool is None:
        yield Finding(Level.FAILED, subject, "was made by no tool that imgconv knows")
        return
    for result in (check.drivers(content, kernel.tree, kernel.arch or inspection.arch,
                                 kernels.DRIVERS[renamer.bus], tool),
                   check.names(content, renamer, tool)):
        for problem in result.problems:
            yield Finding(Level.FAILED, subject, problem)
        for fact in result.evidence:
            yield Finding(Level.PROVEN, subject, fact, " + ".join(m.kind for m in content.members))
    # LVM and mdadm in there go by their own copies of their configuration.
    for found in configs.checks(Inside(content), renamer):
        if found.verdict in (Verdict.RIGHT, Verdict.WRONG):
            yield _finding(found, Level.WARNING, subject)


def _before(plan: Plan, path: str) -> str | None:
    """What `path` held before the plan, None when the plan does not touch it."""
    for change in plan.changes:
        if isinstance(change, WriteFile) and change.path == path:
            return (change.before or b"").decode("utf-8", "surrogateescape")
    return None


def _fstab(reader: Reader, inspection: Inspection, renamer: Renamer,
           plan: Plan) -> Iterator[Finding]:
    now = list(fstab.lines(reader))
    before = _before(plan, fstab.PATH)
    old = now if before is None else list(fstab.parse(before))
    if [(line.path, line.type, line.optional) for line in now] != [
            (line.path, line.type, line.optional) for line in old]:
        yield Finding(Level.FAILED, fstab.PATH, "more than the names of devices has changed")
        return
    mounted = {mount.path: mount.device for mount in inspection.mounts}
    for was, line in zip(old, now, strict=True):
        if fstab.is_removable(line):
            continue
        evidence = f"{line.path} {line.type}"
        for spec in line.devices:
            if hangs_on_bus(spec) and renamer.resolves(spec) is None:
                yield _not_there(fstab.PATH, renamer, spec, evidence, optional=line.optional)
        if not hangs_on_bus(line.spec) and not line.spec.startswith(_TAGGED):
            if line.spec.startswith(_UNCHECKED):
                yield Finding(Level.WARNING, fstab.PATH, f"{line.spec} is a kind of name that is "
                              "not checked", evidence)
            continue
        filesystem = renamer.resolves(line.spec)
        ours = line.spec != was.spec
        if filesystem is None:
            inherited = not hangs_on_bus(line.spec) and not ours
            yield _not_there(fstab.PATH, renamer, line.spec, evidence,
                             optional=line.optional or inherited)
        elif ours and not _same(filesystem, renamer.filesystem(was.spec),
                                mounted.get(line.path)):
            yield Finding(Level.FAILED, fstab.PATH, f"{line.spec} is {filesystem.device}, and not "
                          f"what {was.spec} was", evidence)
        elif ours and _other_type(line.type, filesystem):
            yield Finding(Level.FAILED, fstab.PATH, f"{line.spec} is {filesystem.type}, so it is "
                          f"not what {was.spec} was", evidence)
        elif line.type == "swap" and filesystem.type not in _SWAP:
            yield Finding(Level.WARNING, fstab.PATH, f"{line.spec} is no swap but "
                          f"{filesystem.type or 'empty'}", evidence)
        else:
            yield Finding(Level.PROVEN, fstab.PATH, f"{line.spec} is there", evidence)


def _other_type(wanted: str, filesystem: Filesystem) -> bool:
    """Whether fstab and blkid disagree on what it is: a witness that the right disk was named."""
    def plain(kind: str) -> str:
        return _SAME_TYPE.get(kind, kind)

    kinds = {plain(kind) for kind in wanted.split(",")}
    return bool(filesystem.type) and not kinds & {*_ANY_TYPE, plain(filesystem.type)}


def _same(now: Filesystem, before: Filesystem | None, mounted: str | None) -> bool:
    """Whether a name that was written means what its predecessor meant, and what inspection, which
    does not go by our reading of names, has mounted there."""
    return now == before and (mounted is None or _device(mounted) == _device(now.device))


def _not_there(path: str, renamer: Renamer, spec: str, evidence: str, *,
               optional: bool) -> Finding:
    return Finding(Level.WARNING if optional else Level.FAILED, path,
                   f"{spec} is on none of the given disks, as they are named on {renamer.bus}",
                   evidence)


def _crypttab(reader: Reader, renamer: Renamer, plan: Plan) -> Iterator[Finding]:
    now = list(crypttab.specs(reader))
    before = _before(plan, crypttab.PATH)
    old = now if before is None else list(crypttab.parse(before))
    if len(now) != len(old):
        yield Finding(Level.FAILED, crypttab.PATH, "more than the names of devices has changed")
        return
    for was, spec in zip(old, now, strict=True):
        if not hangs_on_bus(spec) and not spec.startswith(_TAGGED):
            continue
        filesystem = renamer.resolves(spec)
        if filesystem is None:
            yield _not_there(crypttab.PATH, renamer, spec, "",
                             optional=spec == was and not hangs_on_bus(spec))
        elif spec != was and filesystem != renamer.filesystem(was):
            yield Finding(Level.FAILED, crypttab.PATH, f"{spec} is {filesystem.device}, and not "
                          f"what {was} was")
        else:
            yield Finding(Level.PROVEN, crypttab.PATH, f"{spec} is there")


def _finding(check: Check, later: Level, subject: str = "") -> Finding:
    """`later` is how bad it is that only the guest's own next change breaks something."""
    level = {Verdict.RIGHT: Level.PROVEN, Verdict.WRONG: Level.FAILED, Verdict.LATER: later,
             Verdict.DOUBTFUL: Level.WARNING}[check.verdict]
    message = f"{check.path} in it: {check.message}" if subject else check.message
    return Finding(level, subject or check.path, message, check.evidence)


def _other_loaders(reader: Reader, renamer: Renamer, used: BootLoader) -> Iterator[Finding]:
    """Menus left over from another boot loader: nothing hangs on them, if we are right."""
    for loader in bootloader.found(reader):
        if loader is used:
            continue
        yield Finding(Level.WARNING, loader.NAME, "its configuration is there as well; "
                      f"{used.NAME} is taken for what starts the guest")
        try:
            entries = loader.entries(reader)
        except CannotConvert:
            continue
        for entry in entries:
            for key, spec in cmdline.devices(entry.cmdline):
                if renamer.resolves(spec) is None and hangs_on_bus(spec):
                    yield Finding(Level.WARNING, loader.NAME, f"{key}={spec} is no name on "
                                  f"{renamer.bus}", f"{entry.source}: {entry.title}")


def _next_initramfs(reader: Reader, renamer: Renamer, offered: tuple[Kernel, ...],
                    level: Level) -> Iterator[Finding]:
    if not renamer.bus.is_virtio:
        return
    drivers = kernels.modular_drivers(
        [kernel for kernel in offered if kernel.can_drive(renamer.bus)], renamer.bus)
    for tool in initramfs.installed(reader):
        left = tool.persist(reader, renamer, drivers)
        if left:
            yield Finding(level, tool.NAME, "the guest's next initramfs would lose the drivers",
                          ", ".join(change.path for change in left))
        else:
            yield Finding(Level.PROVEN, tool.NAME, "the guest's next initramfs keeps the drivers",
                          ", ".join(drivers))
