"""SYSLINUX on Linux' own filesystems (extlinux) and on FAT, and U-Boot, which reads the same file.

Words have no letter case; see SYSLINUX' doc/syslinux.txt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from imgconv.errors import HostileInput
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import cmdline
from imgconv.linux.bootloader.entry import (
    LONGEST,
    LONGEST_TITLE,
    MAX_CONFIGS,
    BootEntry,
    Places,
    check_number,
)
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit, lines
from imgconv.model import Change

NAME = "extlinux"

_FOLDERS = ("/boot/extlinux", "/boot/syslinux", "/boot", "/extlinux", "/syslinux", "")
_NAMES = ("extlinux.conf", "syslinux.cfg")

_COMMAND = re.compile(r"[ \t]*+(?P<word>[A-Za-z]\w*+)(?:[ \t]++(?P<rest>.*))?+")
#: How many files one may include in all, and how deep.
_DEEPEST = 8

_KERNELS = ("kernel", "linux")


@dataclass(slots=True)
class _Item:
    """A label as it is being read; `append` is None until it has one of its own."""

    label: str
    source: str
    title: str = ""
    kernel: str = ""
    append: str | None = None
    initrds: tuple[str, ...] = ()


def _main(reader: Reader) -> str | None:
    """The configuration that is read: the first of those for which it looks."""
    return next((f"{folder}/{name}" for folder in _FOLDERS for name in _NAMES
                 if reader.size(f"{folder}/{name}") is not None), None)


def detect(reader: Reader) -> bool:
    return _main(reader) is not None


def installed(reader: Reader) -> bool:
    """Its second stage; U-Boot needs none, and is on no PC."""
    return any(reader.size(f"{folder}/{name}") is not None for folder in _FOLDERS
               for name in ("ldlinux.sys", "extlinux.sys"))


def _files(reader: Reader, path: str) -> dict[str, str]:
    """The configuration and all that it includes, in order: path -> text.

    Raises HostileInput when there are more than any menu has.
    """
    found: dict[str, str] = {}
    folder = path.rpartition("/")[0]

    def take(path: str, depth: int) -> None:
        if path in found or depth > _DEEPEST:
            return
        text = read_text(reader, path)
        if text is None:
            return
        if len(found) == MAX_CONFIGS:
            raise HostileInput(f"{path} is one of too many files that include each other")
        found[path] = text
        for word, rest in _commands(text):
            if word == "include" and rest:
                # Themes say "MENU INCLUDE FILE [TAG]".
                take(_included(reader, folder, rest.split()[0]), depth + 1)

    take(path, 0)
    return found


def _included(reader: Reader, folder: str, name: str) -> str:
    """Names are relative to the main configuration's folder; the root is its filesystem's."""
    if not name.startswith("/"):
        return _normal(f"{folder}/{name}")
    return next((path for path in (f"/boot{name}", name) if reader.size(path) is not None), name)


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def _commands(text: str) -> Iterator[tuple[str, str]]:
    for line in lines(text):
        match = _COMMAND.match(line.rstrip("\r\n"))
        if match is None:
            continue
        word, rest = match["word"].lower(), (match["rest"] or "").strip()
        if word == "menu":
            kind, _, more = rest.partition(" ")
            if kind.lower() == "include":
                yield "include", more.strip()
            elif kind.lower() in ("default", "label"):
                yield f"menu {kind.lower()}", more.strip()
        else:
            yield word, rest


def entries(reader: Reader) -> tuple[BootEntry, ...]:
    path = _main(reader)
    if path is None:
        return ()
    items: list[_Item] = []
    default, marked, append = "", "", ""
    for source, text in _files(reader, path).items():
        item: _Item | None = None
        for word, rest in _commands(text):
            if word == "label":
                check_number(items, source)
                item = _Item(rest.split()[0] if rest else "", source)
                items.append(item)
            elif word in ("default", "ontimeout"):
                default = default or (rest.split()[0] if rest else "")
            elif item is None:
                append = rest if word == "append" else append
            elif word == "menu default":
                marked = item.label
            elif word == "menu label":
                item.title = rest.replace("^", "")
            elif word in _KERNELS:
                item.kernel = rest.split()[0] if rest else ""
            elif word == "append":
                item.append = rest
            elif word == "initrd":
                item.initrds = tuple(name for name in rest.split(",") if name)
    places = Places(reader, path)
    folder = path.rpartition("/")[0]
    found: list[BootEntry] = []
    for item in items:
        if not item.kernel or item.kernel.lower().endswith((".c32", ".bin", ".0", ".img")):
            continue
        text = append if item.append is None else "" if item.append == "-" else item.append
        entry = _entry(item, text[:LONGEST], folder, places)
        first = item.label == (marked or default)
        found.insert(0 if first else len(found), entry)
    return tuple(found)


def _entry(item: _Item, text: str, folder: str, places: Places) -> BootEntry:
    """initrd= in the command line is SYSLINUX' own, and wins nothing over INITRD."""
    words = text.split()
    initrds = item.initrds or tuple(
        name for word in words if word.startswith("initrd=")
        for name in word.removeprefix("initrd=").split(",") if name)
    return BootEntry((item.title or item.label)[:LONGEST_TITLE],
                     places(_absolute(folder, item.kernel)),
                     tuple(places(_absolute(folder, name)) for name in initrds),
                     " ".join(word for word in words if not word.startswith("initrd=")),
                     item.source)


def _absolute(folder: str, name: str) -> str:
    return _normal(name if name.startswith("/") else f"{folder}/{name}")


def rewrite(text: str, renamer: Renamer, *, by_uuid: bool = True) -> str:
    """A configuration with the devices of every APPEND renamed.

    A label without an initrd keeps a device name, because the kernel alone knows no UUIDs; so does
    an APPEND for all labels when `by_uuid` is False.
    """
    all_lines = lines(text)
    with_initrd: list[bool] = []
    current, start = by_uuid, 0
    for number, line in enumerate([*all_lines, "label"]):
        match = _COMMAND.match(line)
        word = match["word"].lower() if match else ""
        if word == "label":
            with_initrd += [current] * (number - start)
            current, start = False, number
        elif word == "initrd" or (word == "append" and "initrd=" in line):
            current = True
    def one(line: str, initrd: bool) -> str:
        match = _COMMAND.match(line)
        append = match is not None and match["word"].lower() in ("append", *_KERNELS)
        return cmdline.rewrite(line, renamer, by_uuid=initrd) if append else line
    return "".join(one(line, initrd) for line, initrd in zip(all_lines, with_initrd, strict=True))


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    path = _main(reader)
    if path is None:
        return ()
    files = _files(reader, path)
    every = all(entry.initrds for entry in entries(reader))
    return tuple(change for name in files for change in edit(
        reader, name, lambda text: rewrite(text, renamer, by_uuid=every),
        "the kernel looks for its root and its resume device by these names"))
