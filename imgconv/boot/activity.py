"""What the guest asks of its disks, as QEMU counts it."""

from __future__ import annotations

from typing import Any

from imgconv.model import DiskActivity

#: More than firmware and boot loaders do: GRUB writes back its environment (a block of 1 KiB, a
#: time or two) and never flushes. A kernel that mounts a filesystem writes its journal, and does.
_WRITTEN = 64 << 10
_FLUSHES = 1


def parse(answer: Any) -> DiskActivity:  # noqa: ANN401 - what JSON holds
    """The sum over the disks of an answer to query-blockstats; the firmware's flash is none.

    imgconv calls its disks disk0, disk1 and so on.
    """
    stats = [entry["stats"] for entry in answer
             if str(entry.get("node-name", "")).startswith("disk")]
    return DiskActivity(*(sum(int(stat[name]) for stat in stats) for name in
                          ("wr_operations", "wr_bytes", "flush_operations")))


def by_kernel(disk: DiskActivity) -> bool:
    """Whether a kernel must have done this, and so drives the disk."""
    return disk.written >= _WRITTEN and disk.flushes >= _FLUSHES
