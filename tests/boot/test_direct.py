"""A guest without boot loader: its machine starts the kernel itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from imgconv import host
from imgconv.disk.formats import open_image
from imgconv.guest import appliance
from imgconv.model import Mount
from tests.boot.commands import imgconv

SMALL = ("--cpus", "1", "--memory", "1024", "--json")


@pytest.fixture
def bare_guest(legacy_guest: Path, copy_of: Callable[[Path], Path]) -> Path:
    """The legacy guest without GRUB's files; what is left of it in the MBR finds none of them."""
    disk = copy_of(legacy_guest)
    with appliance.launch([open_image(disk, writable=True)], writable=True,
                          tcg=not host.kvm_usable().usable) as guest:
        guest.mount([Mount("/dev/sda1", "/")], writable=True)
        programs = [f"/usr/sbin/{name}" for name in guest.names("/usr/sbin")
                    if name.startswith("grub")]
        for path in ("/boot/grub", "/etc/default/grub", *programs):
            guest.call("rm_rf", path)
    return disk


def test_both_ways(bare_guest: Path) -> None:
    status, said = imgconv("boot-test", bare_guest, "--bus", "virtio", *SMALL)
    (before,) = json.loads(said)["boots"]
    assert (status, before["verdict"]) == (4, "not-booted"), before["reason"]
    assert "does not exist" in before["reason"]
    assert "root=UUID=" in before["serial"]
    assert not list(bare_guest.parent.glob("*.vmlinuz"))

    status, said = imgconv("virtio-ize", bare_guest, "--boot-test", *SMALL)
    report = json.loads(said)
    assert (status, report["committed"], report["proven"]) == (0, True, True)
    (after,) = report["boots"]
    assert (after["verdict"], after["root_device"], after["swap_devices"]) == (
        "booted", "/dev/vda1", ["/dev/vda2"])
    kernel, initrd = (bare_guest.with_name(f"{bare_guest.name}.{suffix}")
                      for suffix in ("vmlinuz", "initrd"))
    assert report["machine"]["direct"]["kernel"] == str(kernel)
    assert kernel.read_bytes()[0x202:0x206] == b"HdrS"
    script = bare_guest.with_name(f"{bare_guest.name}.qemu.sh").read_text()
    assert f"-kernel {kernel}" in script
    assert f"-initrd {initrd}" in script
    assert initrd.stat().st_size > 1 << 20
