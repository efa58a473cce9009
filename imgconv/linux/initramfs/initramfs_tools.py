"""initramfs-tools: Debian, Ubuntu and theirs. See initramfs-tools(7) and initramfs.conf(5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from imgconv.guest.protocols import Reader, read_text, to_bytes
from imgconv.linux import crypttab
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit
from imgconv.linux.initramfs import edits
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import KMOD, Layout
from imgconv.linux.kernels import Kernel
from imgconv.model import Change, RunInGuest, WriteFile

NAME = "initramfs-tools"
LAYOUT: Layout = KMOD

#: The copy inside the initramfs, of the lines that the root filesystem needs.
_CRYPTTAB = "cryptroot/crypttab"

_FOLDER = "/etc/initramfs-tools"
_MODULES = f"{_FOLDER}/modules"
_CONF_D = f"{_FOLDER}/conf.d"
#: Sorts behind the files that installers write (driver-policy), because the last one wins.
_OVERRIDE = f"{_CONF_D}/zz-imgconv"

_RESUME = re.compile(r"^(?P<key>[ \t]*(?:export[ \t]+)?(?:RESUME|ROOT)=)(?P<quote>[\"']?)"
                     r"(?P<spec>/dev/[^\s\"']+)", re.MULTILINE)
#: conf/conf.d/cryptroot of Debian 9 and before: target=root,source=/dev/sda5,key=none,...
_CRYPTROOT = re.compile(r"(?P<key>^(?:[^\s,]*,)*?source=)(?P<spec>[^\s,]+)", re.MULTILINE)
_SETTING = re.compile(r"^[ \t]*MODULES=[\"']?(?P<value>\w+)", re.MULTILINE)


def detect(reader: Reader) -> bool:
    # Not update-initramfs: Debian's dracut brings one of that name.
    return reader.size("/usr/sbin/mkinitramfs") is not None


def built(initramfs: Initramfs) -> bool:
    return initramfs.has("conf/arch.conf") or initramfs.has("scripts/functions")


def _rename(text: str, renamer: Renamer) -> str:
    text = _RESUME.sub(lambda m: f"{m['key']}{m['quote']}{renamer.rename(m['spec'])}", text)
    return _CRYPTROOT.sub(lambda m: m["key"] + renamer.rename(m["spec"]), text)


def _conf_files(reader: Reader) -> tuple[str, ...]:
    return (f"{_FOLDER}/initramfs.conf", *(f"{_CONF_D}/{name}" for name in reader.names(_CONF_D)))


def _policy(reader: Reader) -> str:
    """MODULES= as mkinitramfs takes it: most, dep, netboot or list. The last setting counts."""
    settings = [match["value"] for path in _conf_files(reader)
                for match in _SETTING.finditer(read_text(reader, path) or "")]
    return settings[-1] if settings else "most"


def _listed(text: str) -> set[str]:
    """The modules that a modules file names: one a line, with arguments, # begins a comment."""
    lines = (line.partition("#")[0].split() for line in text.split("\n"))
    return {words[0].replace("-", "_") for words in lines if words}


def _with_modules(text: str, drivers: Sequence[str]) -> str:
    missing = [driver for driver in drivers if driver not in _listed(text)]
    if text and not text.endswith("\n") and missing:
        text += "\n"
    return text + "".join(f"{driver}\n" for driver in missing)


def persist(reader: Reader, renamer: Renamer, drivers: Sequence[str]) -> tuple[WriteFile, ...]:
    changes: list[WriteFile] = []
    before = read_text(reader, _MODULES)
    # MODULES=most brings every driver of a disk along.
    wanted = () if _policy(reader) == "most" else drivers
    after = _with_modules(before or "", wanted)
    if after != (before or ""):
        changes.append(WriteFile(_MODULES, to_bytes(after),
                                 None if before is None else to_bytes(before),
                                 "the guest's own next initramfs must keep the drivers"))
    for path in _conf_files(reader):
        changes += edit(reader, path, lambda text: _rename(text, renamer),
                        "an initramfs waits in vain for a resume device under its old name")
    return tuple(changes)


def loads(initramfs: Initramfs, driver: str) -> str | None:
    text = (initramfs.read("conf/modules") or b"").decode("utf-8", "surrogateescape")
    return "conf/modules" if driver in _listed(text) else None


def additions(initramfs: Initramfs, renamer: Renamer,
              drivers: Sequence[str]) -> Mapping[str, bytes]:
    conf = [name for name in initramfs.below("conf") if name.startswith(("conf/conf.d/",
            "conf/param.conf", "conf/initramfs.conf"))]
    files = edits.rewritten(initramfs, conf, lambda text: _rename(text, renamer))
    files |= edits.rewritten(initramfs, (_CRYPTTAB,), lambda text: crypttab.rewrite(text, renamer))
    before = edits.text(initramfs, "conf/modules")
    after = _with_modules(before, drivers)
    return files | ({"conf/modules": to_bytes(after)} if after != before else {})


def rebuild(reader: Reader, kernel: Kernel,
            drivers: Sequence[str]) -> tuple[tuple[Change, ...], RunInGuest]:
    """MODULES=dep collects what the machine needs on which update-initramfs runs, and here that is
    the appliance: MODULES=most overrides it."""
    override: tuple[Change, ...] = ()
    if _policy(reader) == "dep":
        override = (WriteFile(_OVERRIDE, b"# written by imgconv: MODULES=dep would have left out "
                              b"the drivers of the other bus\nMODULES=most\n",
                              None, "MODULES=dep would look at the appliance's devices"),)
    return override, RunInGuest(("update-initramfs", "-u", "-k", kernel.release),
                                f"build the initramfs of {kernel.release} with the drivers")
