"""Disks with made Windows guests: what other tools find on them is what was put there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from imgconv.model import Firmware
from tests import windows_disks
from tests.windows_disks import Volume
from tests.windows_guests import MIB, RELEASES, WindowsTree


def _extent(disk: Path, tree: WindowsTree, folder: Path) -> Path:
    part = folder / "c"
    with disk.open("rb") as file:
        file.seek(tree.offset)
        part.write_bytes(file.read(tree.size))
    return part


@pytest.mark.parametrize(("name", "firmware"), [("xp", Firmware.BIOS), ("10", Firmware.BIOS),
                                                ("11", Firmware.UEFI)])
def test_disks(name: str, firmware: Firmware, tmp_path: Path) -> None:
    tree = WindowsTree(RELEASES[name], firmware, size=32 * MIB)
    disk = windows_disks.image(tree, tmp_path)
    assert disk.stat().st_blocks * 512 < 16 * MIB
    table = subprocess.run(["/usr/sbin/sfdisk", "--dump", disk], check=True, text=True,
                           capture_output=True).stdout
    assert f"start={tree.offset // 512:12}" in table
    assert table.count("start=") == len(tree.inspection().filesystems)
    part = _extent(disk, tree, tmp_path)
    files = tree.files()
    for path in (tree.hive("SYSTEM"), f"{tree.drivers}/disk.sys"):
        assert subprocess.run(["ntfscat", part, path], check=True,
                              capture_output=True).stdout == files[path]


def test_odd_volumes(tmp_path: Path) -> None:
    tree = WindowsTree(RELEASES["7"], size=32 * MIB)

    def blkid(volume: Volume) -> str:
        part = _extent(windows_disks.image(tree, tmp_path, volume=volume), tree, tmp_path)
        return subprocess.run(["/usr/sbin/blkid", "-p", "-o", "value", "-s", "TYPE", part],
                              check=True, text=True, capture_output=True).stdout.strip()
    assert blkid(Volume(bitlocker=True)) == "BitLocker"
    assert blkid(Volume(dirty=True)) == "ntfs"
    state = subprocess.run(["ntfsinfo", "-m", tmp_path / "c"], check=False, text=True,
                           capture_output=True)
    assert "scheduled for check" in state.stdout + state.stderr
    assert blkid(Volume(dynamic=True, heads=64)) == "ntfs"
    assert (tmp_path / "c").read_bytes()[0x1A] == 64
    mbr = (tmp_path / "windows.raw").read_bytes()[:512]
    assert mbr[450 + 16] == 0x42
