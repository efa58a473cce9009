"""A guest that says nothing at all, neither on its serial port nor on its screen, is judged by what
it does."""

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
SMALL = ("--cpus", "1", "--memory", "1024", "--json")


@pytest.fixture
def silent_guest(legacy_guest: Path, copy_of: Callable[[Path], Path]) -> Path:
    """The legacy guest, its console on a port that the machine has not, and no login anywhere."""
    disk = copy_of(legacy_guest)
    with appliance.launch([open_image(disk, writable=True)], writable=True,
                          tcg=not host.kvm_usable().usable) as guest:
        guest.mount([Mount("/dev/sda1", "/")], writable=True)
        text = guest.read(GRUB).decode()
        silent = re.sub(r"^serial .*$|(?<=console) serial", "", text, flags=re.MULTILINE)
        silent = silent.replace("console=ttyS0", "console=ttyS1")
        assert "ttyS0" not in silent
        assert "ttyS1" in silent
        guest.write(GRUB, silent.encode(), 0o444)
        # An empty unit is a masked one.
        guest.write("/etc/systemd/system/getty@.service", b"", 0o644)
    return disk


def test_judged_by_disk_and_network(silent_guest: Path) -> None:
    status, said = imgconv("boot-test", silent_guest, "--bus", "virtio", "--timeout", "60", *SMALL)
    (before,) = json.loads(said)["boots"]
    assert (status, before["verdict"]) == (4, "not-proven")
    assert before["disk"]["flushes"] == before["network"]["frames"] == 0

    status, said = imgconv("virtio-ize", silent_guest, "--boot-test", *SMALL)
    report = json.loads(said)
    (after,) = report["boots"]
    assert (status, after["verdict"]) == (0, "booted"), after["reason"]
    assert "wrote" in after["reason"]
    assert "to ask for an address by DHCP" in after["reason"]
    assert "login" not in after["screen"] + after["serial"]
    assert after["network"]["dhcp"] > 0
