"""Splicing: append one more archive with the drivers to an initramfs. No guest code runs.

The archive holds the modules with their whole dependency closure, the indexes with these modules
merged in, and what makes the tool's scripts load them.
"""

from __future__ import annotations

from collections.abc import Sequence

from imgconv.errors import ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import check, cpio
from imgconv.linux.initramfs.check import MAX_CLOSURE
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.tool import InitramfsTool
from imgconv.linux.modules import ModuleTree
from imgconv.model import AppendFile


def plan(reader: Reader, path: str, initramfs: Initramfs, tree: ModuleTree, arch: str,
         renamer: Renamer, drivers: Sequence[str], tool: InitramfsTool) -> AppendFile:
    """The change that splices `drivers` into the initramfs at `path`.

    Raises ImgconvError when a module is not installed in the guest, or what is in the initramfs
    already keeps the drivers from working.
    """
    absent = [driver for driver in drivers if not tree.has(driver)]
    if absent:
        raise ImgconvError(f"kernel {tree.release} has no module {', '.join(absent)}")
    closure = tree.closure(drivers)
    if len(closure) > MAX_CLOSURE:
        raise ImgconvError(f"modules.dep of kernel {tree.release} says that {', '.join(drivers)} "
                           f"need {len(closure)} modules")
    files = dict(tool.additions(initramfs, renamer, tool.LAYOUT.to_load(tree, drivers)))
    files.update(tool.LAYOUT.files(reader, initramfs, tree, closure))
    appendix = cpio.appendix(initramfs, files)
    left = check.drivers(cpio.with_files(initramfs, files), tree, arch, drivers, tool).problems
    if left:
        raise ImgconvError(f"splicing would not help {path}: {left[0]}")
    return AppendFile(path, appendix,
                      f"the initramfs of {tree.release} needs {', '.join(drivers)}",
                      tuple(sorted(files)))
