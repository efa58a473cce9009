"""Splicing: append one more archive with the drivers to an initramfs. No guest code runs.

The archive holds the modules with their whole dependency closure, kmod's indexes with these modules
merged in, and what makes the tool's scripts load them.
"""

from __future__ import annotations

from collections.abc import Sequence

from imgconv.errors import ImgconvError
from imgconv.guest.protocols import CONFIG_LIMIT, Reader, read_text
from imgconv.linux import modindex
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import check, cpio
from imgconv.linux.initramfs.check import MAX_CLOSURE, module_folder
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.tool import InitramfsTool
from imgconv.linux.modindex import Item
from imgconv.linux.modinfo import LIMIT
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
    files = dict(tool.additions(initramfs, renamer,
                                [driver for driver in drivers if driver not in tree.builtin]))
    closure = tree.closure(drivers)
    if len(closure) > MAX_CLOSURE:
        raise ImgconvError(f"modules.dep of kernel {tree.release} says that {', '.join(drivers)} "
                           f"need {len(closure)} modules")
    folder = module_folder(initramfs, tree.release)
    present = {modindex.module_name(name): name.removeprefix(f"{folder}/")
               for name in initramfs.below(folder) if ".ko" in name.rpartition("/")[2]}
    added = [module for module in closure
             if modindex.module_name(module) not in present]
    files.update({f"{folder}/{module}": reader.read(f"{tree.folder}/{module}", LIMIT)
                  for module in added})
    # Also what is there already may be missing from the indexes, or named in them by other paths.
    files.update(_indexes(reader, initramfs, tree, folder, present, closure))
    appendix = cpio.appendix(initramfs, files)
    left = check.drivers(cpio.with_files(initramfs, files), tree, arch, drivers, tool).problems
    if left:
        raise ImgconvError(f"splicing would not help {path}: {left[0]}")
    return AppendFile(path, appendix,
                      f"the initramfs of {tree.release} needs {', '.join(drivers)}",
                      tuple(sorted(files)))


def _indexes(reader: Reader, initramfs: Initramfs, tree: ModuleTree, folder: str,
             present: dict[str, str], closure: Sequence[str]) -> dict[str, bytes]:
    """kmod's indexes of the initramfs with the modules of `closure` merged in.

    The text files serve busybox and depmod, kmod itself reads only the binary ones.
    """
    names = {modindex.module_name(path) for path in closure}

    def here(path: str) -> str:
        return present.get(modindex.module_name(path), path)

    dep = [f"{here(path)}: {' '.join(map(here, _all_needed(tree, path)))}".rstrip()
           for path in closure]
    alias = [f"alias {pattern} {name}" for pattern, name in _aliases(reader, tree, "alias")
             if name in names]
    symbols = [f"alias {pattern} {name}" for pattern, name in _aliases(reader, tree, "symbols")
               if name in names]
    listed = read_text(reader, f"{tree.folder}/modules.softdep", CONFIG_LIMIT) or ""
    softdep = [line for line in listed.split("\n")
               if line.split()[1:2] and line.split()[1] in names]
    files: dict[str, bytes] = {}
    for name, lines in (("dep", dep), ("alias", alias), ("symbols", symbols),
                        ("softdep", softdep)):
        text = (initramfs.read(f"{folder}/modules.{name}") or b"").decode("utf-8",
                                                                          "surrogateescape")
        known = _without(text.split("\n"), names if name == "dep" else set())
        merged = list(dict.fromkeys([*known, *lines]))
        files[f"{folder}/modules.{name}"] = "".join(f"{line}\n" for line in merged).encode(
            "utf-8", "surrogateescape")
        if name == "softdep":
            continue
        binary = initramfs.read(f"{folder}/modules.{name}.bin")
        # Without a binary index kmod goes by the text, and with one no longer.
        old = modindex.read(binary) if binary is not None else [
            _item(name, line, index) for index, line in enumerate(known) if _is_row(name, line)]
        if name == "dep":
            old = [item for item in old if item.key not in names]
        first = 1 + max((item.priority for item in old), default=0)
        new = [_item(name, line, first + index) for index, line in enumerate(lines)]
        have = {(item.key, item.value) for item in old}
        files[f"{folder}/modules.{name}.bin"] = modindex.write(
            [*old, *(item for item in new if (item.key, item.value) not in have)])
    return files


def _item(name: str, line: str, priority: int) -> Item:
    if name == "dep":
        # kmod writes "path:" with the blank only before a dependency.
        return Item(modindex.module_name(line.partition(":")[0]), priority, line)
    _, pattern, module = line.split()
    return Item(modindex.normalise_alias(pattern), priority, module)


def _is_row(name: str, line: str) -> bool:
    return ":" in line if name == "dep" else line.startswith("alias ") and len(line.split()) == 3


def _without(lines: list[str], names: set[str]) -> list[str]:
    return [line for line in lines
            if line and modindex.module_name(line.partition(":")[0]) not in names]


def _all_needed(tree: ModuleTree, path: str) -> tuple[str, ...]:
    """What `path` needs, the most dependent first, as depmod lists it and modprobe wants it."""
    return tuple(reversed([need for need in tree.closure([modindex.module_name(path)])
                           if need != path]))


def _aliases(reader: Reader, tree: ModuleTree, name: str) -> tuple[tuple[str, str], ...]:
    return modindex.parse_alias(
        read_text(reader, f"{tree.folder}/modules.{name}", CONFIG_LIMIT) or "")
