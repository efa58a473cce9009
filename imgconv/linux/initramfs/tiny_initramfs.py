"""tiny-initramfs: Debian. See mktirfs(8) and tiny-initramfs' README.md, "Support for loading
modules": /init is a small program that loads the files that /modules lists, in that order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from imgconv.guest.protocols import Reader
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import edits
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import Layout
from imgconv.linux.initramfs.listed import Listed
from imgconv.linux.kernels import Kernel
from imgconv.linux.modindex import module_name
from imgconv.linux.modinfo import normalise
from imgconv.model import Change, RunInGuest, WriteFile

NAME = "tiny-initramfs"

_CONF = "/etc/tiny-initramfs/tiny-initramfs.conf"
_SETTING = re.compile(r"^(?P<key>[ \t]*INCLUDE_MODULES=)(?P<quote>[\"']?)(?P<value>[^\"'\n]*)",
                      re.MULTILINE)
_MODULES = "modules"


def _paths(initramfs: Initramfs) -> list[str]:
    rows = (line.split() for line in edits.text(initramfs, _MODULES).split("\n"))
    return [row[0] for row in rows if row]


_LISTED = Listed(paths=_paths, home="", index_name="/modules")
LAYOUT: Layout = _LISTED


def detect(reader: Reader) -> bool:
    return edits.program(reader, "mktirfs")


def built(initramfs: Initramfs) -> bool:
    """/init is a program, there is /target, and no userland at all."""
    init = initramfs.entries.get("init")
    return (init is not None and bytes(init.data[:4]) == b"\x7fELF" and initramfs.has("target")
            and not any(map(initramfs.has, ("bin", "usr", "lib/modules", "lib/systemd"))))


def _with_modules(text: str, drivers: Sequence[str]) -> str:
    """The file is read by a shell, and need not exist."""
    matches = list(_SETTING.finditer(text))
    if not matches:
        return edits.appended(text,
                              f'INCLUDE_MODULES="{",".join(drivers)}"\n' if drivers else "")
    last = matches[-1]
    words = [word for word in last["value"].split(",") if word]
    missing = [driver for driver in drivers if driver not in map(normalise, words)]
    if not missing:
        return text
    return text[:last.start("value")] + ",".join([*words, *missing]) + text[last.end("value"):]


def persist(reader: Reader, renamer: Renamer, drivers: Sequence[str]) -> tuple[WriteFile, ...]:
    return edits.put(reader, _CONF, lambda text: _with_modules(text, drivers))


def loads(initramfs: Initramfs, driver: str) -> str | None:
    return "/modules" if driver in map(module_name, _paths(initramfs)) else None


def additions(initramfs: Initramfs, renamer: Renamer,
              drivers: Sequence[str]) -> Mapping[str, bytes]:
    have = set(map(module_name, _paths(initramfs)))
    missing = [driver for driver in drivers if driver not in have]
    if not missing:
        return {}
    before = edits.text(initramfs, _MODULES)
    after = before + ("" if not before or before.endswith("\n") else "\n") + "".join(
        f"{_LISTED.place(name)}\n" for name in missing)
    return {_MODULES: after.encode("utf-8", "surrogateescape")}


def rebuild(reader: Reader, kernel: Kernel,
            drivers: Sequence[str]) -> tuple[tuple[Change, ...], RunInGuest]:
    """mktirfs adds the drivers of the appliance's disk to those that are listed, and not those of
    the guest's old one; and -M yes would take microcode for the host's processor."""
    return (), RunInGuest(("mktirfs", "-o", kernel.initramfs or "", "-M", "generic",
                           kernel.release),
                          f"build the initramfs of {kernel.release} with the drivers")
