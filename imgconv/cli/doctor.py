"""`imgconv doctor`: what this host lacks, and the command that mends it."""

from __future__ import annotations

import typer

from imgconv.cli import console
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption
from imgconv.cli.text import sanitize
from imgconv.host import Check, Level, checks

STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.MISSING: "bold red"}


def register(app: typer.Typer) -> None:
    app.command(epilog=console.examples("imgconv doctor", "imgconv doctor --json"))(doctor)


def doctor(as_json: JsonOption = False, verbose: VerboseOption = False,
           log_file: LogFileOption = None) -> None:
    """Check what this host lacks, and show the command that mends it.

    The status is 1 when something is missing without which imgconv does not work.
    """
    found = checks()
    works = all(check.level is not Level.MISSING for check in found)
    if as_json:
        console.print_json({"works": works, "checks": found})
    else:
        _print_table(found)
        console.say("imgconv works on this host" if works else
                    "imgconv does not work on this host yet: the commands above mend it")
    raise typer.Exit(0 if works else 1)


def _print_table(found: tuple[Check, ...]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table("", "Check", "What was found", box=None)
    for check in found:
        table.add_row(Text(check.level, STYLES[check.level]), check.name,
                      Text(sanitize(check.detail)))
    console.stderr().print(table)
    # Commands stand below the table, which would break them in the middle.
    for check in found:
        if check.remedy:
            console.say(f"\n# {check.name}\n{check.remedy}")
    console.say("")
