"""Does this initramfs bring up the disks? Both planning and verification ask here.

The modules themselves are the witnesses: `depends=` and `vermagic=` are read from each one that is
in the initramfs, and compared with the index by which kmod finds them and with what loads them.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from imgconv.errors import HostileInput
from imgconv.linux import modindex, modinfo
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import Coldplug, Layout
from imgconv.linux.initramfs.tool import InitramfsTool
from imgconv.linux.modules import ModuleTree

#: How the kernel announces the devices QEMU presents; what udev looks up in modules.alias.
MODALIASES = {
    "virtio_pci": ("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00",
                   "pci:v00001AF4d00001042sv00001AF4sd00001100bc01sc00i00"),
    "virtio_blk": ("virtio:d00000002v00001AF4",),
    "virtio_scsi": ("virtio:d00000008v00001AF4",),
    "sd_mod": ("scsi:t-0x00",),
}

#: More modules than this no driver needs (virtio_scsi and sd_mod: nine), nor has it more aliases or
#: is modprobe's configuration longer (bytes).
MAX_CLOSURE = 64
_MAX_ALIASES = 1000
_MODPROBE_LIMIT = 4 << 20

_MODPROBE_D = ("etc/modprobe.d", "lib/modprobe.d", "usr/lib/modprobe.d", "run/modprobe.d")


@dataclass(slots=True)
class Result:
    """`problems` keeps the guest from booting; `evidence` is what was found to be right."""

    problems: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)


def drivers(initramfs: Initramfs, tree: ModuleTree, arch: str, wanted: Iterable[str],
            tool: InitramfsTool) -> Result:
    """Whether each driver in `wanted` is in the initramfs with all it needs, can be found by kmod,
    fits the kernel, and is loaded by something."""
    result = Result()
    layout = tool.LAYOUT
    needed = [driver for driver in wanted if driver not in tree.builtin]
    result.evidence += [f"{d} is built into the kernel" for d in wanted if d in tree.builtin]
    if not needed:
        return result
    try:
        _init(initramfs, result)
        folder = layout.folder(initramfs, tree.release)
        index = layout.index(initramfs, folder)
        present = layout.present(initramfs, folder)
        coldplug = layout.coldplug(initramfs, folder)
        for driver in needed:
            if _closure(initramfs, tree, arch, driver, layout, present, index, folder, result):
                _trigger(initramfs, driver, coldplug, tool, result)
    except HostileInput as error:
        result.problems.append(error.message)
    return result


def _init(initramfs: Initramfs, result: Result) -> None:
    """The kernel starts no /init that is not executable."""
    entry = initramfs.entries.get(initramfs.resolve("init"))
    if entry is not None and stat.S_ISREG(entry.mode) and not entry.mode & 0o111:
        result.problems.append("/init is not executable")


def _closure(initramfs: Initramfs, tree: ModuleTree, arch: str, driver: str, layout: Layout,
             present: dict[str, str], index: dict[str, tuple[str, ...]] | None, folder: str,
             result: Result) -> bool:
    """Walk the modules that `driver` needs by what they say themselves."""
    todo, seen = [driver], set[str]()
    before = len(result.problems)
    rows = index.get(driver) if index is not None else None
    # Where kmod would look, which need not be where a file of that name is.
    places = present | {modindex.module_name(path): f"{folder}/{path}" for path in rows or ()}
    while todo:
        name = todo.pop()
        if name in seen or name in tree.builtin:
            continue
        seen.add(name)
        if len(seen) > MAX_CLOSURE:
            raise HostileInput(f"{driver} is said to need more than {MAX_CLOSURE} modules")
        path = places.get(name)
        content = initramfs.read(path) if path is not None else None
        if content is None:
            needed = "" if name == driver else f", which {driver} needs"
            result.problems.append(f"the module {name}{needed} is missing")
            continue
        if not layout.packed and content[:4] != b"\x7fELF":
            result.problems.append(f"{name} is compressed, and this /init cannot unpack modules")
        info = modinfo.read(content)
        if info.name not in (name, ""):  # before Linux 4.11 modules did not say theirs
            result.problems.append(f"what should be {name} is {info.name}")
        if info.release != tree.release:
            result.problems.append(f"{name} is for kernel {info.release}, not {tree.release}")
        if info.arch != arch:
            result.problems.append(f"{name} is for {info.arch}, not {arch}")
        todo += info.depends
    if rows is None:
        result.problems.append(f"{layout.index_name} does not know {driver}")
    else:
        listed = {modindex.module_name(path) for path in rows}
        for name in sorted(seen - listed):
            result.problems.append(f"{layout.index_name} does not say that {driver} needs "
                                   f"{name}")
        for path in rows:
            if not initramfs.has(f"{folder}/{path}"):
                result.problems.append(f"{layout.index_name} names {path}, which is not there")
    if len(result.problems) > before:
        return False
    others = ", ".join(sorted(seen - {driver}))
    result.evidence.append(f"{driver} for {tree.release}" + (f" with {others}" if others else ""))
    return True


def _forbidden(initramfs: Initramfs, driver: str) -> str | None:
    """The line of modprobe's configuration that keeps `driver` from being loaded."""
    left = _MODPROBE_LIMIT
    for name in (name for folder in _MODPROBE_D for name in initramfs.below(folder)):
        content = initramfs.read(name) or b""
        left -= len(content)
        if left < 0:
            raise HostileInput("modprobe's configuration inside the initramfs is too large")
        for line in content.decode("utf-8", "replace").split("\n"):
            words = line.split()
            if words[:1] in (["blacklist"], ["install"]) and [
                    modinfo.normalise(word) for word in words[1:2]] == [driver]:
                return f"{name}: {line.strip()[:200]}"
    return None


def _trigger(initramfs: Initramfs, driver: str, coldplug: Coldplug | None, tool: InitramfsTool,
             result: Result) -> None:
    """Something must load the driver: the tool's own list, or (mostly) udev by the device's alias.
    """
    if (line := _forbidden(initramfs, driver)) is not None:
        result.problems.append(f"{driver} is kept from being loaded by {line}")
        return
    by_tool = tool.loads(initramfs, driver)
    patterns = [item.key for item in (coldplug.aliases if coldplug else ())
                if item.value == driver]
    if len(patterns) > _MAX_ALIASES:
        raise HostileInput(f"{driver} has more than {_MAX_ALIASES} aliases")
    names = [modindex.normalise_alias(name) for name in MODALIASES.get(driver, ())]
    by_alias = any(fnmatchcase(name, pattern) for pattern in patterns for name in names)
    ways = ([by_tool] if by_tool else []) + ([coldplug.by] if coldplug and by_alias else [])
    if not ways:
        result.problems.append(f"nothing in the initramfs loads {driver}")
        return
    result.evidence.append(f"{driver} is loaded by {' and '.join(ways)}")


def names(initramfs: Initramfs, renamer: Renamer, tool: InitramfsTool) -> Result:
    """Whether the configuration inside the initramfs names only disks that are there."""
    result = Result()
    try:
        left = tool.additions(initramfs, renamer, ())
    except HostileInput as error:
        return Result([error.message])
    result.problems += [f"{name} inside the initramfs names a disk as it was on the old bus"
                        for name in left]
    return result
