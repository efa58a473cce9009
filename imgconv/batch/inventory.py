"""The guests of a batch: from files, folders, patterns and inventories to tasks.

An inventory is foreign text only as far as its user lets others write it, but many are exported by
programs, so every cell is checked, and what is wrong is named with its place.
"""

from __future__ import annotations

import csv
import glob
import io
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from imgconv import emit, machine, source
from imgconv.batch.tasks import Task, task
from imgconv.disk import formats
from imgconv.errors import ImgconvError, UsageError
from imgconv.model import Bus, InitramfsMode, Names, Options
from imgconv.pipeline import Job, check
from imgconv.source import libvirt_xml

INVENTORIES = (".csv", ".yaml", ".yml")
IMAGES = (".qcow2", ".qcow", ".img", ".raw", ".vmdk", ".vdi", ".vhdx", ".vhd", ".vpc", ".ova")
DESCRIPTIONS = (".vmx", ".ovf", ".xml")

_MAX_INVENTORY = 64 << 20  # bytes: a hundred times what 10,000 guests take
_MAX_NAME = 120  # characters: room for ".name.format.kubevirt.yaml" in a file's name of 255 bytes
_SUFFIXES = {"qcow2": ".qcow2", "raw": ".raw", "vmdk": ".vmdk", "vhdx": ".vhdx", "vdi": ".vdi",
             "vpc": ".vhd"}


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest to convert: `job` has its disks or its description. `named` is whether somebody has
    named it; otherwise the name follows from `place`, the path by which it was found."""

    name: str
    job: Job
    place: Path
    named: bool = False


def tasks(paths: Sequence[str], template: Job, output_dir: Path | None) -> list[Task]:
    """The tasks for all guests that `paths` lead to, in order, each with a name of its own.

    `template` has the options for all of them, which an inventory may override. Raises UsageError
    for what is no guest or is two guests at once; nothing is written, and no guest is looked into.
    """
    found = [guest for path in paths for guest in _found(path, template)]
    if not found:
        raise UsageError("no disk image was found",
                         hint="folders are searched for " + ", ".join((*IMAGES, *DESCRIPTIONS)))
    found = _distinct(_only_once(found))
    _check_shared(found)
    made = [_task(guest, output_dir) for guest in found]
    _check_outputs(made)
    return made


# --- looking for guests ---------------------------------------------------------------------------


def _found(text: str, template: Job) -> Iterator[Guest]:
    path = Path(text)
    if path.is_dir():
        yield from _in_folder(path, template)
    elif path.exists():
        yield from _at(path, template)
    else:
        matches = sorted(glob.glob(text, recursive=True)) if glob.has_magic(text) else []  # noqa: PTH207
        if not matches:
            raise UsageError(f"{text} does not exist",
                             hint="give disk images, folders, patterns, or an inventory")
        for match in map(Path, matches):
            if match.is_dir():
                yield from _in_folder(match, template)
            elif match.suffix.lower() in (*IMAGES, *DESCRIPTIONS, *INVENTORIES):
                yield from _at(match, template)


def _at(path: Path, template: Job) -> Iterator[Guest]:
    suffix = path.suffix.lower()
    if suffix in INVENTORIES:
        yield from read(path, template)
    elif suffix in DESCRIPTIONS:
        yield Guest(path.stem, replace(template, source=path), path)
    else:
        yield Guest(path.stem, replace(template, disks=(path,)), path)


def _in_folder(folder: Path, template: Job) -> Iterator[Guest]:
    """The guests in a folder and those below it.

    A description (VMX, OVF, libvirt's XML) is a guest with the disks that it names. Parts of other
    images (extents, backing files: writing one would damage what builds on it) are none.
    """
    files = list(_files(folder))
    described: list[Path] = []
    taken: set[Path] = set()
    for path in files:
        if path.suffix.lower() in DESCRIPTIONS and _is_description(path):
            described.append(path)
            with suppress(ImgconvError), source.given(  # why not is said when its turn comes
                    path, (), output=None, unpack=False, progress=lambda fraction: None,
                    allow_external_files=template.allow_external_files) as (_, disks):
                taken.update(disk.path.resolve() for disk in disks)
    images = [path for path in files if path.suffix.lower() in IMAGES]
    for path in images:
        with suppress(ImgconvError, OSError):
            taken.update(part.resolve() for part in formats.references(
                path, allow_external_files=template.allow_external_files))
    alone = [path for path in images if path.resolve() not in taken]
    for path in sorted([*described, *alone]):
        yield from _at(path, template)


def _files(folder: Path) -> Iterator[Path]:
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(root, name) for name in sorted(names) if not name.startswith("."))


def _is_description(path: Path) -> bool:
    """Whether it describes a machine to convert: .xml may be anything, and be written by us."""
    if any(path.name.endswith(emitter.SUFFIX) for emitter in emit.EMITTERS):
        return False
    if path.suffix.lower() != ".xml":
        return True
    try:
        with path.open("rb") as file:
            return libvirt_xml.recognises(file.read(16 << 10).replace(b"\0", b""))
    except OSError:
        return False


# --- inventories ----------------------------------------------------------------------------------


def read(path: Path, template: Job) -> Iterator[Guest]:
    """The guests of an inventory; relative paths in it are relative to its folder.

    Raises UsageError, naming line or entry, before any guest is returned.
    """
    try:
        if path.stat().st_size > _MAX_INVENTORY:
            raise UsageError(f"{path} is larger than an inventory may be",
                             hint=f"at most {_MAX_INVENTORY >> 20} MiB")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the inventory {path} cannot be read: {error}",
                         hint="it must be CSV or YAML, in UTF-8") from error
    rows = _csv(path, text) if path.suffix.lower() == ".csv" else _yaml(path, text)
    home = path.absolute().parent
    return iter([_guest(row, home, template, place) for place, row in rows])


Row = Mapping[str, object]


def _csv(path: Path, text: str) -> Iterator[tuple[str, Row]]:
    """Rows by the header's names, empty cells left out; lists are separated by semicolons."""
    try:
        lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        for row in lines:
            place = f"{path}, line {lines.line_num}"
            if None in row or any(value is None for value in row.values()):
                raise UsageError(f"{place} has not as many cells as the header",
                                 hint="a path with a comma in it goes into double quotes")
            filled = {key.strip().lower(): value.strip() for key, value in row.items()
                      if value.strip()}
            if filled:
                yield place, filled
    except csv.Error as error:
        raise UsageError(f"{path} is no CSV: {error}", hint="see docs/batch.md") from error


def _yaml(path: Path, text: str) -> Iterator[tuple[str, Row]]:
    """The entries of `guests`, over `defaults`."""
    try:
        content = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise UsageError(f"{path} is no YAML: {str(error)[:300]}",
                         hint="see docs/batch.md") from error
    if isinstance(content, list):
        content = {"guests": content}
    if not isinstance(content, dict) or not set(content) <= {"guests", "defaults"}:
        raise UsageError(f"{path}: it needs a list `guests`, and may have `defaults`, no more",
                         hint="see docs/batch.md")
    defaults, guests = content.get("defaults") or {}, content.get("guests")
    if not isinstance(guests, list) or not isinstance(defaults, dict):
        raise UsageError(f"{path}: `guests` is no list, or `defaults` no mapping",
                         hint="see docs/batch.md")
    for number, entry in enumerate(guests, 1):
        place = f"{path}, guest {number}"
        row = {"disks": entry} if isinstance(entry, str) else entry
        if not isinstance(row, dict) or not all(isinstance(key, str) for key in row):
            raise UsageError(f"{place} is neither a path nor a mapping", hint="see docs/batch.md")
        yield place, defaults | row


def _guest(row: Row, home: Path, template: Job, place: str) -> Guest:
    asked = {_ALIASES.get(key, key): value for key, value in row.items()}
    unknown = sorted(set(map(str, asked)) - {"name", "disks", *_JOB, *_OPTIONS})
    if unknown:
        raise UsageError(f"{place}: unknown: {', '.join(unknown)[:300]}",
                         hint="known: " + ", ".join(sorted({"name", "disks", *_JOB, *_OPTIONS})))
    try:
        disks = tuple(home / text for text in _list(asked.get("disks", [])))
        made = {key: _JOB[key](value) for key, value in asked.items() if key in _JOB}
        options = {key: _OPTIONS[key](value) for key, value in asked.items() if key in _OPTIONS}
        name = _text(asked["name"]) if "name" in asked else ""
    except (ValueError, TypeError) as error:
        raise UsageError(f"{place}: {error}", hint="see docs/batch.md") from error
    job = replace(template, disks=disks,
                  options=replace(template.options, **_at_home(options, home)),
                  **_at_home({_FIELDS.get(key, key): made[key] for key in made}, home))
    if not disks and job.source is None:
        raise UsageError(f"{place} has neither disks nor a description",
                         hint="name them: disks, or from")
    try:
        check_job(job)
    except UsageError as error:
        raise UsageError(f"{place}: {error.message}", hint=error.hint) from error
    where = disks[0] if disks else job.source
    assert where is not None
    return Guest(name or where.stem, job, where, named=bool(name))


def _at_home(values: Mapping[str, object], home: Path) -> dict[str, Any]:
    return {key: home / value if isinstance(value, Path) else value
            for key, value in values.items()}


def check_job(job: Job) -> None:
    """Raise UsageError for options that cannot be meant, before the first guest is begun."""
    emit.check_names(job.emit)
    machine.check(job.net, job.memory, job.cpus)
    check(job)
    for fmt in (job.output_format, job.input_format):
        if fmt is not None and fmt not in formats.FORMATS:
            raise UsageError(f"unknown image format {fmt!r}",
                             hint=f"one of: {', '.join(formats.FORMATS)}")


def _text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or str(value) == "":
        raise ValueError(f"{value!r} is no text")
    text = str(value)
    if not text.isprintable():
        raise ValueError(f"{text!r} has characters that cannot be printed")
    return text


def _path(value: object) -> Path:
    return Path(_text(value)).expanduser()


def _number(value: object) -> int:
    return int(_text(value))


def _seconds(value: object) -> float:
    seconds = float(_text(value))
    if not 1 <= seconds < 1e6:
        raise ValueError(f"{value!r} are no seconds")
    return seconds


_TRUTH = {"yes": True, "true": True, "1": True, "on": True,
          "no": False, "false": False, "0": False, "off": False}


def _truth(value: object) -> bool:
    word = value if isinstance(value, bool) else _TRUTH.get(_text(value).lower())
    if word is None:
        raise ValueError(f"{value!r} is neither yes nor no")
    return word


def _list(value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_text(item) for item in value)
    return tuple(part.strip() for part in _text(value).split(";") if part.strip())


def _virtio(value: object) -> Bus:
    bus = Bus(_text(value))
    if not bus.is_virtio:
        raise ValueError(f"{value!r} is no virtio bus")
    return bus


def _emitters(value: object) -> tuple[str, ...]:
    return tuple(dict.fromkeys([emit.EMITTERS[0].NAME, *_list(value)]))


_ALIASES = {"disk": "disks", "source": "from"}
#: What an inventory may say, the words of virtio-ize's options, and what makes a value of it.
_JOB: Mapping[str, Callable[[object], Any]] = {
    "from": _path, "output": _path, "format": _text, "input_format": _text,
    "allow_external_files": _truth, "force": _truth, "emit": _emitters, "net": _text,
    "memory": _number, "cpus": _number, "undo": _truth, "state_dir": _path,
    "boot_test": _truth, "timeout": _seconds, "prepare": _truth}
_OPTIONS: Mapping[str, Callable[[object], Any]] = {
    "names": lambda value: Names(_text(value)), "block": _virtio,
    "initramfs": lambda value: InitramfsMode(_text(value)), "root": _text, "drivers": _path,
    "discard_hibernation": _truth}
_FIELDS = {"from": "source", "format": "output_format", "timeout": "boot_timeout"}
assert {_FIELDS.get(key, key) for key in _JOB} <= {field.name for field in fields(Job)}
assert set(_OPTIONS) <= {field.name for field in fields(Options)}


# --- names, outputs and what must not be shared ---------------------------------------------------


def _only_once(found: Iterable[Guest]) -> list[Guest]:
    """Without those that were found twice, by two patterns say. What is named stays."""
    kept: dict[tuple[object, ...], Guest] = {}
    for guest in found:
        key: tuple[object, ...] = (_files_of(guest), guest.job.output)
        if guest.named and key in kept and kept[key].named:
            key = (*key, guest.name)
        if key not in kept or (guest.named and not kept[key].named):
            kept[key] = guest
    return list(kept.values())


def _files_of(guest: Guest) -> tuple[Path, ...]:
    named = guest.job.disks or ((guest.job.source,) if guest.job.source else ())
    return tuple(path.resolve() for path in named)


def _distinct(found: Sequence[Guest]) -> list[Guest]:
    """Each with a name of its own that a file can have: app/disk.img and db/disk.img become
    app-disk and db-disk."""
    given = Counter(guest.name for guest in found if guest.named)
    twice = next((name for name, count in given.items() if count > 1), None)
    if twice is not None:
        raise UsageError(f"two guests are named {twice}", hint="give each a name of its own")
    names = _with_folders(found)
    used = Counter(_safe(guest.name) for guest in found if guest.named)
    result = []
    for guest, name in zip(found, names, strict=True):
        safe = _safe(name)
        if not guest.named:
            number = 1
            while used[safe]:
                number += 1
                safe = f"{_safe(name)}-{number}"
            used[safe] += 1
        elif used[safe] > 1:
            raise UsageError(f"two guests are named {safe}", hint="give each a name of its own")
        result.append(replace(guest, name=safe))
    return result


def _with_folders(found: Sequence[Guest]) -> list[str]:
    """The names, with as many folders before them as tell them apart; none where that does not."""
    names = [guest.name for guest in found]
    shared = Counter(map(_safe, names))
    for depth in (1, 2, 3):
        longer = [guest.name if guest.named else
                  "-".join([*guest.place.absolute().parent.parts[-depth:], guest.name])
                  for guest in found]
        taken = [name for name in names if shared[_safe(name)] == 1]
        count = Counter(map(_safe, [*longer, *taken]))
        for index, guest in enumerate(found):
            if (shared[_safe(guest.name)] > 1 and names[index] == guest.name
                    and count[_safe(longer[index])] == 1):
                names[index] = longer[index]
    return names


def _safe(name: str) -> str:
    """A name that is one component of a path, and no hidden one."""
    text = "".join(c if c.isprintable() and c not in "/\\" else "_" for c in name).strip()
    text = text.lstrip(".") or "guest"
    while len(text.encode("utf-8", "surrogateescape")) > _MAX_NAME:
        text = text[:-1]
    return text


def _task(guest: Guest, output_dir: Path | None) -> Task:
    job = guest.job
    if job.dry_run:  # nothing is written, so it does not matter where to
        return task(guest.name, replace(job, output=None, output_format=None))
    count = _count(job)
    if job.output is None and output_dir is not None:
        suffix = _SUFFIXES[job.output_format or "qcow2"] if count == 1 else ""
        job = replace(job, output=output_dir / (guest.name + suffix))
    elif job.output is None:
        job = replace(job, output_format=None)
    return task(guest.name, job, folder=job.output is not None and count > 1)


def _count(job: Job) -> int:
    """How many disks the guest has; 1 where that cannot be told, which is said later."""
    described = job.source or job.disks[0]
    if len(job.disks) > 1:
        return len(job.disks)
    with suppress(ImgconvError, OSError):
        if (not job.disks and job.source) or source.is_appliance(described):
            return max(1, len(source.read(described).disks))
    return 1


def _check_shared(found: Sequence[Guest]) -> None:
    """Two guests that are converted in place must not have a disk in common."""
    used: dict[Path, str] = {}
    for guest in found:
        for path in _files_of(guest):
            other = used.setdefault(path, guest.name)
            if other != guest.name and guest.job.writes_sources:
                raise UsageError(f"{path} is a disk of {other} and of {guest.name}",
                                 hint="give each disk once, or write copies: --output-dir DIR")


def _check_outputs(made: Sequence[Task]) -> None:
    used: dict[str, str] = {}
    sources = {os.path.realpath(file): each.name for each in made for file in each.files}
    for each in made:
        if not each.output:
            continue
        real = os.path.realpath(each.output)
        other = used.setdefault(real, each.name)
        if other != each.name:
            raise UsageError(f"{other} and {each.name} would be written to the same {real}",
                             hint="give each an output of its own")
        if real in sources:
            raise UsageError(f"the output of {each.name} is a disk of {sources[real]}: {real}",
                             hint="write somewhere else: --output-dir DIR")
