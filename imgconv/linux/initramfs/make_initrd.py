"""make-initrd: ALT Linux. Its configuration /etc/initrd.mk is a part of a Makefile.

Images start udev, which loads drivers; lists of modules are there as well, but where they are and
whether they are read differs from version to version, so that they prove nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import edits
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import KMOD, Layout
from imgconv.linux.kernels import Kernel
from imgconv.linux.modinfo import normalise
from imgconv.model import Change, RunInGuest, WriteFile

NAME = "make-initrd"
LAYOUT: Layout = KMOD

_CONF = "/etc/initrd.mk"
_CONF_D = "/etc/initrd.mk.d"
_SETTING = re.compile(r"^[ \t]*MODULES_(?:ADD|TRY_ADD|LOAD|PRELOAD)[ \t]*[+:?]?=(?P<value>.*)",
                      re.MULTILINE)
_DEVICES = re.compile(r"^[ \t]*DEVICES[ \t]*[+:?]?=.*", re.MULTILINE)


def detect(reader: Reader) -> bool:
    return edits.program(reader, "make-initrd") and (
        reader.size(_CONF) is not None or reader.is_dir(_CONF_D))


def built(initramfs: Initramfs) -> bool:
    return initramfs.has("etc/initrd") or initramfs.has("lib/initrd") or initramfs.has(".initrd")


def _with_modules(text: str, renamer: Renamer, drivers: Sequence[str]) -> str:
    text = _DEVICES.sub(lambda match: edits.devices(match[0], renamer), text)
    have = {normalise(word) for match in _SETTING.finditer(text.replace("\\\n", " "))
            for word in match["value"].partition("#")[0].split()}
    missing = [driver for driver in drivers if driver not in have]
    return edits.appended(text, f"MODULES_TRY_ADD += {' '.join(missing)}\n" if missing else "")


def persist(reader: Reader, renamer: Renamer, drivers: Sequence[str]) -> tuple[WriteFile, ...]:
    """Each file in /etc/initrd.mk.d makes an image of its own; /etc/initrd.mk is the usual one.
    TRY, because a kernel may have a driver built in."""
    paths = [f"{_CONF_D}/{name}" for name in reader.names(_CONF_D) if name.endswith(".mk")]
    if read_text(reader, _CONF) is not None or not paths:
        paths = [_CONF, *paths]
    return tuple(change for path in paths for change in edits.put(
        reader, path, lambda text: _with_modules(text, renamer, drivers)))


def loads(initramfs: Initramfs, driver: str) -> str | None:
    return None


def additions(initramfs: Initramfs, renamer: Renamer,
              drivers: Sequence[str]) -> Mapping[str, bytes]:
    return {}


def rebuild(reader: Reader, kernel: Kernel,
            drivers: Sequence[str]) -> tuple[tuple[Change, ...], RunInGuest]:
    """It guesses at the appliance's devices, and adds to that what the configuration lists. The
    image's name is its own affair: /boot/initrd-RELEASE.img."""
    return (), RunInGuest(("make-initrd", "-k", kernel.release),
                          f"build the initramfs of {kernel.release} with the drivers")
