"""GRUB 0.9x: menu.lst, or grub.conf as Red Hat calls it (GRUB's manual, 0.97, chapter 13).

Disks are numbered as the BIOS does ((hd0,0)), which no bus changes; Linux' names are only in the
kernels' command lines, and in what later runs of its tools go by.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import cmdline, esp
from imgconv.linux.bootloader.entry import (
    LONGEST,
    LONGEST_TITLE,
    MAX_CONFIGS,
    BootEntry,
    Places,
    check_number,
    refuse_xen,
)
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit, lines
from imgconv.model import Change

NAME = "GRUB legacy"

#: Red Hat's is built to read grub.conf (menu.lst is a link to it), all others menu.lst.
_MENUS = ("/boot/grub/grub.conf", "/boot/grub/menu.lst")
_DEVICE_MAP = "/boot/grub/device.map"
#: On SUSE these are not a menu but the commands that install GRUB.
_COMMANDS = "/etc/grub.conf"

_COMMAND = re.compile(r"[ \t]*+(?P<word>[a-z]++)(?:[ \t]*+=[ \t]*+|[ \t]++)?+(?P<rest>.*)")
_DEVICE = re.compile(r"\([^)]{0,32}+\)")
#: What Debian's update-grub makes the next entries of; "#" is part of its syntax.
_AUTOMAGIC = re.compile(r"#[ \t]*+(?:xen)?+(?:kopt|altoptions|defoptions|defaultoptions)\w*+=")
#: Where Red Hat's grubby installs GRUB to.
_BOOT = re.compile(r"(?P<key>#boot=)(?P<spec>/dev/\S+)")
_MAP = re.compile(r"(?P<lead>[ \t]*+\([fh]d\d{1,3}\)[ \t]++)(?P<spec>/\S+)(?P<rest>\s*)")


@dataclass(slots=True)
class _Item:
    """A menu entry as it is being read."""

    title: str
    kernel: str = ""
    cmdline: str = ""
    initrds: list[str] = field(default_factory=list)
    modules: int = 0


def _menus(reader: Reader) -> tuple[str, ...]:
    """Every menu; Enterprise Linux 6 keeps that of its UEFI version beside the loader."""
    on_esp = (f"{folder}/grub.conf" for folder in esp.vendors(reader)[:MAX_CONFIGS])
    return tuple(path for path in (*_MENUS, *on_esp) if reader.size(path) is not None)


def detect(reader: Reader) -> bool:
    return any("title" in (read_text(reader, path) or "") for path in _menus(reader))


def installed(reader: Reader) -> bool:
    """`stage2` is what the code in the MBR loads; UEFI starts grub.efi."""
    return (reader.size("/boot/grub/stage2") is not None
            or any(esp.child(reader, folder, "grub.efi") for folder in esp.vendors(reader)))


def entries(reader: Reader) -> tuple[BootEntry, ...]:
    """Those of every menu; a link to another menu, or a copy, is the same menu again."""
    found: list[BootEntry] = []
    seen = set()
    for path in _menus(reader):
        text = read_text(reader, path) or ""
        if text not in seen:
            seen.add(text)
            found += parse(reader, path, text)
    return tuple(found)


def parse(reader: Reader, source: str, text: str) -> list[BootEntry]:
    """The entries of one menu that start Linux itself, the default first.

    Raises CannotConvert when the default starts Xen, HostileInput when there are too many.
    """
    items, default = _items(source, text)
    if default is None:
        saved = (read_text(reader, "/boot/grub/default") or "").split()
        default = saved[0] if saved else "0"
    chosen = int(default) if default.isdecimal() and len(default) < 5 else 0
    if chosen >= len(items):
        chosen = 0  # GRUB then shows the menu; its first entry is what stands out
    places = Places(reader, source)
    found: list[BootEntry] = []
    for number, item in enumerate(items):
        if _is_xen(item):
            if number == chosen:
                raise refuse_xen(source, item.title)
            continue
        if item.kernel:
            entry = BootEntry(item.title[:LONGEST_TITLE], places(item.kernel),
                              tuple(places(path) for path in item.initrds),
                              item.cmdline[:LONGEST], source)
            found.insert(0 if number == chosen else len(found), entry)
    return found


def _is_xen(item: _Item) -> bool:
    return item.modules > 0 and item.kernel.rpartition("/")[2].startswith("xen")


def _items(source: str, text: str) -> tuple[list[_Item], str | None]:
    """The menu's entries, and the number of the default one; None when it is the saved one."""
    items: list[_Item] = []
    default: str | None = "0"
    for word, rest in _commands(text):
        if word == "title":
            check_number(items, source)
            items.append(_Item(rest))
        elif not items:
            if word == "default":
                default = None if rest.startswith("saved") else rest
        elif word == "kernel":
            words = rest.split()
            while words and words[0].startswith("--"):
                del words[0]
            items[-1].kernel = _path(words[0]) if words else ""
            items[-1].cmdline = " ".join(words[1:])
        elif word == "initrd":
            items[-1].initrds += [_path(path) for path in rest.split()]
        elif word in ("module", "modulenounzip"):
            items[-1].modules += 1
    return items, default


