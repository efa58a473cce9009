"""The phases of a conversion. READ SECOND.

open -> inspect -> plan -> apply -> verify -> commit -> emit, served by one appliance.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from imgconv import emit, host, linux, machine, osinfo, source, windows
from imgconv.boot import here
from imgconv.disk import commit, formats, lock, overlay, recovery
from imgconv.errors import ImgconvError, UsageError
from imgconv.guest import appliance, windows_volumes
from imgconv.guest.cached import Cached
from imgconv.guest.inspection import inspect
from imgconv.guest.protocols import Guest, Reader
from imgconv.linux import direct_boot
from imgconv.model import (
    AppendFile,
    Bus,
    Capabilities,
    DeleteRegistryKey,
    Disk,
    Finding,
    Hardware,
    Image,
    Inspection,
    Level,
    Machine,
    Names,
    Options,
    PatchDevice,
    Plan,
    Report,
    RunInGuest,
    SetRegistry,
    WindowsOs,
    WriteFile,
    target,
)
from imgconv.verify import linux as verify_linux
from imgconv.verify import way_back
from imgconv.verify import windows as verify_windows

#: "boot" only happens in a boot test.
PHASES = ("open", "launch", "inspect", "plan", "apply", "verify", "commit", "emit")

#: Told the phase that has begun, and, where it is known, the fraction of it that is done (0..1).
Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Job:
    """One guest to convert: `disks` in order; `output` None means in place.

    `output` is a file for one disk and an existing folder for several. `net`, `memory` (MiB) and
    `cpus` are for the machine; `force` replaces an existing output; `emit` names emitters.
    `undo` keeps what an undo needs; `state_dir` says where, when it is not beside the disk.
    `source` is a description of the machine that the disks come from, which names them where
    `disks` is empty; an appliance (OVA) as the one disk is such a description. `described` fills
    in `hardware` and `formats` (QEMU's names, in the disks' order, "" for unknown) from it.
    `boot_test` boots the result, for at most `boot_timeout` seconds, before it is committed.
    `prepare` is for a guest that goes on running where it is: both buses must be proven.
    """

    disks: tuple[Path, ...]
    options: Options = field(default_factory=Options)
    output: Path | None = None
    output_format: str | None = None
    input_format: str | None = None
    allow_external_files: bool = False
    dry_run: bool = False
    force: bool = False
    emit: tuple[str, ...] = ("qemu",)
    net: str = "user"
    memory: int | None = None
    cpus: int | None = None
    undo: bool = True
    state_dir: Path | None = None
    source: Path | None = None
    hardware: Hardware | None = None
    formats: tuple[str, ...] = ()
    boot_test: bool = False
    boot_timeout: float | None = None
    prepare: bool = False

    @property
    def phases(self) -> tuple[str, ...]:
        """What `virtio_ize` goes through."""
        before = PHASES.index("commit")
        return (*PHASES[:before], *(("boot",) if self.boot_test else ()), *PHASES[before:])

    @property
    def writes_sources(self) -> bool:
        """Whether the disks themselves are written, if all goes well."""
        return self.output is None and not self.dry_run


def virtio_ize(job: Job, progress: Progress = lambda phase, fraction: None) -> Report:
    """Convert one guest. The sources are untouched until everything is proven.

    Returns the report, whose `proven` says whether the result was committed (a dry run never is).
    Raises ImgconvError; then the sources are as they were.
    """
    emit.check_names(job.emit)
    machine.check(job.net, job.memory, job.cpus)
    check(job)
    with described(job, progress, unpack=not job.writes_sources) as found:
        report = _converted(found, progress)
    # The disks that were unpacked from an appliance are gone by now.
    return replace(report, images=tuple(
        image if image.path.exists() else replace(image, path=found.source or image.path)
        for image in report.images))


def _converted(job: Job, progress: Progress) -> Report:
    clock = _Clock(progress)
    with clock.phase("open"):
        images = open_images(job, writable=job.writes_sources)
        outputs = _outputs(job, images)
        if job.output is not None and not job.dry_run:
            for image, (path, fmt) in zip(images, outputs, strict=True):
                commit.check_output(image, path, fmt, force=job.force)
    with lock.locked(images, writable=job.writes_sources), \
            overlay.workspace() as workspace:
        fingerprints = [commit.fingerprint(image) for image in images]
        overlays = [overlay.create(image, workspace) for image in images]
        with clock.launched(overlays, writable=True) as guest:
            with clock.phase("inspect"):
                inspection = inspect(guest, job.options.root)
                resumed_no_more = _is_windows(inspection) and windows_volumes.prepare(
                    guest, inspection, discard_hibernation=job.options.discard_hibernation)
                guest.mount(inspection.mounts, writable=True)
            with clock.phase("plan"):
                plan = planned(Cached(guest), inspection, job.options)
            report = Report(images, inspection, plan, seconds=clock.seconds)
            if job.dry_run:
                return report
            with clock.phase("apply"):
                apply(guest, plan)
            with clock.phase("verify"):
                guest.reread(inspection.mounts)
                reader = Cached(guest)
                findings = verified(reader, inspection, job.options, plan)
                old = way_back.bus(reader, inspection) if job.prepare else None
                if old is not None:
                    findings += way_back.verify(reader, inspection, plan, old)
                direct = _direct(reader, inspection, plan.capabilities.block)
        report = replace(report, findings=findings)
        if not report.proven:
            return report
        # What the plan counts on need not be there: a driver that was kept may lack files.
        able_to = (verify_windows.proven(plan.capabilities, findings)
                   if _is_windows(inspection) else plan.capabilities)
        virtual = direct_boot.beside(_machine(job, inspection, able_to, tuple(
            Disk(path, fmt) for path, fmt in outputs)), direct)
        for name in job.emit:
            emit.text(virtual, name)  # what cannot be emitted is better known before the commit
        if job.boot_test:
            with clock.phase("boot"):
                booted = direct_boot.write(virtual, direct, workspace)
                report = replace(report, boots=here.boot_all(
                    on_buses(booted, [virtual.bus, *([old] if old is not None else [])]),
                    overlays, workspace, job.boot_timeout, clock.fraction("boot")))
            if not report.proven:
                return report
        with clock.phase("commit"):
            if job.output is not None:
                for layer, (path, fmt) in zip(overlays, outputs, strict=True):
                    commit.export(layer, path, fmt, clock.fraction("commit"), force=job.force)
            elif plan.changes or resumed_no_more:
                commit.commit(list(zip(images, overlays, strict=True)), fingerprints,
                              undo=job.undo, state_dir=job.state_dir)
    changed = bool(plan.changes or resumed_no_more)
    report = replace(report, machine=virtual, committed=changed or job.output is not None,
                     outputs=tuple(path for path, _ in outputs))
    with clock.phase("emit"):
        try:
            direct_boot.write(virtual, direct)
            return replace(report, outputs=(*report.outputs, *direct_boot.outputs(virtual),
                                            *emit.write_all(virtual, job.emit)))
        except (ImgconvError, OSError) as error:
            # The disk is converted, so this is no failure of the conversion any more.
            return replace(report, warnings=(
                f"the command for the machine could not be written ({error}); "
                "imgconv machine DISK prints it",))


def check(job: Job) -> None:
    """Raise UsageError for what contradicts itself."""
    if job.prepare and job.options.names is Names.DEVICE:
        raise UsageError("with the new bus' device names the guest does not boot from the old one",
                         hint="--prepare needs --names uuid, the default")
    if job.boot_test and job.dry_run:
        raise UsageError("a dry run makes nothing that could be booted",
                         hint="leave out --boot-test or --dry-run")


def fitting_machine(job: Job, progress: Progress, files: Path | None = None) -> Machine:
    """The machine for the guest as it is now: on the old bus unless it is proven ready for the new.

    `files` is a folder for the kernel and the initramfs of a guest without boot loader; without one
    the machine names them where `virtio_ize` writes them.
    """
    with described(job, progress) as job, opened(job, progress) as (images, reader, inspection):
        progress("verify", 0.0)
        if _is_windows(inspection):
            capabilities = verify_windows.capabilities(reader, inspection, job.options.block)
        else:
            capabilities = linux.capabilities(reader, job.options.block)
            findings = verify_linux.verify(reader, inspection, Plan((), capabilities))
            failed = next((f for f in findings if f.level is Level.FAILED), None)
            if failed is not None:
                capabilities = replace(capabilities, block=linux.old_bus(reader),
                                       reason=f"{failed.subject}: {failed.message}")
        direct = _direct(reader, inspection, capabilities.block)
    disks = tuple(Disk(image.path, image.format) for image in images)
    virtual = _machine(job, inspection, capabilities, disks)
    if files is None:
        return direct_boot.beside(virtual, direct)
    return direct_boot.write(virtual, direct, files)


def _direct(reader: Reader, inspection: Inspection, bus: Bus) -> direct_boot.Files | None:
    return None if _is_windows(inspection) else direct_boot.read(reader, inspection, bus)


def on_buses(virtual: Machine, buses: Sequence[Bus]) -> tuple[Machine, ...]:
    """`virtual` for each of these buses; as it is, when there are none. Raises CannotConvert."""
    return tuple(machine.on_bus(virtual, bus) for bus in dict.fromkeys(buses)) or (virtual,)


@contextmanager
def held(job: Job) -> Iterator[Path]:
    """The disks of `job`, held so that nobody writes them; yields a folder for overlays."""
    with lock.locked(open_images(job, writable=False), writable=False), \
            overlay.workspace() as workspace:
        yield workspace


def _machine(job: Job, inspection: Inspection, capabilities: Capabilities,
             disks: tuple[Disk, ...]) -> Machine:
    name = job.hardware.name if job.hardware else ""
    return machine.choose(inspection, capabilities, disks, name=name or disks[0].path.name,
                          net=job.net, memory=job.memory, cpus=job.cpus,
                          localtime=capabilities.localtime, hardware=job.hardware,
                          facts=osinfo.lookup(inspection))


@contextmanager
def described(job: Job, progress: Progress, *, unpack: bool = False) -> Iterator[Job]:
    """`job` with what its description says; an appliance's disks are there while the block runs.

    `unpack` allows to write those of an appliance into a temporary folder. Raises ImgconvError.
    """
    if job.source is None:
        if len(job.disks) != 1 or job.input_format or not source.is_appliance(job.disks[0]):
            yield job
            return
        job = replace(job, source=job.disks[0], disks=())
    assert job.source is not None
    with source.given(job.source, job.disks, output=job.output, unpack=unpack,
                      allow_external_files=job.allow_external_files,
                      progress=lambda fraction: progress("open", fraction)) as (hardware, disks):
        yield replace(job, hardware=hardware, disks=tuple(disk.path for disk in disks),
                      formats=tuple(disk.format for disk in disks))


@contextmanager
def opened(job: Job, progress: Progress) -> Iterator[tuple[tuple[Image, ...], Reader, Inspection]]:
    """The guest of `job` mounted read-only, for the commands that only look."""
    clock = _Clock(progress)
    with clock.phase("open"):
        images = open_images(job, writable=False)
    with lock.locked(images, writable=False), clock.launched(images, writable=False) as guest:
        with clock.phase("inspect"):
            inspection = inspect(guest, job.options.root)
            guest.mount(inspection.mounts, writable=False)
        yield images, Cached(guest), inspection


def open_images(job: Job, *, writable: bool) -> tuple[Image, ...]:
    """Recognise the disks; what an interrupted imgconv has left half-written is completed first."""
    if not job.disks:
        raise UsageError("no disk was given", hint="give the guest's disks, or the description of "
                                                   "its machine: --from PATH")
    recovery.recover(job.disks, allow_external_files=job.allow_external_files,
                     state_dir=job.state_dir)
    told = job.formats or ("",) * len(job.disks)
    return tuple(formats.open_image(path, input_format=job.input_format or fmt or None,
                                    writable=writable,
                                    allow_external_files=job.allow_external_files)
                 for path, fmt in zip(job.disks, told, strict=True))


def planned(reader: Reader, inspection: Inspection, options: Options) -> Plan:
    """What to change. Raises CannotConvert."""
    plan = windows.plan if _is_windows(inspection) else linux.plan
    return plan(reader, inspection, options)


def _is_windows(inspection: Inspection) -> bool:
    return isinstance(inspection.os, WindowsOs)


def apply(guest: Guest, plan: Plan) -> None:
    """Carry the changes out: files, then each hive's edits together, then the guest's commands, and
    at last what needs everything unmounted."""
    hives: dict[str, list[SetRegistry | DeleteRegistryKey]] = {}
    guest.create([change for change in plan.changes
                  if isinstance(change, WriteFile) and change.before is None])
    for change in plan.changes:
        match change:
            case WriteFile() if change.before is not None:
                guest.write(change.path, change.content, change.mode)
            case AppendFile():
                guest.append(change.path, change.content)
            case SetRegistry() | DeleteRegistryKey():
                hives.setdefault(change.hive, []).append(change)
    for hive, edits in hives.items():
        guest.edit_registry(hive, edits)
    for change in plan.changes:
        if isinstance(change, RunInGuest):
            guest.run(change.argv)
    for change in plan.changes:
        if isinstance(change, PatchDevice):
            guest.patch_device(change)


def verified(reader: Reader, inspection: Inspection, options: Options,
             plan: Plan) -> tuple[Finding, ...]:
    """Everything proven, or not, of the guest as it is on the disk after `plan`."""
    return (*_verify(reader, inspection, plan), planned_again(reader, inspection, options))


def _verify(reader: Reader, inspection: Inspection, plan: Plan) -> tuple[Finding, ...]:
    verify = verify_windows.verify if _is_windows(inspection) else verify_linux.verify
    return verify(reader, inspection, plan)


def planned_again(reader: Reader, inspection: Inspection, options: Options) -> Finding:
    """Planning again after applying must yield no change."""
    left = sorted({target(change) for change in planned(reader, inspection, options).changes})
    if left:
        return Finding(Level.FAILED, "plan", "planning again is not empty", ", ".join(left))
    return Finding(Level.PROVEN, "plan", "planning again yields no change")


def proof(reader: Reader, inspection: Inspection, bus: Bus) -> tuple[Finding, ...]:
    """What is proven, or not, of a guest that nobody has just converted. Raises CannotConvert."""
    return _verify(reader, inspection, Plan((), Capabilities(bus)))


#: What the ending of an output's name says about its format, when --format does not.
_SUFFIXES = {".qcow2": "qcow2", ".raw": "raw", ".img": "raw", ".vmdk": "vmdk", ".vhdx": "vhdx",
             ".vdi": "vdi", ".vhd": "vpc", ".vpc": "vpc"}


def _outputs(job: Job, images: Sequence[Image]) -> list[tuple[Path, str]]:
    """Where each disk ends up, and in which format. Raises UsageError."""
    if job.output is None:
        if job.output_format is not None:
            raise UsageError("--format is the format of a copy",
                             hint="say where the copy goes: -o OUTPUT")
        return [(image.path, image.format) for image in images]
    if not job.output.is_dir():
        if len(images) > 1:
            raise UsageError(f"{len(images)} disks need a folder to be written to",
                             hint="make it, and give it as -o FOLDER")
        fmt = job.output_format or _SUFFIXES.get(job.output.suffix.lower(), "qcow2")
        return [(job.output, fmt)]
    fmt = job.output_format or "qcow2"
    suffix = next(ending for ending, name in _SUFFIXES.items() if name == fmt)
    return [(job.output / (image.path.stem + suffix), fmt) for image in images]


class _Clock:
    """Times the phases and passes them on to `progress`."""

    def __init__(self, progress: Progress) -> None:
        self.seconds: dict[str, float] = {}
        self._progress = progress

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self._progress(name, 0.0)
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start
        self._progress(name, 1.0)

    def fraction(self, name: str) -> Callable[[float], None]:
        return lambda fraction: self._progress(name, fraction)

    @contextmanager
    def launched(self, images: Sequence[Image], *, writable: bool) -> Iterator[appliance.Appliance]:
        kvm = host.kvm_usable().usable
        with ExitStack() as stack:
            with self.phase("launch"):
                guest = stack.enter_context(appliance.launch(
                    images, writable=writable, tcg=not kvm, progress=self.fraction("launch")))
            yield guest
