"""GRUB 2: the generated grub.cfg, and /etc/default/grub from which it is generated.

On Fedora and Enterprise Linux 8 and later, grub.cfg has no entries but the command `blscfg`, which
reads them from files (bls.py); their command line may be a variable of the environment block
(grubenv.py). What is on their EFI system partition is, from Fedora 34 and Enterprise Linux 9 on, a
stub that leads to /boot/grub2/grub.cfg.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import replace

from imgconv.errors import HostileInput
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import cmdline, esp
from imgconv.linux.bootloader import bls, grubenv
from imgconv.linux.bootloader.entry import (
    LONGEST,
    LONGEST_TITLE,
    MAX_CONFIGS,
    BootEntry,
    Places,
    check_number,
    refuse_xen,
)
from imgconv.linux.bootloader.grub2_menu import chosen_name, default_line
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit, lines
from imgconv.model import Change, Names

NAME = "GRUB 2"

DEFAULTS = "/etc/default/grub"
_DEFAULTS_D = "/etc/default/grub.d"
_FOLDERS = ("/boot/grub", "/boot/grub2")
_CONFIGS = tuple(f"{folder}/grub.cfg" for folder in _FOLDERS)

_TITLE = re.compile(r"""\s*menuentry\s+(?:'(?P<single>[^']*)'|"(?P<double>[^"]*)"|(?P<bare>\S+))""")
_LINUX = re.compile(r"\s*linux(?:16|efi)?\s+(?P<kernel>\S+)(?P<cmdline>.*)")
#: With at most 16 of them expanded, a line cannot grow without bounds.
_LONGEST_SET = 4096
_SET = re.compile(r"""\s*set\s+(?P<name>\w+)=(?P<quote>["']?)(?P<value>[^"']*)(?P=quote)\s*$""")
_VARIABLE = re.compile(r"\$(?P<brace>\{)?(?P<name>\w+)(?(brace)\})")
_INITRD = re.compile(r"\s*initrd(?:16|efi)?\s+(?P<paths>.+)")
_BLSCFG = re.compile(r"^[ \t]*+blscfg[ \t]*+$", re.MULTILINE)
_ENTRIES = "/boot/loader/entries"
#: `xen_hypervisor` is arm64's word.
_XEN = re.compile(r"[ \t]*+(?:multiboot2?[ \t]++(?:\S*/)?xen|xen_hypervisor[ \t])")
_NO_UUID = re.compile(r"^[ \t]*(?:export[ \t]+)?GRUB_DISABLE_LINUX_UUID=([\"']?)true\1(?=\s|$)",
                      re.MULTILINE)


def _configs(reader: Reader) -> tuple[str, ...]:
    """Every grub.cfg with entries; some distributions keep theirs on the EFI system partition."""
    on_esp = tuple(f"{folder}/grub.cfg" for folder in esp.vendors(reader))
    found = tuple(path for path in (*_CONFIGS, *on_esp) if reader.size(path) is not None)
    if len(found) > MAX_CONFIGS:
        raise HostileInput(f"the guest has more than {MAX_CONFIGS} configurations of {NAME}")
    return found


def detect(reader: Reader) -> bool:
    return bool(_configs(reader))


def installed(reader: Reader) -> bool:
    """What grub-install writes: core.img for the BIOS, a program for UEFI."""
    on_esp = any(name.lower().startswith("grub") and name.lower().endswith(".efi")
                 and name.lower() != "grub.efi"  # that is GRUB legacy's
                 for folder in esp.vendors(reader) for name in reader.names(folder))
    return on_esp or any(reader.size(f"{folder}/i386-pc/core.img") is not None
                         for folder in _FOLDERS)


def entries(reader: Reader) -> tuple[BootEntry, ...]:
    """Raises CannotConvert when the default starts Xen."""
    found: list[BootEntry] = []
    for path in _configs(reader):
        text = read_text(reader, path) or ""
        own = parse(reader, path, text)
        from_files = _from_files(reader, path, text) if _BLSCFG.search(text) else []
        # `blscfg` comes before all that other scripts add, unless one of those is the default.
        other = default_line(reader, path, text) is not None and not chosen_name(
            reader, path, text).isdecimal()
        found += [*own, *from_files] if other else [*from_files, *own]
    return tuple(dict.fromkeys(found))


def _from_files(reader: Reader, source: str, text: str) -> list[BootEntry]:
    """The entries in files, the default first. grub.cfg sets what the environment block lacks."""
    variables = {match["name"]: match["value"] for line in lines(text)
                 if len(line) <= _LONGEST_SET and (match := _SET.match(line))}
    variables |= grubenv.variables(reader, _environment(source))
    read = bls.read(reader, _ENTRIES)
    places = Places(reader, _ENTRIES)
    made = [bls.boot_entry(entry, places, variables) for entry in read]
    wanted = chosen_name(reader, source, text)
    chosen = next((index for index, entry in enumerate(read)
                   if wanted in (entry.ident, f"{entry.ident}.conf", entry.first("title"),
                                 str(index))), 0)
    return [made[chosen], *made[:chosen], *made[chosen + 1:]] if made else []


def _environment(source: str) -> str:
    return source.rpartition("/")[0] + "/grubenv"


def parse(reader: Reader, source: str, text: str) -> list[BootEntry]:
    """The menu entries of one grub.cfg that start a kernel, the default first, submenus included.

    Raises HostileInput when there are more than any menu has, CannotConvert when the default starts
    Xen.
    """
    text = text.replace("\\\n", " ")  # a line that goes on
    places = Places(reader, source)

    def place(word: str) -> str:
        return places(_path(word))

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
            check_number(found, source)
            found.append(BootEntry(title[:LONGEST_TITLE], place(match["kernel"]), (),
                                   _expand(_unquote(match["cmdline"]), variables), source))
            begun = True
        elif start == default and start >= 0 and _XEN.match(line):
            raise refuse_xen(source, title)
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
        return " ".join(shlex.split(text[:LONGEST], comments=False))
    except ValueError:  # unbalanced quotes: GRUB would fail too, but the words are still telling
        return text[:LONGEST].strip()


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
    for path in dict.fromkeys(map(_environment, _configs(reader))):
        changes += grubenv.plan(reader, renamer, path)
    if any(_BLSCFG.search(read_text(reader, path) or "") for path in _configs(reader)):
        changes += bls.plan(reader, renamer, _ENTRIES)
    for path in (DEFAULTS, *drop_ins(reader)):
        changes += edit(reader, path, lambda text: rewrite_defaults(text, renamer),
                        "the next update-grub must write the same names")
    return tuple(changes)


def drop_ins(reader: Reader) -> tuple[str, ...]:
    """Files that are read behind /etc/default/grub (Ubuntu, Debian's cloud images)."""
    return tuple(f"{_DEFAULTS_D}/{name}" for name in reader.names(_DEFAULTS_D)
                 if name.endswith(".cfg"))
