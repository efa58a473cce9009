"""Images that were not copied completely, made from whole ones by cutting them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from imgconv.disk.formats import open_image
from imgconv.disk.truncation import is_truncated
from imgconv.errors import ImgconvError
from tests.host.disk.images import MIB, make, write


@pytest.mark.parametrize("options", ["", "compat=0.10", "cluster_size=512", "extended_l2=on",
                                     "cluster_size=2M"])
def test_qcow2(tmp_path: Path, options: str) -> None:
    disk = make(tmp_path / "disk.qcow2", "qcow2", 64 * MIB, pattern=0x11, options=options)
    write(disk, "qcow2", (0x22, 40 * MIB, 3 * MIB))
    assert not is_truncated(disk, "qcow2")
    content = disk.read_bytes()
    for share in (0.3, 0.6):
        disk.write_bytes(content[:int(len(content) * share)])
        assert is_truncated(disk, "qcow2")
    with pytest.raises(ImgconvError, match="not complete") as caught:
        open_image(disk, writable=False)
    assert "copy" in caught.value.hint


@pytest.mark.parametrize("label", ["dos", "gpt"])
def test_raw(tmp_path: Path, label: str) -> None:
    disk = make(tmp_path / "disk.img", "raw", 64 * MIB)
    subprocess.run(["/sbin/sfdisk", "-q", disk], input=f"label: {label}\nsize=16M\n-\n", text=True,
                   check=True)
    assert not is_truncated(disk, "raw")
    assert open_image(disk, writable=True).virtual_size == 64 * MIB
    with disk.open("r+b") as file:
        file.truncate(40 * MIB)
    assert is_truncated(disk, "raw")


@pytest.mark.parametrize(("fmt", "options"), [
    ("vdi", ""), ("vmdk", "subformat=monolithicSparse"), ("vhdx", ""), ("vpc", "")])
def test_others(tmp_path: Path, fmt: str, options: str) -> None:
    disk = make(tmp_path / "disk", fmt, 64 * MIB, pattern=0x11, options=options)
    write(disk, fmt, (0x22, 40 * MIB, 6 * MIB))
    assert not is_truncated(disk, fmt)
    assert open_image(disk, writable=True).virtual_size >= 64 * MIB
    content = disk.read_bytes()
    for share in (0.3, 0.6):
        disk.write_bytes(content[:int(len(content) * share)])
        with pytest.raises(ImgconvError):
            open_image(disk, writable=False)


@pytest.mark.parametrize("fmt", ["qcow2", "raw", "vmdk", "vdi"])
def test_empty_disks_are_whole(tmp_path: Path, fmt: str) -> None:
    assert not is_truncated(make(tmp_path / "disk", fmt), fmt)


def test_a_filesystem_without_partitions(tmp_path: Path) -> None:
    """Its boot sector has the partition table's signature and code where the table would be."""
    disk = make(tmp_path / "disk.img", "raw", 8 * MIB)
    sector = bytearray(b"\xf4" * 510 + b"\x55\xaa")
    disk.write_bytes(bytes(sector) + bytes(8 * MIB - 512))
    assert not is_truncated(disk, "raw")
