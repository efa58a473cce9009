"""`imgconv virtio-ize`: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgconv.cli import console, options, show
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption
from imgconv.cli.progress import bar
from imgconv.emit import EMITTERS
from imgconv.errors import NotProven
from imgconv.model import Bus, InitramfsMode, Names, Options


def register(app: typer.Typer) -> None:
    app.command("virtio-ize", epilog=console.examples(
        "imgconv virtio-ize disk.qcow2",
        "imgconv virtio-ize disk.img --dry-run",
        "imgconv virtio-ize disk.vmdk -o new.qcow2",
        "imgconv virtio-ize windows.vhdx --drivers virtio-win.iso -o new.qcow2",
        "imgconv virtio-ize system.img data.img --names device",
        "imgconv virtio-ize --from guest.vmx -o converted/",
        "imgconv virtio-ize guest.ova -o converted/",
        "imgconv virtio-ize disk.img --net bridge=br0 --memory 4096 --cpus 4"))(virtio_ize)


def virtio_ize(
    disks: options.DisksOrSource = None,
    source: options.Source = None,
    output: Annotated[Path | None, typer.Option(
        "-o", "--output", metavar="PATH",
        help="Write a converted copy (for several disks: into this folder), and leave the source "
             "alone.")] = None,
    output_format: Annotated[str | None, typer.Option(
        "--format", metavar="FMT",
        help="The copy's format: qcow2, raw, vmdk, vhdx, vdi, vpc.",
        show_default="by the output's name, else qcow2")] = None,
    input_format: options.InputFormat = None,
    allow_external_files: options.AllowExternalFiles = False,
    dry_run: Annotated[bool, typer.Option(
        "--dry-run", help="Print the plan and stop.")] = False,
    initramfs: Annotated[InitramfsMode, typer.Option(
        "--initramfs", help="Append the drivers to the initramfs (splice), have the guest's own "
                            "tool build it anew (rebuild), or whichever works.")
    ] = InitramfsMode.AUTO,
    names: options.NamesOption = Names.UUID,
    block: options.Block = "virtio-blk",
    drivers: options.Drivers = None,
    discard_hibernation: Annotated[bool, typer.Option(
        "--discard-hibernation",
        help="Give up the session that a hibernated Windows would resume (Fast Startup leaves one, "
             "too); what was not saved in it is lost.")] = False,
    root: options.Root = None,
    emit: Annotated[list[str], typer.Option(
        "--emit", metavar="NAME", help="What to write besides the QEMU command: "
                                       + ", ".join(e.NAME for e in EMITTERS) + "; repeatable."
    )] = ["qemu"],  # noqa: B006  Typer copies it
    net: options.Net = "user",
    memory: options.Memory = None,
    cpus: options.Cpus = None,
    force: Annotated[bool, typer.Option(
        "--force", help="Replace an output that exists already.")] = False,
    no_undo: Annotated[bool, typer.Option(
        "--no-undo", help="Keep nothing for imgconv undo, which takes about twice the room of what "
                          "is changed.")] = False,
    state_dir: options.StateDir = None,
    as_json: JsonOption = False, verbose: VerboseOption = False, log_file: LogFileOption = None,
) -> None:
    """Make a guest boot from virtio, prove it, and write the QEMU command for it.

    Works in place by default. The disk is written only after everything is proven.
    """
    from imgconv import pipeline

    job = pipeline.Job(
        disks=tuple(disks or ()), source=source, output=output, output_format=output_format,
        input_format=input_format,
        options=Options(names=names, block=Bus(block), initramfs=initramfs, root=root,
                        drivers=drivers, discard_hibernation=discard_hibernation),
        allow_external_files=allow_external_files, dry_run=dry_run, force=force, net=net,
        emit=tuple(dict.fromkeys(["qemu", *emit])), memory=memory, cpus=cpus,
        undo=not no_undo, state_dir=state_dir)
    with bar(pipeline.PHASES, shown=not as_json) as progress:
        report = pipeline.virtio_ize(job, progress)
    if as_json:
        console.print_json(show.as_document(report))
    elif dry_run:
        show.plan(report)
    else:
        show.summary(report, undoable=not no_undo)
    if not dry_run and not report.proven:
        raise typer.Exit(NotProven.exit_code)
