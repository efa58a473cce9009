"""A guest that says nothing on its serial port is judged right, both ways."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from imgconv import host
from imgconv.disk.formats import open_image
from imgconv.guest import appliance
from imgconv.model import Mount
from tests.boot.commands import imgconv

GRUB = "/boot/grub/grub.cfg"


@pytest.fixture
def mute_guest(legacy_guest: Path, copy_of: Callable[[Path], Path]) -> Path:
    """The legacy guest, with its boot loader and its console on the screen only."""
    disk = copy_of(legacy_guest)
    with appliance.launch([open_image(disk, writable=True)], writable=True,
                          tcg=not host.kvm_usable().usable) as guest:
        guest.mount([Mount("/dev/sda1", "/")], writable=True)
        text = guest.read(GRUB).decode()
        mute = re.sub(r"^serial .*$| console=ttyS0|(?<=console) serial", "", text,
                      flags=re.MULTILINE)
        assert mute.count("ttyS0") == 0 < text.count("ttyS0")
        guest.write(GRUB, mute.encode(), 0o444)
    return disk


def test_both_ways(mute_guest: Path) -> None:
    small = ("--cpus", "1", "--memory", "1024", "--json")
    status, said = imgconv("boot-test", mute_guest, "--bus", "virtio", *small)
    (before,) = json.loads(said)["boots"]
    assert (status, before["verdict"], before["bus"]) == (4, "not-booted", "virtio-blk")
    assert "ALERT!  /dev/sda1 does not exist" in before["reason"]
    assert "Linux version" not in before["serial"]
    assert "Linux version" in before["screen"] or "initramfs" in before["screen"]
    assert Path(before["screenshot"]).read_bytes().startswith(b"\x89PNG")

    status, said = imgconv("virtio-ize", mute_guest, "--prepare", "--boot-test", *small)
    report = json.loads(said)
    assert (status, report["committed"], report["proven"]) == (0, True, True)
    assert any("(on sata)" in finding["subject"] for finding in report["findings"])
    new, old = report["boots"]
    assert [boot["verdict"] for boot in (new, old)] == ["booted", "booted"]
    assert [boot["bus"] for boot in (new, old)] == ["virtio-blk", "sata"]
    assert (new["root_device"], new["swap_devices"]) == ("/dev/vda1", ["/dev/vda2"])
    assert (old["root_device"], old["swap_devices"]) == ("/dev/sda1", ["/dev/sda2"])
    assert "Linux version" not in new["serial"] + old["serial"]
