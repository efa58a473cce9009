"""mkinitrd of SUSE: SLES 10 and 11, openSUSE up to 13.1. See mkinitrd(8) there.

/init reads /run_all.sh, or the files in /boot one by one with those in /config. Both set
RESOLVED_INITRD_MODULES, which is loaded by modprobe before udev starts; udev loads the rest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import edits
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import KMOD, Layout
from imgconv.linux.kernels import Kernel
from imgconv.linux.modinfo import normalise
from imgconv.model import Change, RunInGuest, WriteFile

NAME = "SUSE mkinitrd"
LAYOUT: Layout = KMOD

_SYSCONFIG = "/etc/sysconfig/kernel"
_SETTING = re.compile(r"^(?P<key>[ \t]*INITRD_MODULES=)(?P<quote>[\"']?)(?P<value>[^\"'\n]*)",
                      re.MULTILINE)
_ALL = "run_all.sh"
_START = "config/start.sh"
_RESOLVED = re.compile(r"(?P<key>RESOLVED_INITRD_MODULES=')(?P<value>[^'\n]*)'")


def detect(reader: Reader) -> bool:
    """Red Hat's has nash, and dracut's wrapper of that name has dracut."""
    return edits.program(reader, "mkinitrd") and (
        reader.is_dir("/lib/mkinitrd")
        or (not edits.program(reader, "dracut")
            and "INITRD_MODULES" in (read_text(reader, _SYSCONFIG) or "")))


def built(initramfs: Initramfs) -> bool:
    return initramfs.has(_ALL) or initramfs.has(_START)


def _words(text: str, names: Sequence[str]) -> str:
    known = {normalise(word) for word in text.split()}
    return " ".join([*text.split(), *(name for name in names if name not in known)])


def _with_modules(text: str, drivers: Sequence[str]) -> str:
    matches = list(_SETTING.finditer(text))
    if not matches:
        return edits.appended(text,
                              f'INITRD_MODULES="{" ".join(drivers)}"\n' if drivers else "")
    last = matches[-1]
    value = _words(last["value"], drivers)
    if value == " ".join(last["value"].split()):
        return text
    quote = last["quote"] or '"'
    end = last.end() + (1 if last["quote"] else 0)
    return text[:last.start("quote")] + quote + value + quote + text[end:]


def persist(reader: Reader, renamer: Renamer, drivers: Sequence[str]) -> tuple[WriteFile, ...]:
    return edits.put(reader, _SYSCONFIG, lambda text: _with_modules(text, drivers))


def _list(initramfs: Initramfs) -> str:
    """The file whose list counts: run_all.sh has taken in the others."""
    return _ALL if initramfs.has(_ALL) else _START


def loads(initramfs: Initramfs, driver: str) -> str | None:
    name = _list(initramfs)
    matches = _RESOLVED.findall(edits.text(initramfs, name))
    # [ "$RESOLVED_INITRD_MODULES" ] || RESOLVED_INITRD_MODULES='...': the first one counts.
    if matches and driver in map(normalise, matches[0][1].split()):
        return f"RESOLVED_INITRD_MODULES of /{name}"
    return None


def additions(initramfs: Initramfs, renamer: Renamer,
              drivers: Sequence[str]) -> Mapping[str, bytes]:
    """rootdev= and resumedev= count when the kernel command line says nothing else."""
    first = _list(initramfs)

    def added(text: str, name: str) -> str:
        if all(loads(initramfs, driver) for driver in drivers):
            return text
        if _RESOLVED.search(text):
            return _RESOLVED.sub(
                lambda match: match["key"] + _words(match["value"], drivers) + "'", text)
        # With no modules at all mkinitrd writes no such line.
        return f"RESOLVED_INITRD_MODULES='{' '.join(drivers)}'\n{text}" if name == first else text

    lists = (_ALL, _START)

    def renamed(name: str, text: str) -> str:
        return edits.devices(added(text, name) if name in lists else text, renamer)

    names = [*lists, *(name for name in initramfs.below("config")
                       if name.endswith(".sh") and name not in lists)]
    return {key: content for name in names for key, content in edits.rewritten(
        initramfs, (name,), partial(renamed, name)).items()}


def rebuild(reader: Reader, kernel: Kernel,
            drivers: Sequence[str]) -> tuple[tuple[Change, ...], RunInGuest]:
    """Without -k and -i it would build one for every kernel, without -m only what /etc/sysconfig
    lists, which need not yet be right for this kernel; -B leaves the boot loader alone. -d because
    it would take the root device from what is mounted in the appliance."""
    listed = [match["value"] for match in _SETTING.finditer(read_text(reader, _SYSCONFIG) or "")]
    argv = ["mkinitrd", "-k", kernel.image, "-i", kernel.initramfs or "",
            "-m", _words(listed[-1] if listed else "", drivers), "-B"]
    roots = [word for entry in kernel.entries[:1] for word in entry.cmdline.split()
             if word.startswith("root=UUID=")]
    if roots:
        argv += ["-d", "/dev/disk/by-uuid/" + roots[-1].removeprefix("root=UUID=")]
    return (), RunInGuest(tuple(argv), f"build the initramfs of {kernel.release} with the drivers")
