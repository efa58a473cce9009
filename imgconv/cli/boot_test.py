"""`imgconv boot-test`: boot a guest, and tell what became of it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from imgconv.cli import console, options, show
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption
from imgconv.cli.progress import bar
from imgconv.cli.text import one_line
from imgconv.errors import NotProven
from imgconv.model import BootEvidence, Bus, Machine, Options, Verdict

PHASES = ("open", "launch", "inspect", "plan", "verify")


class BusName(StrEnum):
    """What `--bus` takes."""

    IDE = "ide"
    SATA = "sata"
    VIRTIO = "virtio"
    VIRTIO_SCSI = "virtio-scsi"


_BUSES = {BusName.IDE: Bus.IDE, BusName.SATA: Bus.SATA, BusName.VIRTIO: Bus.VIRTIO_BLK,
          BusName.VIRTIO_SCSI: Bus.VIRTIO_SCSI}


def register(app: typer.Typer) -> None:
    app.command("boot-test", epilog=console.examples(
        "imgconv boot-test disk.qcow2",
        "imgconv boot-test disk.qcow2 --bus virtio --bus sata",
        "imgconv boot-test windows.qcow2 --memory 8192 --timeout 1800"))(boot_test)


def boot_test(
    disks: options.DisksOrSource = None, source: options.Source = None, *,
    bus: Annotated[list[BusName], typer.Option(
        "--bus", help="What the disks shall hang on; repeatable.",
        show_default="virtio if it is proven to boot from it, else the old one")] = [],  # noqa: B006
    timeout: options.BootTimeout = None,
    screenshot: Annotated[Path | None, typer.Option(
        "--screenshot", metavar="DIR", file_okay=False, exists=True,
        help="Where the picture of the screen goes.", show_default="beside the disk")] = None,
    memory: options.Memory = None, cpus: options.Cpus = None,
    input_format: options.InputFormat = None,
    allow_external_files: options.AllowExternalFiles = False, root: options.Root = None,
    as_json: JsonOption = False, verbose: VerboseOption = False, log_file: LogFileOption = None,
) -> None:
    """Boot a guest as it is, without a window, and tell whether it came up.

    It runs on throw-away overlays and an isolated network: the disks stay as they are. Its serial
    console, its screen, its disks and its network are watched, so a guest that says nothing on a
    serial port is judged as well. The status is 4 unless it booted (from every --bus).
    """
    from imgconv import pipeline
    from imgconv.boot import here
    from imgconv.disk import overlay

    job = pipeline.Job(tuple(disks or ()), Options(root=root), source=source, memory=memory,
                       cpus=cpus, input_format=input_format,
                       allow_external_files=allow_external_files)
    buses = tuple(_BUSES[name] for name in bus)
    found: list[BootEvidence] = []
    with ExitStack() as stack:
        files = stack.enter_context(overlay.workspace())
        with bar(PHASES, shown=not as_json) as progress:
            job = stack.enter_context(pipeline.described(job, progress, unpack=True))
            beside = job.source
            job = replace(job, source=None)  # all that it says has been taken from it
            fitting = pipeline.fitting_machine(job, progress, files)
        workspace = stack.enter_context(pipeline.held(job))
        folder = screenshot or here.beside(beside or fitting.disks[0].path)
        for virtual in pipeline.on_buses(fitting, buses):
            with _live(virtual, here.limit(virtual, timeout), shown=not as_json) as (line, look):
                found.append(here.boot(
                    virtual, workspace=workspace, timeout=timeout, on_line=line, on_look=look,
                    screenshot=folder / here.picture_name(virtual)))
            if not as_json:
                show.boot(found[-1])
    booted = all(evidence.verdict is Verdict.BOOTED for evidence in found)
    if as_json:
        console.print_json({"booted": booted, "boots": found})
    if not booted:
        raise typer.Exit(NotProven.exit_code)


@contextmanager
def _live(machine: Machine, limit: float, *, shown: bool
          ) -> Iterator[tuple[Callable[[str], None], Callable[[float], None]]]:
    """A bar over the time that there is, with the last line of the serial console."""
    with tqdm(total=limit, disable=not shown or not sys.stderr.isatty(), leave=False,
              bar_format="booting from " + machine.bus
                         + " {bar:20} {elapsed} (at most {total:.0f} s) {postfix}") as meter:
        def line(text: str) -> None:
            meter.set_postfix_str(one_line(text)[:60])

        def look(seconds: float) -> None:
            meter.n = min(seconds, limit)
            meter.refresh()

        yield line, look
