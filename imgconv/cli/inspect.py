"""`imgconv inspect`: what is on a disk."""

from __future__ import annotations

import typer

from imgconv import pipeline
from imgconv.cli import console, options, show
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption, say
from imgconv.cli.progress import bar
from imgconv.errors import CannotConvert
from imgconv.linux.survey import Survey, survey
from imgconv.model import Image, Inspection, LinuxOs, Options

PHASES = ("open", "launch", "inspect")


def register(app: typer.Typer) -> None:
    app.command(epilog=console.examples("imgconv inspect disk.qcow2",
                                        "imgconv inspect disk.img --json"))(inspect)


def inspect(disks: options.Disks, input_format: options.InputFormat = None,
            allow_external_files: options.AllowExternalFiles = False, root: options.Root = None,
            as_json: JsonOption = False, verbose: VerboseOption = False,
            log_file: LogFileOption = None) -> None:
    """Show what is on a disk: system, kernels and their virtio drivers, initramfs, disk names."""
    job = pipeline.Job(tuple(disks), Options(root=root), input_format=input_format,
                       allow_external_files=allow_external_files)
    with bar(PHASES, shown=not as_json) as progress, \
            pipeline.opened(job, progress) as (images, reader, inspection):
        facts, obstacle = None, ""
        if isinstance(inspection.os, LinuxOs):
            try:
                facts = survey(reader, inspection)
            except CannotConvert as error:
                obstacle = error.message
    if as_json:
        console.print_json({"images": images, "inspection": inspection, "linux": facts,
                            "obstacle": obstacle or None})
        return
    _print_guest(images, inspection)
    if facts is not None:
        _print_linux(facts)
    if obstacle:
        say(obstacle, label="warning: ", style="yellow")


def _print_guest(images: tuple[Image, ...], inspection: Inspection) -> None:
    system = inspection.os
    version = f" ({system.distro} {system.version})" if isinstance(system, LinuxOs) else ""
    mounts = {mount.device: mount.path for mount in inspection.mounts}
    show.table(("", ""), [
        *(("disk", f"{image.path} ({image.format}, {image.virtual_size / 2**30:.1f} GiB)")
          for image in images),
        ("system", f"{system.product}{version}, {inspection.arch}"),
        ("firmware", inspection.firmware.upper()),
    ])
    show.table(("device", "type", "UUID", "label", "mounted at"), [
        (f.device, f.type, f.uuid, f.label, mounts.get(f.device, ""))
        for f in inspection.filesystems])


def _print_linux(facts: Survey) -> None:
    show.table(("", ""), [("boot loader", facts.boot_loader),
                          ("initramfs tool", facts.initramfs_tool)])
    show.table(("kernel", *facts.kernels[0].drivers), [
        (kernel.release + (" (default)" if kernel.default else ""), *kernel.drivers.values())
        for kernel in facts.kernels])
    for kernel in facts.kernels:
        if kernel.initramfs is not None:
            ram = kernel.initramfs
            show.table((f"{ram.path} ({ram.size / 2**20:.1f} MiB, {' + '.join(ram.members)})", ""),
                       [(ram.problem, "")] if ram.problem else
                       [(name, problem or "complete, and loaded")
                        for name, problem in ram.drivers.items()])
    show.table(("disks are named in", "as"), facts.names)
