"""The layout of an init that loads module files in the order of a list of its own.

Nothing there resolves dependencies or unpacks modules, so each one's needs must stand before it and
every file is a plain .ko.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from imgconv.errors import HostileInput
from imgconv.guest.protocols import Reader
from imgconv.linux import modindex
from imgconv.linux.initramfs import compression
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import Coldplug
from imgconv.linux.modinfo import LIMIT
from imgconv.linux.modules import ModuleTree

#: Such images are made to be small.
_MAX_LISTED = 1000


@dataclass(frozen=True, slots=True)
class Listed:
    """`paths` tells the list of an initramfs, in order; `home` is the folder of its modules."""

    paths: Callable[[Initramfs], Sequence[str]]
    home: str
    index_name: str
    packed: bool = False

    def place(self, name: str) -> str:
        """The path that the list says for the module `name`."""
        return f"/{self.home}/{name}.ko" if self.home else f"/{name}.ko"

    def folder(self, initramfs: Initramfs, release: str) -> str:
        return ""

    def _listed(self, initramfs: Initramfs) -> tuple[str, ...]:
        paths = tuple(path.lstrip("/") for path in self.paths(initramfs))
        if len(paths) > _MAX_LISTED:
            raise HostileInput(f"an initramfs lists more than {_MAX_LISTED} modules")
        return paths

    def index(self, initramfs: Initramfs, folder: str) -> dict[str, tuple[str, ...]] | None:
        paths = self._listed(initramfs)
        rows: dict[str, tuple[str, ...]] = {}
        for number, path in enumerate(paths):
            rows.setdefault(modindex.module_name(path), (path, *paths[:number]))
        return rows

    def present(self, initramfs: Initramfs, folder: str) -> dict[str, str]:
        return {modindex.module_name(path): path for path in self._listed(initramfs)
                if initramfs.has(path)}

    def coldplug(self, initramfs: Initramfs, folder: str) -> Coldplug | None:
        return None

    def to_load(self, tree: ModuleTree, drivers: Sequence[str]) -> tuple[str, ...]:
        return tuple(modindex.module_name(path) for path in tree.closure(drivers))

    def files(self, reader: Reader, initramfs: Initramfs, tree: ModuleTree,
              closure: Sequence[str]) -> dict[str, bytes]:
        present = self.present(initramfs, "")
        names = {path: modindex.module_name(path) for path in closure}
        return {self.place(name).lstrip("/"): compression.decompress_file(
            reader.read(f"{tree.folder}/{path}", LIMIT), LIMIT)
            for path, name in names.items() if name not in present}
