"""GRUB 2: the generated grub.cfg, and /etc/default/grub from which it is generated."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace

from imgconv.errors import HostileInput
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import cmdline
from imgconv.linux.bootloader.entry import BootEntry, locate
from imgconv.linux.bootloader.grub2_menu import default_line
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit, lines
from imgconv.model import Change, Names

NAME = "GRUB 2"

DEFAULTS = "/etc/default/grub"
_DEFAULTS_D = "/etc/default/grub.d"
_CONFIGS = ("/boot/grub/grub.cfg", "/boot/grub2/grub.cfg")

_TITLE = re.compile(r"""\s*menuentry\s+(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<bare>\S+))""")
_LINUX = re.compile(r"\s*linux(?:16|efi)?\s+(?P<kernel>\S+)(?P<cmdline>.*)")
#: With at most 16 of them expanded, a line cannot grow without bounds.
_LONGEST_SET = 4096
_SET = re.compile(r"""\s*set\s+(?P<name>\w+)=(?P<quote>["']?)(?P<value>[^"']*)(?P=quote)\s*$""")
_VARIABLE = re.compile(r"\$(?P<brace>\{)?(?P<name>\w+)(?(brace)\})")
_INITRD = re.compile(r"\s*initrd(?:16|efi)?\s+(?P<paths>.+)")
_NO_UUID = re.compile(r"^[ \t]*(?:export[ \t]+)?GRUB_DISABLE_LINUX_UUID=([\"']?)true\1(?=\s|$)",
                      re.MULTILINE)

#: A longer command line is none: the kernel takes 2,048 characters on x86, 4,096 at most.
_LONGEST = 8192

#: A menu with more entries than this, or that names more files, is none; each costs questions to
#: the appliance. So do configurations.
_MAX_ENTRIES = 1000
_MAX_FILES = 1000
_MAX_CONFIGS = 16

#: As much of a title as is shown.
_LONGEST_TITLE = 200


def _configs(reader: Reader) -> tuple[str, ...]:
    """Every grub.cfg with entries; some distributions keep theirs on the EFI system partition."""
    efi = tuple(f"/boot/efi/EFI/{name}/grub.cfg" for name in reader.names("/boot/efi/EFI"))
    found = tuple(path for path in (*_CONFIGS, *efi) if reader.size(path) is not None)
    if len(found) > _MAX_CONFIGS:
        raise HostileInput(f"the guest has more than {_MAX_CONFIGS} configurations of {NAME}")
    return found


def detect(reader: Reader) -> bool:
    return bool(_configs(reader))


def entries(reader: Reader) -> tuple[BootEntry, ...]:
    return tuple(entry for path in _configs(reader)
                 for entry in parse(reader, path, read_text(reader, path) or ""))


def parse(reader: Reader, source: str, text: str) -> list[BootEntry]:
    """The menu entries of one grub.cfg that start a kernel, the default first, submenus included.

    Raises HostileInput when there are more than any menu has.
    """
    text = text.replace("\\\n", " ")  # a line that goes on
    places: dict[str, str] = {}

    def place(word: str) -> str:
        name = _path(word)
        if name not in places:
            if len(places) == _MAX_FILES:
                raise HostileInput(f"{source} names more than {_MAX_FILES:,} files")
            places[name] = locate(reader, name)
        return places[name]

    found: list[BootEntry] = []
    variables: dict[str, str] = {}
    default = default_line(reader, source, text)
    chosen = -1
    title, start = "", -1
    begun = False  # an entry whose initrd may follow
    for number, line in enumerate(lines(text)):
        if match := _TITLE.match(line):
            title = match["single"] or match["double"] or match["bare"] or ""
            begun, start = False, number
        elif len(line) <= _LONGEST_SET and (match := _SET.match(line)):
            variables[match["name"]] = match["value"]
        elif match := _LINUX.match(line):
            if start == default and chosen < 0:
                chosen = len(found)
            if len(found) == _MAX_ENTRIES:
                raise HostileInput(f"{source} has more than {_MAX_ENTRIES:,} menu entries")
            found.append(BootEntry(title[:_LONGEST_TITLE], place(match["kernel"]), (),
                                   _expand(_unquote(match["cmdline"]), variables), source))
            begun = True
        elif begun and (match := _INITRD.match(line)):
            begun = False
            initrds = tuple(place(word) for word in match["paths"].split())
            found[-1] = replace(found[-1], initrds=initrds)
    return [found.pop(chosen), *found] if chosen >= 0 else found


def _expand(text: str, variables: Mapping[str, str]) -> str:
    """GRUB's variables in a command line: $kernelopts is how some distributions write root=."""
    return _VARIABLE.sub(lambda match: variables.get(match["name"], match[0]), text, count=16)


def _path(word: str) -> str:
    """A file's path without GRUB's quotes and device: ($root)/vmlinuz -> /vmlinuz"""
    return re.sub(r"^\([^)]*\)", "", word.strip("\"'"))


def _unquote(text: str) -> str:
    try:
        return " ".join(shlex.split(text[:_LONGEST], comments=False))
    except ValueError:  # unbalanced quotes: GRUB would fail too, but the words are still telling
        return text[:_LONGEST].strip()


def rewrite_config(text: str, renamer: Renamer) -> str:
    """grub.cfg with the devices of every command line renamed.

    An entry without an initrd keeps a device name, because the kernel alone knows no UUIDs.
    """
    done: list[str] = []
    has_initrd = False
    for line in reversed(lines(text)):
        if line.lstrip().startswith("#"):
            done.append(line)
            continue
        # Not only `linux` lines: `set kernelopts="root=..."`, continued lines, Xen's `module2`.
        done.append(cmdline.rewrite(line, renamer,
                                    by_uuid=has_initrd or not _LINUX.match(line)))
        if _INITRD.match(line):
            has_initrd = True
        elif _LINUX.match(line) or _TITLE.match(line):
            has_initrd = False
    return "".join(reversed(done))


def rewrite_defaults(text: str, renamer: Renamer) -> str:
    """/etc/default/grub with the devices of the command lines renamed.

    With UUIDs wanted, GRUB_DISABLE_LINUX_UUID goes: with it the next update-grub would write the
    name that the root disk has on the bus of that day.
    """
    if renamer.names is Names.UUID:
        text = _NO_UUID.sub(lambda match: "#" + match[0], text)
    return "".join(line if line.lstrip().startswith("#") else cmdline.rewrite(line, renamer)
                   for line in lines(text))


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    changes: list[Change] = []
    for path in _configs(reader):
        changes += edit(reader, path, lambda text: rewrite_config(text, renamer),
                        "the kernel looks for its root and its resume device by these names")
    for path in (DEFAULTS, *(f"{_DEFAULTS_D}/{name}" for name in reader.names(_DEFAULTS_D)
                             if name.endswith(".cfg"))):
        changes += edit(reader, path, lambda text: rewrite_defaults(text, renamer),
                        "the next update-grub must write the same names")
    return tuple(changes)