def _commands(text: str) -> Iterator[tuple[str, str]]:
    for line in lines(text):
        if match := _COMMAND.match(line):
            yield match["word"], match["rest"].strip()


def _path(word: str) -> str:
    return _DEVICE.sub("", word, count=1)


def rewrite(text: str, renamer: Renamer) -> str:
    """A menu with the devices of every command line renamed, those of Debian's automagic included.

    An entry without an initrd keeps a device name, because the kernel alone knows no UUIDs. One
    with modules is Xen's, whose Linux has its initrd as a module.
    """
    done: list[str] = []
    has_initrd = False
    for line in reversed(lines(text)):
        match = _COMMAND.match(line)
        word = match["word"] if match else ""
        if word in ("initrd", "module", "modulenounzip"):
            has_initrd = True
        if word in ("kernel", "module", "modulenounzip"):
            line = cmdline.rewrite(line, renamer, by_uuid=has_initrd)
        elif _AUTOMAGIC.match(line):
            line = cmdline.rewrite(line, renamer)
        elif match := _BOOT.match(line):
            line = match["key"] + renamer.rename_disk(match["spec"]) + line[match.end():]
        elif word == "title":
            has_initrd = False
        done.append(line)
    return "".join(reversed(done))


def rewrite_map(text: str, renamer: Renamer) -> str:
    """device.map: Linux' name of each of the BIOS' disks, for the next installation of GRUB."""
    def line(text: str) -> str:
        match = _MAP.fullmatch(text)
        return match["lead"] + renamer.rename_disk(match["spec"]) + match["rest"] if match else text
    return "".join(line(text) for text in lines(text))


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    changes: list[Change] = []
    for path in _menus(reader):
        changes += edit(reader, path, lambda text: rewrite(text, renamer),
                        "the kernel looks for its root and its resume device by these names")
    if not _installs_by_commands(reader):
        changes += edit(reader, _DEVICE_MAP, lambda text: rewrite_map(text, renamer),
                        "the next installation of GRUB looks up its disk here")
    return tuple(changes)


def _installs_by_commands(reader: Reader) -> bool:
    """Whether GRUB is installed by commands that are kept in a file, as on SUSE.

    There device.map stays as it is: with a name in it that does not exist where the commands run,
    GRUB answers them with error 21, "Selected disk does not exist".
    """
    return any(word in ("setup", "install") for word, _ in _commands(
        read_text(reader, _COMMANDS) or ""))


def next_names(reader: Reader) -> Iterator[tuple[str, str]]:
    """(file, device) for each name that the next run of GRUB's tools would go by."""
    if not _installs_by_commands(reader):
        for line in lines(read_text(reader, _DEVICE_MAP) or ""):
            if match := _MAP.fullmatch(line):
                yield _DEVICE_MAP, match["spec"]
    for path in _menus(reader):
        for line in lines(read_text(reader, path) or ""):
            if match := _BOOT.match(line):
                yield path, match["spec"]
            elif _AUTOMAGIC.match(line):
                yield from ((path, spec) for _, spec in cmdline.devices(line))
