"""`imgconv machine`: the virtual machine that fits a guest as it is now."""

from __future__ import annotations

from typing import Annotated

import typer

from imgconv import pipeline
from imgconv.cli import console, options
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption
from imgconv.cli.progress import bar
from imgconv.emit import EMITTERS, check_names, text
from imgconv.model import Bus, Options

PHASES = ("open", "launch", "inspect", "plan", "verify")


def register(app: typer.Typer) -> None:
    app.command(epilog=console.examples(
        "imgconv machine disk.qcow2",
        "imgconv machine --from guest.vmx converted/guest.qcow2",
        "imgconv machine disk.img --net bridge=br0"))(machine)


def machine(disks: options.DisksOrSource = None, source: options.Source = None,
            emit: Annotated[str, typer.Option("--emit", metavar="NAME",
                                              help="In which form: " + ", ".join(
                                                  e.NAME for e in EMITTERS))] = "qemu",
            block: options.Block = "virtio-blk", net: options.Net = "user",
            memory: options.Memory = None, cpus: options.Cpus = None,
            input_format: options.InputFormat = None,
            allow_external_files: options.AllowExternalFiles = False, root: options.Root = None,
            as_json: JsonOption = False, verbose: VerboseOption = False,
            log_file: LogFileOption = None) -> None:
    """Print the virtual machine that fits a guest as it is, converted or not.

    A guest that is not proven to boot from virtio gets the old bus. Nothing is changed.
    """
    check_names((emit,))
    job = pipeline.Job(tuple(disks or ()), Options(block=Bus(block), root=root), net=net,
                       source=source, memory=memory, cpus=cpus, input_format=input_format,
                       allow_external_files=allow_external_files)
    with bar(PHASES, shown=not as_json) as progress:
        virtual = pipeline.fitting_machine(job, progress)
    if as_json:
        console.print_json({"machine": virtual})
    else:
        print(text(virtual, emit), end="")
