"""`imgconv verify`: prove, without changing anything, that a guest boots from virtio."""

from __future__ import annotations

import typer

from imgconv import pipeline
from imgconv.cli import console, options, show
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption, say
from imgconv.cli.progress import bar
from imgconv.errors import NotProven
from imgconv.model import Bus, Level, Options

PHASES = ("open", "launch", "inspect", "verify")


def register(app: typer.Typer) -> None:
    app.command(epilog=console.examples("imgconv verify disk.qcow2",
                                        "imgconv verify disk.img --block virtio-scsi"))(verify)


def verify(disks: options.Disks, block: options.Block = "virtio-blk",
           input_format: options.InputFormat = None,
           allow_external_files: options.AllowExternalFiles = False, root: options.Root = None,
           as_json: JsonOption = False, verbose: VerboseOption = False,
           log_file: LogFileOption = None) -> None:
    """Prove that a guest boots from virtio as it is. Nothing is changed.

    The status is 4 when it is not proven.
    """
    job = pipeline.Job(tuple(disks), Options(block=Bus(block), root=root),
                       input_format=input_format, allow_external_files=allow_external_files)
    with bar(PHASES, shown=not as_json) as progress, \
            pipeline.opened(job, progress) as (images, reader, inspection):
        progress("verify", 0.0)
        found = pipeline.proof(reader, inspection, job.options.block)
    proven = all(finding.level is not Level.FAILED for finding in found)
    if as_json:
        console.print_json({"images": images, "block": block, "proven": proven,
                            "findings": found})
    else:
        show.findings(found)
        say(f"proven: this guest boots from {block}" if proven else
            f"not proven: this guest may not boot from {block}; imgconv virtio-ize mends it",
            label="✔ " if proven else "✘ ", style="bold green" if proven else "bold red")
    if not proven:
        raise typer.Exit(NotProven.exit_code)
