"""mkinitcpio: Arch Linux and its relatives. See mkinitcpio(8).

Its images have busybox's shell as /init, which loads MODULES= of /config and then starts udev, or
systemd (the hook `systemd`), for which it lists MODULES in modules-load.d.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from imgconv.errors import ImgconvError
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import edits, systemd
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import KMOD, Layout
from imgconv.linux.kernels import Kernel
from imgconv.linux.modinfo import normalise
from imgconv.model import Change, RunInGuest, WriteFile

NAME = "mkinitcpio"
LAYOUT: Layout = KMOD

_CONF = "/etc/mkinitcpio.conf"
_CONF_D = "/etc/mkinitcpio.conf.d"
_PRESETS = "/etc/mkinitcpio.d"
#: Sorts behind the others, because the last one wins.
_OVERRIDE = f"{_CONF_D}/zz-imgconv.conf"

#: MODULES=(ext4 virtio) with any number of lines, MODULES+=(...), and the string of old versions.
_SETTING = re.compile(r"^[ \t]*MODULES(?P<plus>\+?)=(?:\((?P<list>[^)]*)\)|\"(?P<text>[^\"]*)\""
                      r"|(?P<word>[^\s(\"]*))", re.MULTILINE)
_STRING = re.compile(r"^(?P<key>[ \t]*MODULES=\")(?P<value>[^\"]*)\"", re.MULTILINE)
_PRESET_CONFIG = re.compile(r"^[ \t]*\w+_config=[\"']?(?P<path>/[^\s\"']+)", re.MULTILINE)
#: The same inside an image, where the last assignment counts.
_INSIDE = re.compile(r"^MODULES=(?P<quote>[\"']?)(?P<value>[^\"'\n]*)[\"']?$", re.MULTILINE)


def detect(reader: Reader) -> bool:
    return reader.size(_CONF) is not None and edits.program(reader, "mkinitcpio")


def built(initramfs: Initramfs) -> bool:
    return initramfs.has("buildconfig") or initramfs.has("init_functions")


# --- its configuration ----------------------------------------------------------------------------


def _words(text: str) -> list[str]:
    """Module names; a ? behind one means that it may be missing."""
    plain = " ".join(line.partition("#")[0] for line in text.split("\n"))
    return [normalise(word.strip("\"'").rstrip("?")) for word in plain.split()]


def _modules(texts: Sequence[str]) -> set[str]:
    """MODULES after the shell has read `texts` one behind the other."""
    found: set[str] = set()
    for match in (match for text in texts for match in _SETTING.finditer(text)):
        words = set(_words(match["list"] or match["text"] or match["word"] or ""))
        found = found | words if match["plus"] else words
    return found


def _with_modules(text: str, drivers: Sequence[str]) -> str:
    missing = [driver for driver in drivers if driver not in _modules([text])]
    if not missing:
        return text
    # To a string += would add a second element behind it, and mkinitcpio splits only the first.
    if (match := list(_STRING.finditer(text))[-1:]) and "MODULES=(" not in text:
        value = " ".join([*match[0]["value"].split(), *missing])
        return text[:match[0].start("value")] + value + text[match[0].end("value"):]
    return edits.appended(text, f"MODULES+=({' '.join(missing)})\n")


def persist(reader: Reader, renamer: Renamer, drivers: Sequence[str]) -> tuple[WriteFile, ...]:
    """Every file that is read alone (a preset may name one, and then there are no drop-ins), and
    what comes out when the drop-ins (since version 39) are read behind the main one."""
    presets = [read_text(reader, f"{_PRESETS}/{name}") or "" for name in reader.names(_PRESETS)
               if name.endswith(".preset")]
    configs = dict.fromkeys([_CONF, *(match["path"] for text in presets
                                      for match in _PRESET_CONFIG.finditer(text))])
    changes: list[WriteFile] = []
    for path in configs:
        if reader.size(path) is not None:
            changes += edits.put(reader, path, lambda text: _with_modules(text, drivers))
    main = _with_modules(read_text(reader, _CONF) or "", drivers)
    drop_ins = [read_text(reader, f"{_CONF_D}/{name}") or "" for name in reader.names(_CONF_D)
                if name.endswith(".conf")]
    if any(driver not in _modules([main, *drop_ins]) for driver in drivers):
        # The other drop-ins may add some of them, or not, when they change.
        override = edits.put(reader, _OVERRIDE, lambda text: _with_modules(text, drivers))
        if not override:
            raise ImgconvError(f"a file behind {_OVERRIDE} sets MODULES again",
                               hint=f"add MODULES+=({' '.join(drivers)}) there, in the guest")
        changes += override
    return tuple(changes)


# --- inside an initramfs --------------------------------------------------------------------------


def _shell_is_init(initramfs: Initramfs) -> bool:
    init = edits.script(initramfs)
    return "/config" in init and "MODULES" in init


def _inside(text: str) -> re.Match[str] | None:
    return next(iter(list(_INSIDE.finditer(text))[-1:]), None)


def loads(initramfs: Initramfs, driver: str) -> str | None:
    if (by := systemd.loads(initramfs, driver)) is not None:
        return by
    match = _inside(edits.text(initramfs, "config"))
    if match is not None and driver in _words(match["value"]) and _shell_is_init(initramfs):
        return "MODULES= of /config"
    return None


def additions(initramfs: Initramfs, renamer: Renamer,
              drivers: Sequence[str]) -> Mapping[str, bytes]:
    files = systemd.crypttab_names(initramfs, renamer)
    if all(loads(initramfs, driver) for driver in drivers):
        return files
    files |= systemd.additions(initramfs, drivers)
    if _shell_is_init(initramfs):
        before = edits.text(initramfs, "config")
        match = _inside(before)
        words = match["value"].split() if match is not None else []
        value = " ".join([*words, *(d for d in drivers if d not in _words(" ".join(words)))])
        after = (before[:match.start()] + f'MODULES="{value}"' + before[match.end():]
                 if match is not None else
                 before + ("" if not before or before.endswith("\n") else "\n")
                 + f'MODULES="{value}"\n')
        files["config"] = after.encode("utf-8", "surrogateescape")
    return files


def rebuild(reader: Reader, kernel: Kernel,
            drivers: Sequence[str]) -> tuple[tuple[Change, ...], RunInGuest]:
    """The hook autodetect would look at the appliance's devices. A preset would build the fallback
    image and a unified kernel as well, so the image is named."""
    return (), RunInGuest(("mkinitcpio", "-k", kernel.release, "-S", "autodetect",
                           "-g", kernel.initramfs or ""),
                          f"build the initramfs of {kernel.release} with the drivers")
