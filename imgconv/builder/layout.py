"""Where things lie on the guest's disk, and how the guest calls them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Final

from imgconv.builder.recipe import MIB, Recipe

SECTOR: Final = 512
FIRST: Final = MIB      # partitions start at 1 MiB, as Debian's installer aligns them

# As sfdisk writes them: what the table calls each role.
_TYPES: Final = {
    "mbr": {"root": "83", "swap": "82"},
    "gpt": {"esp": "uefi", "root": "linux", "swap": "swap"},
}
ESP_SIZE: Final = 64 * MIB
# A GPT has a second copy in the disk's last sectors.
_TAIL: Final = {"mbr": 0, "gpt": MIB}


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition: `start` and `size` in bytes, `type` as sfdisk writes it."""

    number: int
    role: str           # "esp", "root" or "swap"
    start: int
    size: int
    type: str
    uuid: str           # of the filesystem or swap area
    partuuid: str       # of the partition itself, as blkid has it
    device: str         # the guest's own name: "/dev/sda1"


@dataclass(frozen=True, slots=True)
class Layout:
    """The whole disk; `size` in bytes, `disk_id` the table's own: 8 hex digits, or a UUID."""

    size: int
    table: str          # the recipe's word: "mbr", "gpt"
    disk_id: str
    root: Partition
    swap: Partition | None
    esp: Partition | None = None

    @property
    def partitions(self) -> tuple[Partition, ...]:
        """All partitions in the order of the table."""
        return tuple(part for part in (self.esp, self.root, self.swap) if part is not None)


def layout(recipe: Recipe) -> Layout:
    """Lay out the disk. Identifiers depend on the recipe's name only, so rebuilds agree."""
    table = recipe.partition_table
    sizes = {"esp": ESP_SIZE if "esp" in _TYPES[table] else 0, "root": 0, "swap": recipe.swap_size}
    sizes["root"] = recipe.disk_size - FIRST - sum(sizes.values()) - _TAIL[table]
    disk_id = stable_uuid(recipe, "disk")
    disk_id = disk_id[:8] if table == "mbr" else disk_id
    parts: dict[str, Partition] = {}
    start = FIRST
    for number, (role, size) in enumerate(((r, s) for r, s in sizes.items() if s), 1):
        uuid_ = stable_uuid(recipe, role)
        parts[role] = Partition(
            number, role, start, size, _TYPES[table][role],
            f"{uuid_[:4]}-{uuid_[4:8]}".upper() if role == "esp" else uuid_,
            f"{disk_id}-{number:02x}" if table == "mbr" else stable_uuid(recipe, f"part {role}"),
            device(recipe.disk, number))
        start += size
    return Layout(recipe.disk_size, table, disk_id, parts["root"], parts.get("swap"),
                  parts.get("esp"))


def stable_uuid(recipe: Recipe, role: str) -> str:
    """Return a UUID that is always the same for a recipe's name and a role."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"imgconv:guest:{recipe.name}:{role}"))


def device(disk: str, number: int) -> str:
    """Name a partition as the kernel does: a "p" after names that end in a digit."""
    return f"/dev/{disk}{'p' if disk[-1].isdigit() else ''}{number}"


def sfdisk_script(disk: Layout) -> str:
    """Return the input of `sfdisk` (units of 512 bytes; of an MBR the root is marked active)."""
    mbr = disk.table == "mbr"
    lines = [f"label: {'dos' if mbr else 'gpt'}",
             f"label-id: {'0x' if mbr else ''}{disk.disk_id}", "unit: sectors", ""]
    for part in disk.partitions:
        extra = f", uuid={part.partuuid}" if not mbr else ", bootable" * (part.role == "root")
        lines.append(f"start={part.start // SECTOR}, size={part.size // SECTOR}, "
                     f"type={part.type}{extra}")
    return "\n".join(lines) + "\n"
