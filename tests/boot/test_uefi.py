"""A guest that starts by UEFI: judged right before and after its conversion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from tests.boot.commands import imgconv

SMALL = ("--cpus", "1", "--memory", "1024", "--json")


def test_both_ways(uefi_guest: Path, copy_of: Callable[[Path], Path]) -> None:
    disk = copy_of(uefi_guest)
    status, said = imgconv("boot-test", disk, "--bus", "virtio", *SMALL)
    (before,) = json.loads(said)["boots"]
    assert (status, before["verdict"], before["bus"]) == (4, "not-booted", "virtio-blk")
    assert "/dev/sda2 does not exist" in before["reason"]
    assert "EFI v2" in before["serial"]

    status, said = imgconv("virtio-ize", disk, "--boot-test", *SMALL)
    report = json.loads(said)
    assert (status, report["committed"], report["proven"]) == (0, True, True)
    assert report["machine"]["firmware"] == "uefi"
    assert any(finding["subject"] == "UEFI" and finding["level"] == "proven"
               for finding in report["findings"])
    (after,) = report["boots"]
    assert (after["verdict"], after["root_device"], after["swap_devices"]) == (
        "booted", "/dev/vda2", ["/dev/vda3"])
    assert "virtio_blk" in after["drivers"]
    assert "EFI v2" in after["serial"]
