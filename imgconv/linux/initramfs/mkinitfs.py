"""mkinitfs: Alpine Linux. See mkinitfs(1) and mkinitfs-bootparam(7).

Its /init loads modules= of the kernel command line and /etc/modules, and then nlplug-findfs looks
for the root filesystem, and loads on the way what libkmod knows the devices' aliases of.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from imgconv.guest.protocols import Reader
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import edits
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import Kmod, Layout
from imgconv.linux.kernels import Kernel
from imgconv.model import Change, RunInGuest, WriteFile

NAME = "mkinitfs"
LAYOUT: Layout = Kmod(plugger="sbin/nlplug-findfs")

_CONF = "/etc/mkinitfs/mkinitfs.conf"
_FEATURES = "/etc/mkinitfs/features.d"
_OURS = f"{_FEATURES}/imgconv.modules"

#: The features of mkinitfs that bring a driver: features.d/virtio.modules, scsi.modules.
_FEATURE_OF = {"virtio_pci": "virtio", "virtio_blk": "virtio", "virtio_scsi": "scsi",
               "sd_mod": "scsi"}
#: Where a driver is, for a mkinitfs without such a feature.
_PLACES = {"virtio_pci": ("kernel/drivers/virtio",),
           "virtio_blk": ("kernel/drivers/virtio", "kernel/drivers/block/virtio_blk.ko*"),
           "virtio_scsi": ("kernel/drivers/virtio", "kernel/drivers/scsi/virtio_scsi.ko*"),
           "sd_mod": ("kernel/drivers/scsi/sd_mod.ko*",)}

_SETTING = re.compile(r"^(?P<key>[ \t]*features=[\"']?)(?P<value>[^\"'\n]*)", re.MULTILINE)


def detect(reader: Reader) -> bool:
    return reader.size(_CONF) is not None and edits.program(reader, "mkinitfs")


def built(initramfs: Initramfs) -> bool:
    return initramfs.has("sbin/nlplug-findfs") or "Alpine Init" in edits.script(initramfs)


def persist(reader: Reader, renamer: Renamer, drivers: Sequence[str]) -> tuple[WriteFile, ...]:
    wanted: list[str] = []
    places: list[str] = []
    for driver in drivers:
        feature = _FEATURE_OF.get(driver, "imgconv")
        if reader.size(f"{_FEATURES}/{feature}.modules") is None:
            feature = "imgconv"
            places += _PLACES.get(driver, ())
        if feature not in wanted:
            wanted.append(feature)
    changes: list[WriteFile] = []
    if places:
        changes += edits.put(reader, _OURS, lambda text: edits.appended(text, "".join(
            f"{place}\n" for place in dict.fromkeys(places) if place not in text.split("\n"))))
    changes += edits.put(reader, _CONF, lambda text: _with_features(text, wanted))
    return tuple(changes)


def _with_features(text: str, wanted: Sequence[str]) -> str:
    matches = list(_SETTING.finditer(text))
    if not matches:
        return edits.appended(text, f'features="base {" ".join(wanted)}"\n' if wanted else "")
    last = matches[-1]
    missing = [feature for feature in wanted if feature not in last["value"].split()]
    if not missing:
        return text
    value = " ".join([last["value"].rstrip(), *missing])
    return text[:last.start("value")] + value + text[last.end("value"):]


def loads(initramfs: Initramfs, driver: str) -> str | None:
    if "/etc/modules" not in edits.script(initramfs):
        return None
    return "/etc/modules" if driver in edits.listed(edits.text(initramfs, "etc/modules")) else None


def additions(initramfs: Initramfs, renamer: Renamer,
              drivers: Sequence[str]) -> Mapping[str, bytes]:
    before = edits.text(initramfs, "etc/modules")
    after = edits.with_lines(before, drivers)
    return {"etc/modules": after.encode("utf-8", "surrogateescape")} if after != before else {}


def rebuild(reader: Reader, kernel: Kernel,
            drivers: Sequence[str]) -> tuple[tuple[Change, ...], RunInGuest]:
    """mkinitfs looks at no devices: what its features list is what the image gets."""
    return (), RunInGuest(("mkinitfs", "-c", _CONF, "-b", "/", "-o", kernel.initramfs or "",
                           kernel.release),
                          f"build the initramfs of {kernel.release} with the drivers")
