"""`imgconv drivers`: the payloads with drivers for Windows guests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from imgconv.cli import console, show
from imgconv.cli.console import JsonOption, LogFileOption, VerboseOption, say
from imgconv.cli.text import one_line
from imgconv.errors import ImgconvError, UsageError
from imgconv.windows import payload_find, payload_import, payload_labels
from imgconv.windows.payload_labels import LABELS, Label
from imgconv.windows.versions import WindowsVersion
from imgconv.windows.virtio_win import (
    DriverPackage,
    Offer,
    Payload,
    Refusal,
    Selection,
    open_payload,
)

_ARCHES = ("amd64", "x86", "arm64")

PathArgument = Annotated[Path | None, typer.Argument(
    metavar="PATH", show_default=False,
    help="A virtio-win ISO or folder; without it, the one that is used when --drivers is not "
         "given.")]

commands = typer.Typer(no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="drivers", help="Show, check and import drivers for Windows.")


# --- list -----------------------------------------------------------------------------------------


@commands.command("list", epilog=console.examples(
    "imgconv drivers list", "imgconv drivers list virtio-win.iso --json"))
def list_(path: PathArgument = None, as_json: JsonOption = False, verbose: VerboseOption = False,
          log_file: LogFileOption = None) -> None:
    """Show which drivers there are, for which Windows and processors."""
    with open_payload(path) as payload:
        found = [_listed(payload, offer) for offer in payload.offers]
    if as_json:
        console.print_json({"payload": payload.path, "drivers": found})
        return
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for entry in sorted(found, key=lambda entry: str(entry["name"])):
        key = (entry["name"], entry["version"] or entry["problem"], entry["date"], entry["arch"])
        rows.setdefault(key, []).append(entry["windows"])
    show.table(("driver", "version", "date", "processor", "Windows"),
               [(*key, " ".join(sorted(set(names), key=_order))) for key, names in rows.items()])
    say(f"{payload.path}: {len(found)} packages of {len({entry['name'] for entry in found})} "
        "drivers")


def _listed(payload: Payload, offer: Offer) -> dict[str, Any]:
    entry = {"name": offer.name, "windows": offer.label.name if offer.label else "any",
             "arch": offer.arch or "any", "path": offer.path, "version": "", "date": "",
             "problem": ""}
    try:
        version = payload.version(offer, next(_versions(offer)))
    except ImgconvError as error:
        return entry | {"problem": error.message}
    return entry | {"version": ".".join(map(str, version.version)), "date": str(version.date)}


def _order(name: str) -> int:
    return next((place for place, label in enumerate(LABELS) if label.name == name), -1)


def _versions(offer: Offer) -> Iterator[WindowsVersion]:
    """The Windows versions that a package may be for, by its folder; the likeliest first."""
    labels: Sequence[Label] = (offer.label,) if offer.label else LABELS[::-1]
    for label, arch in product(labels, (offer.arch,) if offer.arch else _ARCHES):
        yield label.version(arch)


# --- check ----------------------------------------------------------------------------------------


@commands.command(epilog=console.examples(
    "imgconv drivers check", "imgconv drivers check virtio-win.iso --windows 10",
    "imgconv drivers check --windows 2008r2 --arch amd64"))
def check(path: PathArgument = None,
          windows: Annotated[str | None, typer.Option(
              "--windows", metavar="NAME",
              help="Check what this Windows would get: 7, 8.1, 10, 11, 2012r2, 2016...")] = None,
          arch: Annotated[str | None, typer.Option(
              "--arch", metavar="|".join(_ARCHES), show_default="with --windows amd64, else all",
              help="The Windows' processor.")] = None,
          as_json: JsonOption = False, verbose: VerboseOption = False,
          log_file: LogFileOption = None) -> None:
    """Check that drivers are complete, for the right processor, signed, and as they were signed.

    Without --windows every package is checked, for the Windows that its folder says. The status is
    1 when something is refused, or nothing is usable. The signatures are checked, not who made
    them: no list of trusted roots is used.
    """
    if arch is not None and arch not in _ARCHES:
        raise UsageError(f"there is no processor {arch}", hint=f"one of {', '.join(_ARCHES)}")
    with open_payload(path) as payload:
        selection = payload.select(_named(windows, arch or "amd64")) if windows else \
            _every(payload, arch)
    if as_json:
        console.print_json({
            "payload": payload.path, "usable": [_package(one) for one in selection.packages],
            "refused": selection.refused, "unsuited": selection.unsuited,
            "agent": selection.agent[0] if selection.agent else None})
    else:
        _print(payload, selection)
    raise typer.Exit(1 if selection.refused or not selection.packages else 0)


def _named(word: str, arch: str) -> WindowsVersion:
    label = payload_labels.label(word)
    if label is None:
        raise UsageError(f"there is no Windows {word}",
                         hint="one of " + ", ".join(label.name for label in LABELS))
    return label.version(arch)


def _every(payload: Payload, arch: str | None) -> Selection:
    packages: list[DriverPackage] = []
    refused: list[Refusal] = []
    for offer in payload.offers:
        if arch is None or offer.arch in (None, arch):
            try:
                packages.append(_load(payload, offer, arch))
            except ImgconvError as error:
                refused.append(Refusal(offer.name, payload.origin(offer), error.message))
    return Selection(tuple(packages), tuple(refused))


def _load(payload: Payload, offer: Offer, arch: str | None) -> DriverPackage:
    for windows in _versions(offer):
        if arch in (None, windows.arch) and payload.applies(offer, windows):
            return payload.load(offer, windows)
    raise ImgconvError("its INF has no model for the Windows and processor of its folder")


def _package(package: DriverPackage) -> dict[str, Any]:
    return {"name": package.name, "origin": package.origin, "arch": package.arch,
            "signer": package.signer, "files": sorted(package.files),
            "warnings": package.warnings}


def _print(payload: Payload, selection: Selection) -> None:
    if selection.packages:
        inside = f"{payload.path.name}/"
        show.table(("driver", "from", "processor", "signed by"), [
            (one.name, one.origin.removeprefix(inside), one.arch, one.signer or "nobody")
            for one in selection.packages])
    warnings: dict[str, list[str]] = {}
    for one in selection.packages:
        for warning in one.warnings:
            warnings.setdefault(warning, []).append(one.origin)
    for warning, origins in warnings.items():
        more = f" and {len(origins) - 1} more" if len(origins) > 1 else ""
        say(one_line(f"{origins[0]}{more}: {warning}"), label="warning: ", style="yellow")
    for refusal in selection.unsuited:
        say(one_line(f"{refusal.name}: {refusal.why}"), label="note: ", style="yellow")
    for refusal in selection.refused:
        say(one_line(f"{refusal.name} from {refusal.origin}: {refusal.why}"), label="refused: ",
            style="bold red")
    say(f"{payload.path}: {len(selection.packages)} usable, {len(selection.refused)} refused")


# --- import ---------------------------------------------------------------------------------------


@commands.command("import", epilog=console.examples(
    "imgconv drivers import virtio-win.iso", "imgconv drivers import /mnt/virtio-win --to drivers"))
def import_(path: Annotated[Path, typer.Argument(
                metavar="PATH", help="A virtio-win ISO or folder.", show_default=False)],
            to: Annotated[Path | None, typer.Option(
                "--to", metavar="PATH",
                help="Where to, or in which folder.",
                show_default="~/.local/share/imgconv/drivers")] = None,
            as_json: JsonOption = False, verbose: VerboseOption = False,
            log_file: LogFileOption = None) -> None:
    """Copy drivers to where imgconv finds them without --drivers."""
    copy = payload_import.import_payload(path, to)
    used = payload_find.find()
    found = used is not None and used.absolute() in (
        (copy.absolute(),) if copy.is_file() else (copy.absolute(), *copy.absolute().parents))
    if as_json:
        console.print_json({"imported": copy, "used": used})
        return
    say(f"{copy}: imported", label="✔ ", style="bold green")
    if not found:
        say(f"without --drivers {copy}, "
            + (f"{used} is used, which is looked for first" if used else "it is not found there"),
            label="note: ", style="yellow")
