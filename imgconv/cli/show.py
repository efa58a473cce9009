"""Showing plans, findings and reports to people, and as JSON."""

from __future__ import annotations

import difflib
import hashlib
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from itertools import groupby, zip_longest
from typing import Any

from imgconv.cli.console import say, stderr
from imgconv.cli.text import one_line, sanitize
from imgconv.model import (
    AppendFile,
    Change,
    DeleteRegistryKey,
    Finding,
    Level,
    PatchDevice,
    Plan,
    RegistryValue,
    Report,
    RunInGuest,
    SetRegistry,
    WriteFile,
    target,
)
from imgconv.windows import registry

#: Files of more lines are not compared by difflib.
_LONG = 5000

#: More bytes of a registry value are not shown.
_LONGEST_VALUE = 256

_STYLES = {Level.PROVEN: "green", Level.WARNING: "yellow", Level.FAILED: "bold red"}


def _lines(content: bytes) -> list[str]:
    """Only "\\n" ends a line; what splitlines() takes for one besides is shown as an escape."""
    found = content.decode("utf-8", "backslashreplace").split("\n")
    return found[:-1] if not found[-1] else found


def diff(change: WriteFile) -> list[str]:
    """The unified diff of a file's change, without line ends."""
    old = "/dev/null" if change.before is None else f"a{change.path}"
    if b"\0" in change.content or b"\0" in (change.before or b""):
        was = "" if change.before is None else f", before {len(change.before):,} bytes"
        digest = hashlib.sha256(change.content).hexdigest()
        return [f"--- {one_line(old)}", f"+++ b{one_line(change.path)}",
                f"# binary, {len(change.content):,} bytes{was}, SHA-256 {digest}"]
    before, after = (_lines(content) for content in (change.before or b"", change.content))
    if len(before) + len(after) > _LONG:
        return [f"--- {one_line(old)}", f"+++ b{one_line(change.path)}",
                *_pairs(before, after)]
    return list(difflib.unified_diff(before, after, one_line(old), f"b{one_line(change.path)}",
                                     lineterm=""))


def _pairs(before: Sequence[str], after: Sequence[str]) -> Iterator[str]:
    """Lines that differ, one against one: a real diff would take time that grows with the square
    of their number. imgconv's edits keep the lines of a file that long where they are."""
    for number, (old, new) in enumerate(zip_longest(before, after), 1):
        if old != new:
            yield f"@@ -{number} +{number} @@"
            yield from ([f"-{old}"] if old is not None else [])
            yield from ([f"+{new}"] if new is not None else [])


def _headline(change: Change) -> str:
    match change:
        case WriteFile():
            verb = "write" if change.before is None else "edit"
            return f"{verb} {one_line(change.path)}"
        case AppendFile():
            return f"append {len(change.content):,} bytes to {one_line(change.path)}"
        case SetRegistry():
            return f"set registry key {one_line(target(change))}"
        case DeleteRegistryKey():
            return f"delete registry key {one_line(target(change))}"
        case PatchDevice():
            return f"patch {one_line(target(change))}"
        case RunInGuest():
            return f"run in the guest: {one_line(shlex.join(change.argv))}"


def registry_diff(change: SetRegistry | DeleteRegistryKey) -> list[str]:
    """The values before and after, as a .reg file writes them."""
    after = change.values if isinstance(change, SetRegistry) else ()
    key = one_line(target(change))
    return [f"{'-' if isinstance(change, DeleteRegistryKey) else ' '}[{key}]",
            *(f"-{_value(value)}" for value in change.before),
            *(f"+{_value(value)}" for value in after)]


def _value(value: RegistryValue) -> str:
    name = f'"{one_line(value.name)}"' if value.name else "@"
    match value.type:
        case registry.SZ:
            return f'{name}="{one_line(registry.string(value.data))}"'
        case registry.DWORD:
            return f"{name}=dword:{registry.integer(value.data):08x}"
        case registry.EXPAND_SZ:
            return f'{name}=expand:"{one_line(registry.string(value.data))}"'
        case registry.MULTI_SZ:
            words = ", ".join(f'"{one_line(s)}"' for s in registry.multi_string(value.data))
            return f"{name}=multi:{words}"
    kind = "hex" if value.type == registry.BINARY else f"hex({value.type:x})"
    return f"{name}={kind}:{value.data[:_LONGEST_VALUE].hex(',')}" + (
        ",..." if len(value.data) > _LONGEST_VALUE else "")


