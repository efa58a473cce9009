"""booster, make-initrd and tiny-initramfs: their configuration, and what is odd in their images."""

from __future__ import annotations

from types import ModuleType

import pytest

from imgconv.errors import HostileInput
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import booster, cpio, make_initrd, tiny_initramfs
from imgconv.model import Bus, Filesystem, Names
from tests.fake_guest import FakeGuest
from tests.guests import cpio as archive
from tests.guests import tree

DRIVERS = ("virtio_pci", "virtio_blk")
RENAMER = Renamer((Filesystem("/dev/sda1", "ext4", "11-11"),), Names.UUID, Bus.VIRTIO_BLK)
BOOSTER, ALT, TINY = ("/etc/booster.yaml", "/etc/initrd.mk",
                      "/etc/tiny-initramfs/tiny-initramfs.conf")


@pytest.mark.parametrize(("tool", "path", "text", "after"), [
    (booster, BOOSTER, None, "modules_force_load: virtio_pci,virtio_blk\n"),
    (booster, BOOSTER, "universal: true\nmodules_force_load: 'nvme, virtio-pci'\n",
     "universal: true\nmodules_force_load: 'nvme,virtio-pci,virtio_blk'\n"),
    (booster, BOOSTER, "modules_force_load: virtio_blk, virtio_pci\n", None),
    (booster, BOOSTER, "network:\n  dhcp: on",
     "network:\n  dhcp: on\nmodules_force_load: virtio_pci,virtio_blk\n"),
    (make_initrd, ALT, "AUTODETECT = all", "AUTODETECT = all\n"
     "MODULES_TRY_ADD += virtio_pci virtio_blk\n"),
    (make_initrd, ALT, "MODULES_ADD = virtio_pci \\\n  virtio-blk\n", None),
    (make_initrd, ALT, "MODULES_LOAD += virtio_pci # virtio_blk\nDEVICES = /dev/sda1\n",
     "MODULES_LOAD += virtio_pci # virtio_blk\nDEVICES = /dev/vda1\n"
     "MODULES_TRY_ADD += virtio_blk\n"),
    (tiny_initramfs, TINY, None, 'INCLUDE_MODULES="virtio_pci,virtio_blk"\n'),
    (tiny_initramfs, TINY, 'DEBUG=no\nINCLUDE_MODULES="ext4"\n',
     'DEBUG=no\nINCLUDE_MODULES="ext4,virtio_pci,virtio_blk"\n'),
    (tiny_initramfs, TINY, "INCLUDE_MODULES=\nX=1\n",
     "INCLUDE_MODULES=virtio_pci,virtio_blk\nX=1\n"),
    (tiny_initramfs, TINY, "INCLUDE_MODULES=virtio_blk,virtio_pci\n", None)])
def test_persist(tool: ModuleType, path: str, text: str | None, after: str | None) -> None:
    guest = FakeGuest({} if text is None else {path: text})
    changes = tool.persist(guest, RENAMER, DRIVERS)
    assert [change.content.decode() for change in changes] == ([] if after is None else [after])
    for change in changes:
        assert change.path == path
        guest.write(change.path, change.content, change.mode)
    assert tool.persist(guest, RENAMER, DRIVERS) == ()


def test_every_further_image_of_make_initrd() -> None:
    guest = FakeGuest({"/etc/initrd.mk.d/rescue.mk": "IMAGE_SUFFIX = -rescue\n"})
    assert [c.path for c in make_initrd.persist(guest, RENAMER, DRIVERS)] == [
        "/etc/initrd.mk.d/rescue.mk"]


def booster_init(text: str) -> str:
    image = cpio.read(archive(tree({"init": b"\x7fELF", "etc/booster.init.yaml": text.encode()})))
    files = booster.additions(image, RENAMER, ("virtio", "virtio_blk"))
    return files["etc/booster.init.yaml"].decode()


@pytest.mark.parametrize(("before", "after"), [
    ("kernel: 6.1\n", "kernel: 6.1\nmoduledependencies:\n    virtio_blk:\n        - virtio\n"
                      "modulesforceload:\n    - virtio\n    - virtio_blk\n"),
    ("moduledependencies:\n  a:\n  - b\nmodulesforceload:\n- a\nkernel: 1\n",
     "moduledependencies:\n  virtio_blk:\n      - virtio\n  a:\n  - b\n"
     "modulesforceload:\n- virtio\n- virtio_blk\n- a\nkernel: 1\n"),
    ("moduledependencies: {}\nmodulesforceload: []\n",
     "moduledependencies:\n    virtio_blk:\n        - virtio\n"
     "modulesforceload:\n    - virtio\n    - virtio_blk\n")])
def test_booster_init_yaml(before: str, after: str) -> None:
    assert booster_init(before) == after


def test_yaml_of_another_form() -> None:
    with pytest.raises(HostileInput, match="not in booster's form"):
        booster_init("moduledependencies: {a: [b]}\n")


def test_a_module_that_needs_too_many() -> None:
    rows = "".join(f"    m{n}:\n        - m{n + 1}\n" for n in range(500))
    image = cpio.read(archive(tree({"etc/booster.init.yaml": b"moduledependencies:\n"
                                    + rows.encode(), "usr/lib/modules/m0.ko": b""})))
    with pytest.raises(HostileInput, match="more than 200 modules"):
        booster.LAYOUT.index(image, "usr/lib/modules")


def test_a_list_that_is_too_long() -> None:
    image = cpio.read(archive(tree({"modules": b"/a.ko\n" * 1001})))
    with pytest.raises(HostileInput, match="lists more than 1000"):
        tiny_initramfs.LAYOUT.index(image, "")
