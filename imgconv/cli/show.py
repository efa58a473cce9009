"""Showing plans, findings and reports to people, and as JSON."""

from __future__ import annotations

import difflib
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from imgconv.cli.console import sanitize, say, stderr
from imgconv.model import (
    AppendFile,
    Change,
    Finding,
    Level,
    Plan,
    Report,
    RunInGuest,
    WriteFile,
)

_STYLES = {Level.PROVEN: "green", Level.WARNING: "yellow", Level.FAILED: "bold red"}


def diff(change: WriteFile) -> list[str]:
    """The unified diff of a file's change, without line ends."""
    before = (change.before or b"").decode("utf-8", "backslashreplace").splitlines()
    after = change.content.decode("utf-8", "backslashreplace").splitlines()
    old = "/dev/null" if change.before is None else f"a{change.path}"
    return list(difflib.unified_diff(before, after, old, f"b{change.path}", lineterm=""))


def _headline(change: Change) -> str:
    match change:
        case WriteFile():
            return f"edit {change.path}" if change.before is not None else f"write {change.path}"
        case AppendFile():
            return f"append {len(change.content):,} bytes to {change.path}"
        case RunInGuest():
            return f"run in the guest: {' '.join(change.argv)}"


def plan(report: Report) -> None:
    """The plan in full, on stdout, because it is what --dry-run was asked for."""
    assert report.plan is not None
    lines: list[str] = []
    for change in report.plan.changes:
        lines += [f"# {_headline(change)}", f"#   {change.why}"]
        match change:
            case WriteFile():
                lines += diff(change)
            case AppendFile():
                lines += [f"#   + {name}" for name in change.summary]
            case RunInGuest():
                pass
        lines.append("")
    lines += [f"# warning: {warning}" for warning in report.plan.warnings]
    if not report.plan.changes:
        lines.append("# nothing to do: this guest is ready")
    # To a pipe or file go the guest's own bytes as text; a terminal must not be driven by them.
    print(sanitize("\n".join(lines)))
    sys.stdout.flush()


def summary(report: Report, *, bootable: bool = True, undoable: bool = True) -> None:
    """What was done and why, what was proven, and (`bootable`, `undoable`) how to boot the result
    and how to undo it."""
    assert report.plan is not None
    assert report.inspection is not None
    system = report.inspection.os
    say(f"{', '.join(str(image.path) for image in report.images)}: {system.product}, "
        f"{report.inspection.arch}, {report.inspection.firmware.upper()}")
    _changes(report.plan)
    findings(report.findings)
    took = f" ({sum(report.seconds.values()):.0f} s)"
    if not report.proven:
        say("not proven, so nothing was committed: the disk is as it was" + took,
            label="✘ ", style="bold red")
        return
    if not report.plan.changes:
        say(("nothing to do: the disk is ready as it is" if report.plan.capabilities.block.is_virtio
             else "nothing to do: the disk stays as it is") + took, label="✔ ", style="bold green")
    else:
        in_place = not report.outputs or report.outputs[0] in [i.path for i in report.images]
        say(("committed" if in_place else "the copy is written") + took,
            label="✔ ", style="bold green")
    machine(report, bootable=bootable)
    if report.plan.changes and in_place and bootable and undoable:
        say(f"undo it:  imgconv undo {shlex.quote(str(report.images[0].path))}")


def _changes(plan: Plan) -> None:
    for warning in plan.warnings:
        say(warning, label="warning: ", style="yellow")
    if plan.changes:
        say("\nchanges")
    for change in plan.changes:
        say(f"{_headline(change)}: {change.why}", label="  • ")


def findings(found: Sequence[Finding]) -> None:
    """Findings by subject; equal ones (three boot entries, say) are shown once."""
    for level, mark in ((Level.PROVEN, "✔"), (Level.WARNING, "!"), (Level.FAILED, "✘")):
        rows = dict.fromkeys((f.subject, f.message) for f in found if f.level is level)
        if rows:
            say(f"\n{level}")
        subject = ""
        for about, message in rows:
            if about != subject:
                say(f"  {about}")
                subject = about
            say(message, label=f"    {mark} ", style=_STYLES[level])
    say("")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stderr; its cells are the guest's words, so nothing in them is markup."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(*columns, box=None, pad_edge=False, show_header=any(columns), header_style="bold")
    for row in rows:
        grid.add_row(*(Text(sanitize(cell)) for cell in row))
    stderr().print(grid)
    say("")


def machine(report: Report, *, bootable: bool) -> None:
    for note in report.machine.notes if report.machine else ():
        say(note, label="note: ", style="yellow")
    for warning in report.warnings:
        say(warning, label="warning: ", style="yellow")
    scripts = [path for path in report.outputs if path.name.endswith(".qemu.sh")]
    if scripts and bootable:
        say(f"\nboot it:  {scripts[0]}")


def as_document(report: Report) -> dict[str, Any]:
    """The report as JSON data: contents of files appear as unified diffs."""
    document = {field.name: getattr(report, field.name) for field in fields(report)}
    if report.plan is not None:
        document["plan"] = {
            "changes": [_change(change) for change in report.plan.changes],
            "capabilities": report.plan.capabilities, "warnings": report.plan.warnings}
    return document | {"proven": report.proven}


def _change(change: Change) -> dict[str, Any]:
    match change:
        case WriteFile():
            return {"kind": "write", "path": change.path, "why": change.why, "diff": diff(change)}
        case AppendFile():
            return {"kind": "append", "path": change.path, "why": change.why,
                    "bytes": len(change.content), "adds": list(change.summary)}
        case RunInGuest():
            return {"kind": "run", "argv": list(change.argv), "why": change.why}