def plan(report: Report) -> None:
    """The plan in full, on stdout, because it is what --dry-run was asked for."""
    assert report.plan is not None
    lines: list[str] = []
    for change in report.plan.changes:
        lines += [f"# {_headline(change)}", f"#   {one_line(change.why)}"]
        match change:
            case WriteFile():
                lines += diff(change)
            case AppendFile():
                lines += [f"#   + {one_line(name)}" for name in change.summary]
            case SetRegistry() | DeleteRegistryKey():
                lines += registry_diff(change)
            case PatchDevice():
                lines += [f"-{change.before.hex(' ')}", f"+{change.after.hex(' ')}"]
            case RunInGuest():
                pass
        lines.append("")
    lines += [f"# warning: {one_line(warning)}" for warning in report.plan.warnings]
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
    paths = dict.fromkeys(str(image.path) for image in report.images)
    say(f"{', '.join(paths)}: {one_line(system.product)}, "
        f"{report.inspection.arch}, {report.inspection.firmware.upper()}")
    _changes(report.plan)
    findings(report.findings)
    took = f" ({sum(report.seconds.values()):.0f} s)"
    if not report.proven:
        say("not proven, so nothing was committed: the disk is as it was" + took,
            label="✘ ", style="bold red")
        return
    in_place = not report.outputs or report.outputs[0] in [i.path for i in report.images]
    if not in_place:
        outcome = "the copy is written"
    elif report.plan.changes:
        outcome = "committed"
    else:
        outcome = ("nothing to do: the disk "
                   + ("is ready" if report.plan.capabilities.block.is_virtio else "stays")
                   + " as it is")
    say(outcome + took, label="✔ ", style="bold green")
    machine(report, bootable=bootable)
    if report.plan.changes and in_place and bootable and undoable:
        say(f"undo it:  imgconv undo {shlex.quote(str(report.images[0].path))}")


def _changes(plan: Plan) -> None:
    for warning in plan.warnings:
        say(one_line(warning), label="warning: ", style="yellow")
    if plan.changes:
        say("\nchanges")
    for _, group in groupby(plan.changes, _kind):
        changes = list(group)
        say(f"{_headlines(changes)}: {one_line(changes[0].why)}", label="  • ")


def _kind(change: Change) -> tuple[object, ...]:
    """What changes have in common that follow each other and are one to people."""
    match change:
        case SetRegistry():
            return SetRegistry, change.hive, change.why
        case WriteFile() if change.before is None:
            return WriteFile, change.why
    return (id(change),)


def _headlines(changes: Sequence[Change]) -> str:
    if len(changes) == 1:
        return _headline(changes[0])
    if isinstance(changes[0], SetRegistry):
        hive = one_line(changes[0].hive.rpartition("/")[2])
        return f"set {len(changes)} registry keys of {hive}"
    return f"write {len(changes)} files"


def findings(found: Sequence[Finding]) -> None:
    """Findings by subject; equal ones (three boot entries, say) are shown once.

    A subject may have a part of its own behind a colon ("virtio-blk: Start").
    """
    for level, mark in ((Level.PROVEN, "✔"), (Level.WARNING, "!"), (Level.FAILED, "✘")):
        rows = dict.fromkeys((*f.subject.partition(": ")[::2], f.message)
                             for f in found if f.level is level)
        if rows:
            say(f"\n{level}")
        subject = ""
        for about, part, message in rows:
            if about != subject:
                say(f"  {one_line(about)}")
                subject = about
            say(one_line(f"{part}: {message}" if part else message), label=f"    {mark} ",
                style=_STYLES[level])
    say("")


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table on stderr; its cells are the guest's words, so nothing in them is markup."""
    from rich.table import Table
    from rich.text import Text

    grid = Table(*columns, box=None, pad_edge=False, show_header=any(columns), header_style="bold")
    for row in rows:
        grid.add_row(*(Text(one_line(cell)) for cell in row))
    stderr().print(grid)
    say("")


def machine(report: Report, *, bootable: bool) -> None:
    for note in report.machine.notes if report.machine else ():
        say(one_line(note), label="note: ", style="yellow")
    for warning in report.warnings:
        say(one_line(warning), label="warning: ", style="yellow")
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
        case SetRegistry() | DeleteRegistryKey():
            kind = "set-registry" if isinstance(change, SetRegistry) else "delete-registry-key"
            return {"kind": kind, "hive": change.hive, "key": change.key, "why": change.why,
                    "diff": registry_diff(change)}
        case PatchDevice():
            return {"kind": "patch-device", "device": change.device, "offset": change.offset,
                    "before": change.before.hex(), "after": change.after.hex(), "why": change.why}
        case RunInGuest():
            return {"kind": "run", "argv": list(change.argv), "why": change.why}
