"""Where the modules are inside an initramfs, and by what its init finds, orders and loads them.

Most tools keep the tree that kmod knows (`KMOD`); a few write a list of their own (`listed.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from imgconv.guest.protocols import CONFIG_LIMIT, Reader, read_text
from imgconv.linux import modindex
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.modindex import Item
from imgconv.linux.modinfo import LIMIT
from imgconv.linux.modules import ModuleTree

#: udev's daemon, and the folders of its rules: 80-drivers.rules is what makes it load modules.
_UDEVD = ("sbin/udevd", "usr/sbin/udevd", "lib/udev/udevd", "lib/systemd/systemd-udevd",
          "usr/lib/systemd/systemd-udevd")
_RULES = ("lib/udev/rules.d", "usr/lib/udev/rules.d", "etc/udev/rules.d")


@dataclass(frozen=True, slots=True)
class Coldplug:
    """What loads the driver of each device that it finds: `aliases` are (pattern, module) as kmod
    normalises them, `by` says in words what it is."""

    by: str
    aliases: tuple[Item, ...]


class Layout(Protocol):
    """How one kind of init keeps modules. Paths are below `folder`, which may be ""."""

    @property
    def index_name(self) -> str:
        """What messages call the index."""
        ...

    @property
    def packed(self) -> bool:
        """Whether a compressed module can be loaded."""
        ...

    def folder(self, initramfs: Initramfs, release: str) -> str: ...

    def index(self, initramfs: Initramfs, folder: str) -> dict[str, tuple[str, ...]] | None:
        """Name of a module -> its path and those of all that are loaded before it; None when there
        is no index at all."""
        ...

    def present(self, initramfs: Initramfs, folder: str) -> dict[str, str]:
        """The modules whose files are there: name -> path in the initramfs."""
        ...

    def coldplug(self, initramfs: Initramfs, folder: str) -> Coldplug | None: ...

    def to_load(self, tree: ModuleTree, drivers: Sequence[str]) -> tuple[str, ...]:
        """Names of what has to be listed for the tool's scripts, in order, for them to load
        `drivers`, with no driver that is built in."""
        ...

    def files(self, reader: Reader, initramfs: Initramfs, tree: ModuleTree,
              closure: Sequence[str]) -> dict[str, bytes]:
        """Modules and indexes to add, for the paths `closure` of `tree`."""
        ...


@dataclass(frozen=True, slots=True)
class Kmod:
    """The tree and the indexes of depmod below lib/modules/RELEASE.

    `plugger` is a program that loads modules by modules.alias.bin, in images without udev.
    """

    plugger: str = ""
    index_name: str = "the module index (modules.dep.bin)"
    packed: bool = True

    def folder(self, initramfs: Initramfs, release: str) -> str:
        return initramfs.resolve(f"lib/modules/{release}")

    def index(self, initramfs: Initramfs, folder: str) -> dict[str, tuple[str, ...]] | None:
        content = initramfs.read(f"{folder}/modules.dep.bin")
        if content is not None:
            rows = {item.key: modindex.parse_dep(item.value) for item in modindex.read(content)}
            return {key: (path, *needs) for key, row in rows.items() for path, needs in row.items()}
        text = initramfs.read(f"{folder}/modules.dep")
        if text is not None:
            return {modindex.module_name(path): (path, *needs) for path, needs in
                    modindex.parse_dep(text.decode("utf-8", "replace")).items()}
        return None

    def present(self, initramfs: Initramfs, folder: str) -> dict[str, str]:
        return {modindex.module_name(path): path for path in initramfs.below(folder)
                if ".ko" in path.rpartition("/")[2]}

    def coldplug(self, initramfs: Initramfs, folder: str) -> Coldplug | None:
        if self.plugger and initramfs.has(self.plugger):
            by = self.plugger.rpartition("/")[2]
        elif _udev_loads(initramfs):
            by = "udev"
        else:
            return None
        content = initramfs.read(f"{folder}/modules.alias.bin")
        return Coldplug(f"{by}, by modules.alias",
                        tuple(modindex.read(content)) if content is not None else ())

    def to_load(self, tree: ModuleTree, drivers: Sequence[str]) -> tuple[str, ...]:
        return tuple(driver for driver in drivers if driver not in tree.builtin)

    def files(self, reader: Reader, initramfs: Initramfs, tree: ModuleTree,
              closure: Sequence[str]) -> dict[str, bytes]:
        folder = self.folder(initramfs, tree.release)
        present = {name: path.removeprefix(f"{folder}/")
                   for name, path in self.present(initramfs, folder).items()}
        files = {f"{folder}/{module}": reader.read(f"{tree.folder}/{module}", LIMIT)
                 for module in closure if modindex.module_name(module) not in present}
        # Also what is there already may be missing from the indexes, or named there by other paths.
        return files | _indexes(reader, initramfs, tree, folder, present, closure)


KMOD = Kmod()


def _udev_loads(initramfs: Initramfs) -> bool:
    """Whether udev is in there and loads modules."""
    return any(map(initramfs.has, _UDEVD)) and any(
        name.endswith("-drivers.rules") for folder in _RULES for name in initramfs.below(folder))


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
    alias = [f"alias {pattern} {name}" for pattern, name in tree_aliases(reader, tree)
             if name in names]
    symbols = [f"alias {pattern} {name}" for pattern, name in tree_aliases(reader, tree, "symbols")
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


def tree_aliases(reader: Reader, tree: ModuleTree,
                 name: str = "alias") -> tuple[tuple[str, str], ...]:
    """The (pattern, module) pairs of modules.alias (or modules.symbols) in the guest."""
    return modindex.parse_alias(
        read_text(reader, f"{tree.folder}/modules.{name}", CONFIG_LIMIT) or "")
