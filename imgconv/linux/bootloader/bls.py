"""Boot entries as files, one each (the UAPI group's Boot Loader Specification, type 1): read by
systemd-boot, and by the GRUB 2 of Fedora and Enterprise Linux 8 and later (`blscfg`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from imgconv.errors import HostileInput
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import cmdline
from imgconv.linux.bootloader.entry import (
    LONGEST,
    LONGEST_TITLE,
    MAX_ENTRIES,
    BootEntry,
    Places,
)
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit, lines
from imgconv.model import WriteFile

_LINE = re.compile(r"[ \t]*+(?P<key>[A-Za-z][\w-]*+)[ \t]++(?P<value>\S.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?P<brace>\{)?(?P<name>\w{1,64})(?(brace)\})")
#: The counter of boots that were tried: NAME+LEFT-DONE.conf
_TRIES = re.compile(r"\+\d{1,4}(?:-\d{1,4})?$")
_RELEASE = re.compile(r"\d[\w.+~-]{0,100}")

#: An entry has less than 1 KiB.
_LIMIT = 1 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """`name` is the file's without .conf, which is its id; `keys` maps a key to its values."""

    name: str
    path: str
    keys: Mapping[str, tuple[str, ...]]

    def first(self, key: str) -> str:
        return self.keys.get(key, ("",))[0]

    @property
    def ident(self) -> str:
        return _TRIES.sub("", self.name)


def paths(reader: Reader, folder: str) -> tuple[str, ...]:
    """The files of the entries in `folder`. Raises HostileInput when there are too many."""
    names = [name for name in reader.names(folder) if name.endswith(".conf")]
    if len(names) > MAX_ENTRIES:
        raise HostileInput(f"{folder} has more than {MAX_ENTRIES:,} boot entries")
    return tuple(f"{folder}/{name}" for name in names)


def parse(path: str, text: str) -> Entry:
    keys: dict[str, list[str]] = {}
    for line in lines(text):
        if match := _LINE.fullmatch(line.rstrip("\r\n")):
            keys.setdefault(match["key"].lower(), []).append(match["value"].strip())
    name = path.rpartition("/")[2].removesuffix(".conf")
    return Entry(name, path, {key: tuple(values) for key, values in keys.items()})


def read(reader: Reader, folder: str) -> list[Entry]:
    """The entries of `folder` that start something, the newest first, as both loaders sort them:
    by name and version, 5.9 before 5.10; a rescue entry (version 0) last."""
    found = [parse(path, read_text(reader, path, _LIMIT) or "") for path in paths(reader, folder)]
    return sorted((entry for entry in found if "linux" in entry.keys), key=_order, reverse=True)


def _order(entry: Entry) -> tuple[tuple[int, int, str], ...]:
    """Numbers as numbers, and behind letters: rpmvercmp's order, near enough for kernels."""
    name = entry.ident.removeprefix(entry.first("machine-id"))
    # The machine's id comes first in a name and is the same in all.
    _, _, version = name.partition("-")
    parts = re.findall(r"\d{1,18}|[a-z]+", (version or name).lower())
    return tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts)


def boot_entry(entry: Entry, places: Places, variables: Mapping[str, str]) -> BootEntry:
    """Variables are those of GRUB, for which one that is not set is empty."""
    def expanded(text: str) -> str:
        return _VARIABLE.sub(lambda match: variables.get(match["name"], "")[:LONGEST], text,
                             count=16)

    initrds = tuple(places(word) for value in entry.keys.get("initrd", ())
                    for word in expanded(value).split())
    options = " ".join(" ".join(expanded(value).split())
                       for value in entry.keys.get("options", ()))
    version = entry.first("version")
    return BootEntry((entry.first("title") or entry.name)[:LONGEST_TITLE],
                     places(entry.first("linux")), initrds, options[:LONGEST], entry.path,
                     version if _RELEASE.fullmatch(version) else "")


def rewrite(text: str, renamer: Renamer) -> str:
    """An entry's file with the devices of its options renamed."""
    by_uuid = re.search(r"^[ \t]*+initrd[ \t]", text, re.MULTILINE) is not None
    def line(text: str) -> str:
        match = _LINE.match(text)
        options = match is not None and match["key"].lower() == "options"
        return cmdline.rewrite(text, renamer, by_uuid=by_uuid) if options else text
    return "".join(line(text) for text in lines(text))


def plan(reader: Reader, renamer: Renamer, folder: str) -> tuple[WriteFile, ...]:
    return tuple(change for path in paths(reader, folder)
                 for change in edit(reader, path, lambda text: rewrite(text, renamer),
                                    "the kernel looks for its root and its resume device by "
                                    "these names"))
