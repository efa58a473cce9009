"""Made Windows guests, looked at in one appliance: what is found is what was made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from imgconv import host
from imgconv.disk.formats import open_image
from imgconv.guest import appliance
from imgconv.guest.appliance import Appliance
from imgconv.guest.quick_windows import quick_windows
from imgconv.model import Filesystem, Firmware
from tests import windows_disks
from tests.windows_guests import MIB, RELEASES, WindowsTree

TREES = {name: WindowsTree(release, Firmware.UEFI if name in ("11", "2022") else Firmware.BIOS,
                           size=32 * MIB) for name, release in RELEASES.items()}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    folder = tmp_path_factory.mktemp("windows")
    images = [open_image(windows_disks.image(tree, folder, name), writable=False)
              for name, tree in TREES.items()]
    with appliance.launch(images, writable=False, tcg=not host.kvm_usable().usable) as started:
        yield started


@pytest.mark.parametrize("name", TREES)
def test_inspection(running: Appliance, name: str) -> None:
    wanted = TREES[name].inspection()
    letter = chr(ord("a") + list(TREES).index(name))
    filesystems = tuple(
        Filesystem(found.device.replace("/dev/sda", f"/dev/sd{letter}"), found.type)
        for found in wanted.filesystems)
    types = {found.device: running.call("vfs_type", found.device) for found in filesystems}
    assert types == {found.device: found.type for found in filesystems}
    found = quick_windows(running, filesystems)
    assert found is not None
    device, arch, system = found
    assert (device, arch) == (wanted.root.replace("/dev/sda", f"/dev/sd{letter}"), wanted.arch)
    assert replace(system, systemroot=f"/c{system.systemroot}") == wanted.os
