"""Where things lie on the guest's disk, and how the guest calls them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from imgconv.builder.recipe import MIB, Recipe

SECTOR: Final = 512
FIRST: Final = MIB      # partitions start at 1 MiB, as Debian's installer aligns them

_TYPES: Final = {"mbr": {"root": "83", "swap": "82"}}


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: `start` and `size` in bytes, `type` as sfdisk writes it."""

    number: int
    role: str           # "root" or "swap"
    start: int
    size: int
    type: str
    uuid: str           # of the filesystem or swap area
    device: str         # the guest's own name: "/dev/sda1"


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole disk; `size` in bytes, `disk_id` the MBR's 32-bit identifier in hex digits."""

    size: int
    disk_id: str
    root: Partition
    swap: Partition | None

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """All partitions in the order of the table."""
        return (self.root,) if self.swap is None else (self.root, self.swap)


def layout(recipe: Recipe) -> Layout:
    """Lay out the disk. Identifiers depend on the recipe's name only, so rebuilds agree."""
    types = _TYPES[recipe.partition_table]
    root_size = recipe.disk_size - FIRST - recipe.swap_size
    root = Partition(1, "root", FIRST, root_size, types["root"], stable_uuid(recipe, "root"),
                     device(recipe.disk, 1))
    swap = None if not recipe.swap_size else Partition(
        2, "swap", FIRST + root_size, recipe.swap_size, types["swap"],
        stable_uuid(recipe, "swap"), device(recipe.disk, 2))
    return Layout(recipe.disk_size, stable_uuid(recipe, "disk")[:8], root, swap)


def stable_uuid(recipe: Recipe, role: str) -> str:
    """Return a UUID that is always the same for a recipe's name and a role."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"imgconv:guest:{recipe.name}:{role}"))


def device(disk: str, number: int) -> str:
    """Name a partition as the kernel does: a "p" after names that end in a digit."""
    return f"/dev/{disk}{'p' if disk[-1].isdigit() else ''}{number}"


def sfdisk_script(disk: Layout) -> str:
    """Return the input of `sfdisk` for an MBR (units of 512 bytes, root marked active)."""
    lines = ["label: dos", f"label-id: 0x{disk.disk_id}", "unit: sectors", ""]
    lines += [f"start={part.start // SECTOR}, size={part.size // SECTOR}, type={part.type}"
              + (", bootable" if part.role == "root" else "") for part in disk.partitions]
    return "\n".join(lines) + "\n"
