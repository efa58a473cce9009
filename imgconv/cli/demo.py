"""`imgconv demo`: build a legacy guest, convert it, boot it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from imgconv import boot, builder, pipeline
from imgconv.boot import here
from imgconv.cli import console, show
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption, say
from imgconv.cli.progress import bar
from imgconv.errors import NotProven
from imgconv.model import Machine

RECIPE = "legacy-bookworm"


def register(app: typer.Typer) -> None:
    app.command(epilog=console.examples("imgconv demo", "imgconv demo --keep ./demo"))(demo)


def demo(keep: Annotated[Path | None, typer.Option(
             "--keep", metavar="DIR", help="Keep the converted disk and its QEMU command there."
         )] = None,
         as_json: JsonOption = False, verbose: VerboseOption = False,
         log_file: LogFileOption = None) -> None:
    """Build a legacy Debian guest, convert it, and boot it on virtio: before and after.

    Takes some five minutes without KVM, of which one is for building the guest (once).
    """
    with _folder(keep) as folder:
        if not as_json:
            say("1. a legacy guest: Debian 12 on an IDE disk, root=/dev/sda1, swap on /dev/sda2, "
                "no virtio in its initramfs", style="bold")
        original = builder.build(builder.load_recipe(RECIPE),
                                 progress=lambda line: None if as_json else say(f"   {line}"))
        disk = folder / "demo.qcow2"
        shutil.copyfile(original, disk)
        if not as_json:
            say(f"\n2. imgconv virtio-ize {disk.name}", style="bold")
        with bar(pipeline.PHASES, shown=not as_json) as progress:
            report = pipeline.virtio_ize(pipeline.Job((disk,)), progress)
        if not as_json:
            show.summary(report, bootable=keep is not None)
        if report.machine is None:
            raise NotProven("the demo's own guest could not be proven")
        after = report.machine
        before = replace(after, disks=(replace(after.disks[0], path=original),))
        first = _boot("\n3. the guest as it was, on virtio", before, folder, quiet=as_json,
                      keep=keep is not None)
        second = _boot("4. the converted guest, on virtio", after, folder, quiet=as_json,
                      keep=keep is not None)
    shown = (first.verdict is boot.Verdict.NOT_BOOTED and second.verdict is boot.Verdict.BOOTED
             and second.root_device == "/dev/vda1" and second.swap_devices == ("/dev/vda2",))
    if as_json:
        console.print_json({"shown": shown, "report": show.as_document(report), "before": first,
                            "after": second})
    else:
        say("\nshown: it did not boot from virtio before, and does now"
            + ("" if keep else " (--keep DIR keeps it)") if shown else
            "\nthis host did not show what the demo is for; the lines above say what it saw",
            label="" if shown else "✘ ", style="bold green" if shown else "bold red")
    if not shown:
        raise typer.Exit(NotProven.exit_code)


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    with tempfile.TemporaryDirectory(prefix="imgconv-demo-") as name:
        yield Path(name)


def _boot(title: str, machine: Machine, folder: Path, *, quiet: bool,
          keep: bool) -> boot.BootEvidence:
    if not quiet:
        say(title, style="bold")
    evidence = here.boot(machine, workspace=folder,
                         screenshot=folder / f"{title.split('.')[0].strip()}-screen.png")
    if not quiet:
        show.boot(replace(evidence, screenshot=evidence.screenshot if keep else None))
    return evidence
