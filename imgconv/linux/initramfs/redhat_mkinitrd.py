"""mkinitrd of Red Hat: Enterprise Linux 5 and older, Fedora up to 11. See mkinitrd(8) and nash(8).

/init is a plain list of commands for nash, which loads /lib/*.ko by insmod in that order: there is
neither modprobe nor udev. So a splice replaces /init by one with more insmod lines. Images of the
2.4 kernels are no cpio but ext2 (`old_image.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from imgconv.errors import HostileInput
from imgconv.guest.protocols import Reader
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import lines
from imgconv.linux.initramfs import edits
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import Layout
from imgconv.linux.initramfs.listed import Listed
from imgconv.linux.kernels import Kernel
from imgconv.linux.modindex import module_name
from imgconv.linux.modinfo import normalise
from imgconv.model import Change, RunInGuest, WriteFile

NAME = "Red Hat mkinitrd"

_CONF = "/etc/modprobe.conf"
_ALIAS = re.compile(r"^[ \t]*alias[ \t]+scsi_hostadapter(?P<number>\d{0,4})[ \t]+(?P<module>\S+)",
                    re.MULTILINE)
_INSMOD = re.compile(r"[ \t]*insmod[ \t]+(?P<path>/\S+\.ko)(?:[ \t]|$)")
#: Commands after which a disk's driver comes too late.
_TOO_LATE = re.compile(r"[ \t]*(?:mkrootdev|lvm|mdadm|raidautorun|rmparts|dm|resume|mount[ \t].*"
                       r"/sysroot|setuproot|switchroot)\b")
#: "resume /dev/sda2", "mkrootdev -t ext3 -o defaults,ro sda1": nash leaves /dev/ off.
_NAMED = re.compile(r"^(?P<key>[ \t]*(?:resume|mkrootdev)[ \t](?:.*[ \t])?)(?P<dev>/dev/)?"
                    r"(?P<name>(?:[shv]|xv)d[a-z]\d*)[ \t]*$", re.MULTILINE)


def _insmods(initramfs: Initramfs) -> list[str]:
    found: list[str] = []
    for line in edits.script(initramfs).split("\n"):
        if _TOO_LATE.match(line):
            break
        if match := _INSMOD.match(line):
            found.append(match["path"])
    return found


_LISTED = Listed(paths=_insmods, home="lib", index_name="nash's /init")
LAYOUT: Layout = _LISTED


def detect(reader: Reader) -> bool:
    return edits.program(reader, "mkinitrd", "nash")


def built(initramfs: Initramfs) -> bool:
    return re.match(r"#! ?/bin/nash\b", edits.script(initramfs)) is not None


def persist(reader: Reader, renamer: Renamer, drivers: Sequence[str]) -> tuple[WriteFile, ...]:
    """mkinitrd takes in every module that is called scsi_hostadapter, in this file's order."""
    return edits.put(reader, _CONF, lambda text: _with_aliases(text, drivers))


def _with_aliases(text: str, drivers: Sequence[str]) -> str:
    found = list(_ALIAS.finditer(text))
    missing = [driver for driver in drivers
               if driver not in (normalise(match["module"]) for match in found)]
    used = {int(match["number"] or 0) for match in found}
    free = (number for number in range(len(used) + len(missing) + 1) if number not in used)
    return edits.appended(text, "".join(f"alias scsi_hostadapter{number or ''} {driver}\n"
                                        for driver, number in zip(missing, free, strict=False)))


def loads(initramfs: Initramfs, driver: str) -> str | None:
    if built(initramfs) and driver in map(module_name, _insmods(initramfs)):
        return "insmod in nash's /init"
    return None


def _renamed(text: str, renamer: Renamer) -> str:
    def one(match: re.Match[str]) -> str:
        # By device name: of older versions not every command knows UUID=.
        name = renamer.rename("/dev/" + match["name"], by_uuid=False).removeprefix("/dev/")
        return f"{match['key']}{match['dev'] or ''}{name}"
    return _NAMED.sub(one, text)


def additions(initramfs: Initramfs, renamer: Renamer,
              drivers: Sequence[str]) -> Mapping[str, bytes]:
    before = edits.script(initramfs)
    after = _renamed(before, renamer)
    have = set(map(module_name, _insmods(initramfs)))
    missing = [driver for driver in drivers if driver not in have]
    if missing and built(initramfs):
        after = _with_insmods(after, missing)
    return {"init": after.encode("utf-8", "surrogateescape")} if after != before else {}


def _with_insmods(text: str, modules: Sequence[str]) -> str:
    """Behind the last insmod before the disks are looked for, or where device nodes are made."""
    rows = lines(text)
    end = next((at for at, row in enumerate(rows) if _TOO_LATE.match(row)), len(rows))
    places = [at for at, row in enumerate(rows[:end]) if _INSMOD.match(row)] or [
        at for at, row in enumerate(rows[:end]) if row.split()[:1] == ["mkblkdevs"]]
    if not places:
        raise HostileInput("nash's /init loads no modules and makes no device nodes")
    added = [line for name in modules for line in (f'echo "Loading {name}.ko module"\n',
                                                   f"insmod {_LISTED.place(name)} \n")]
    at = places[-1] + 1
    makes_nodes = [row.split()[:1] == ["mkblkdevs"] for row in rows]
    if any(makes_nodes) and not any(makes_nodes[at:]):
        added.append("mkblkdevs\n")
    return "".join([*rows[:at], *added, *rows[at:]])


def rebuild(reader: Reader, kernel: Kernel,
            drivers: Sequence[str]) -> tuple[tuple[Change, ...], RunInGuest]:
    """-f because it overwrites nothing otherwise. That of Red Hat 4 (kernel 2.6.9) does not see in
    the appliance that root is on LVM; it takes root_lvm=1 from the environment."""
    lvm = kernel.release.startswith("2.6.9") and any(
        "root=/dev/" in entry.cmdline and "root=/dev/sd" not in entry.cmdline
        and "root=/dev/hd" not in entry.cmdline for entry in kernel.entries)
    return (), RunInGuest((*(("env", "root_lvm=1") if lvm else ()), "mkinitrd", "-f",
                           *(f"--with={driver}" for driver in drivers),
                           kernel.initramfs or "", kernel.release),
                          f"build the initramfs of {kernel.release} with the drivers")
