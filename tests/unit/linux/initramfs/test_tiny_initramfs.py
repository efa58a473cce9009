from __future__ import annotations

import pytest

from imgconv.errors import HostileInput
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import cpio, tiny_initramfs
from imgconv.model import Bus, Filesystem, Names
from tests.fake_guest import FakeGuest
from tests.guests import cpio as archive
from tests.guests import tree

DRIVERS = ("virtio_pci", "virtio_blk")
RENAMER = Renamer((Filesystem("/dev/sda1", "ext4", "11-11"),), Names.UUID, Bus.VIRTIO_BLK)
CONF = "/etc/tiny-initramfs/tiny-initramfs.conf"


@pytest.mark.parametrize(("text", "after"), [
    (None, 'INCLUDE_MODULES="virtio_pci,virtio_blk"\n'),
    ('DEBUG=no\nINCLUDE_MODULES="ext4"\n',
     'DEBUG=no\nINCLUDE_MODULES="ext4,virtio_pci,virtio_blk"\n'),
    ("INCLUDE_MODULES=\nX=1\n",
     "INCLUDE_MODULES=virtio_pci,virtio_blk\nX=1\n"),
    ("INCLUDE_MODULES=virtio_blk,virtio_pci\n", None)])
def test_persist(text: str | None, after: str | None) -> None:
    guest = FakeGuest({} if text is None else {CONF: text})
    changes = tiny_initramfs.persist(guest, RENAMER, DRIVERS)
    assert [change.content.decode() for change in changes] == ([] if after is None else [after])
    for change in changes:
        guest.write(change.path, change.content, change.mode)
    assert tiny_initramfs.persist(guest, RENAMER, DRIVERS) == ()


def test_a_list_that_is_too_long() -> None:
    image = cpio.read(archive(tree({"modules": b"/a.ko\n" * 1001})))
    with pytest.raises(HostileInput, match="lists more than 1000"):
        tiny_initramfs.LAYOUT.index(image, "")
