from __future__ import annotations

import pytest

from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import make_initrd
from imgconv.model import Bus, Filesystem, Names
from tests.fake_guest import FakeGuest

DRIVERS = ("virtio_pci", "virtio_blk")
RENAMER = Renamer((Filesystem("/dev/sda1", "ext4", "11-11"),), Names.UUID, Bus.VIRTIO_BLK)
CONF = "/etc/initrd.mk"


@pytest.mark.parametrize(("text", "after"), [
    ("AUTODETECT = all", "AUTODETECT = all\n"
     "MODULES_TRY_ADD += virtio_pci virtio_blk\n"),
    ("MODULES_ADD = virtio_pci \\\n  virtio-blk\n", None),
    ("MODULES_LOAD += virtio_pci # virtio_blk\nDEVICES = /dev/sda1\n",
     "MODULES_LOAD += virtio_pci # virtio_blk\nDEVICES = /dev/vda1\n"
     "MODULES_TRY_ADD += virtio_blk\n")])
def test_persist(text: str | None, after: str | None) -> None:
    guest = FakeGuest({} if text is None else {CONF: text})
    changes = make_initrd.persist(guest, RENAMER, DRIVERS)
    assert [change.content.decode() for change in changes] == ([] if after is None else [after])
    for change in changes:
        guest.write(change.path, change.content, change.mode)
    assert make_initrd.persist(guest, RENAMER, DRIVERS) == ()


def test_every_further_image_of_make_initrd() -> None:
    guest = FakeGuest({"/etc/initrd.mk.d/rescue.mk": "IMAGE_SUFFIX = -rescue\n"})
    assert [c.path for c in make_initrd.persist(guest, RENAMER, DRIVERS)] == [
        "/etc/initrd.mk.d/rescue.mk"]


def test_a_line_that_goes_on_is_not_joined() -> None:
    guest = FakeGuest({CONF: "FEATURES = a \\\n"})
    (change,) = make_initrd.persist(guest, RENAMER, DRIVERS)
    assert change.content.decode() == ("FEATURES = a \\\n\n"
                                       "MODULES_TRY_ADD += virtio_pci virtio_blk\n")
