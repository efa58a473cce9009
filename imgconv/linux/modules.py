"""The modules of one installed kernel: /lib/modules/RELEASE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import modindex
from imgconv.linux.modinfo import normalise

#: What /boot/config calls the drivers we ask for.
_CONFIG = {
    "virtio_blk": "CONFIG_VIRTIO_BLK", "virtio_pci": "CONFIG_VIRTIO_PCI",
    "virtio_scsi": "CONFIG_SCSI_VIRTIO", "sd_mod": "CONFIG_BLK_DEV_SD",
    "virtio_net": "CONFIG_VIRTIO_NET", "virtio_balloon": "CONFIG_VIRTIO_BALLOON",
    "virtio_rng": "CONFIG_HW_RANDOM_VIRTIO", "ahci": "CONFIG_SATA_AHCI",
}


#: modules.dep of distributions is about 600 KiB; the tree made of it takes ten times as much.
_DEP_LIMIT = 4 << 20


@dataclass(frozen=True, slots=True)
class ModuleTree:
    """`depends` maps a module's path below `folder` to the paths it needs; `paths` its name to its
    path; `builtin` holds the names of drivers that are part of the kernel itself."""

    release: str
    folder: str
    depends: Mapping[str, tuple[str, ...]]
    paths: Mapping[str, str]
    builtin: frozenset[str]

    def state(self, name: str) -> str:
        """Where the driver `name` is: "built in", "module" or "absent"."""
        if name in self.builtin:
            return "built in"
        return "module" if name in self.paths else "absent"

    def has(self, *names: str) -> bool:
        return all(self.state(name) != "absent" for name in names)

    def closure(self, names: Iterable[str]) -> tuple[str, ...]:
        """Paths of the modules `names` and all they need, dependencies first, built in ones left
        out. modules.dep already lists the whole closure of each module, but old depmods did not."""
        done: dict[str, None] = {}
        begun: set[str] = set()
        # A path comes up twice: to push what it needs, and when all that is done. A list and no
        # recursion, because modules.dep is the guest's.
        todo = [self.paths[name] for name in names
                if name in self.paths and name not in self.builtin][::-1]
        while todo:
            path = todo.pop()
            if path in done:
                continue
            if path in begun:
                done[path] = None
                continue
            begun.add(path)
            todo.append(path)
            todo += [need for need in self.depends.get(path, ()) if need not in begun][::-1]
        return tuple(done)


def read(reader: Reader, release: str) -> ModuleTree:
    """The module tree of kernel `release`; empty when that kernel has none. Raises HostileInput."""
    folder = f"/lib/modules/{release}"
    depends = modindex.parse_dep(read_text(reader, f"{folder}/modules.dep", _DEP_LIMIT) or "")
    listed = (read_text(reader, f"{folder}/modules.builtin") or "").split("\n")
    builtin = {modindex.module_name(line) for line in listed if line}
    settings = set((read_text(reader, f"/boot/config-{release}") or "").split("\n"))
    builtin |= {name for name, option in _CONFIG.items() if f"{option}=y" in settings}
    paths = {modindex.module_name(path): path for path in depends}
    return ModuleTree(release, folder, depends, paths, frozenset(map(normalise, builtin)))
