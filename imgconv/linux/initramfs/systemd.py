"""What systemd as /init loads modules by: modules-load.d(5). Shared by the tools that use it."""

from __future__ import annotations

from collections.abc import Sequence

from imgconv.linux import crypttab
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import edits
from imgconv.linux.initramfs.cpio import Initramfs

_PROGRAMS = ("usr/lib/systemd/systemd-modules-load", "lib/systemd/systemd-modules-load")
_UNITS = ("usr/lib/systemd/system", "lib/systemd/system", "etc/systemd/system")
_FOLDERS = ("etc/modules-load.d", "usr/local/lib/modules-load.d", "usr/lib/modules-load.d",
            "lib/modules-load.d")
_OURS = "etc/modules-load.d/imgconv.conf"


def is_init(initramfs: Initramfs) -> bool:
    """Whether /init is systemd and starts what loads modules-load.d."""
    init = initramfs.entries.get(initramfs.resolve("init"))
    return (init is not None and bytes(init.data[:4]) == b"\x7fELF"
            and any(map(initramfs.has, _PROGRAMS))
            and any(initramfs.has(f"{unit}/sysinit.target.wants/systemd-modules-load.service")
                    for unit in _UNITS))


def loads(initramfs: Initramfs, driver: str) -> str | None:
    if not is_init(initramfs):
        return None
    return next((name for folder in _FOLDERS for name in initramfs.below(folder)
                 if name.endswith(".conf")
                 and driver in edits.listed(edits.text(initramfs, name), "#;")), None)


def additions(initramfs: Initramfs, drivers: Sequence[str]) -> dict[str, bytes]:
    """The list of `drivers`, of which something else may load some already."""
    if not is_init(initramfs) or all(loads(initramfs, driver) for driver in drivers):
        return {}
    after = edits.with_lines(edits.text(initramfs, _OURS), drivers)
    return {_OURS: after.encode("utf-8", "surrogateescape")}


def crypttab_names(initramfs: Initramfs, renamer: Renamer) -> dict[str, bytes]:
    """The crypttab that systemd-cryptsetup-generator reads, with the disks renamed."""
    return edits.rewritten(initramfs, ("etc/crypttab",),
                           lambda text: crypttab.rewrite(text, renamer))
