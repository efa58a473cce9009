"""`imgconv undo`: give a guest's disks back the content that they had before."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from imgconv.cli import console, options
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption, say
from imgconv.disk import undo as disk_undo


def register(app: typer.Typer) -> None:
    app.command(epilog=console.examples("imgconv undo disk.qcow2",
                                        "imgconv undo disk.img --force"))(undo)


def undo(disks: options.Disks,
         force: Annotated[bool, typer.Option(
             "--force", help="Undo even if the disk was changed since. Only what the conversion "
                             "wrote is restored, over everything newer: files that the guest has "
                             "changed since may be damaged.")] = False,
         state_dir: options.StateDir = None,
         allow_external_files: options.AllowExternalFiles = False, as_json: JsonOption = False,
         verbose: VerboseOption = False, log_file: LogFileOption = None) -> None:
    """Give a guest's disks back the content that they had before the last conversion.

    The result is compared with checksums. One disk is enough to name the guest: all its disks are
    restored together. A disk that was changed since (the guest has run) is refused. What an undo
    needs is in the folder .NAME.imgconv beside the disk or, where that cannot be written and for
    block devices, in ~/.local/state/imgconv.
    """
    done = disk_undo.undo(disks, force=force, allow_external_files=allow_external_files,
                          state_dir=state_dir)
    if as_json:
        console.print_json({"undone": done})
    elif done is None:
        say("nothing to undo", label="✔ ", style="bold green")
    else:
        when = datetime.fromisoformat(done.converted).strftime("%Y-%m-%d %H:%M:%S")
        say(f"{', '.join(map(str, done.disks))}: as before the conversion of {when}; "
            f"{done.ranges} ranges ({done.bytes / 2**20:.1f} MiB) restored and verified",
            label="✔ ", style="bold green")
        if done.left:
            say(f"{done.left} earlier conversion{'s' * (done.left > 1)} can still be undone",
                label="note: ", style="yellow")
        say("the QEMU command written beside the disk is for the converted guest; the one that "
            f"fits now: imgconv machine {done.disks[0]}", label="note: ", style="yellow")
