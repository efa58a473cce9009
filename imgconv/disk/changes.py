"""Which parts of a disk an overlay changes."""

from __future__ import annotations

import json
from pathlib import Path

from imgconv.run import run

#: Ranges are cut to this, in bytes, so that one fits into memory and into one request.
MAX_RANGE = 1 << 20


def detach(overlay: Path) -> None:
    """Take the backing file from a qcow2: what it does not hold then reads as zeros.

    Only its header is written. From then on it can be read while its source is being written,
    which QEMU's locks forbid within a chain.
    """
    run(["qemu-img", "rebase", "-q", "-u", "-f", "qcow2", "-b", "", overlay])


def allocated(pack: Path) -> tuple[tuple[int, int], ...]:
    """What a qcow2 without backing file holds, zeros included: (start, length) in bytes, in order,
    none longer than MAX_RANGE."""
    entries = json.loads(run(["qemu-img", "map", "--output=json", "-f", "qcow2", pack]).stdout)
    merged: list[list[int]] = []
    for entry in entries:
        if not entry["present"]:
            continue
        start, end = entry["start"], entry["start"] + entry["length"]
        if merged and merged[-1][1] == start:
            merged[-1][1] = end
        else:
            merged.append([start, end])
    return tuple((at, min(MAX_RANGE, end - at))
                 for start, end in merged for at in range(start, end, MAX_RANGE))
