from __future__ import annotations

import pytest

from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import mkinitfs
from imgconv.model import Bus, Names
from tests.fake_guest import FakeGuest

RENAMER = Renamer((), Names.UUID, Bus.VIRTIO_BLK)
BLK, SCSI = ("virtio_pci", "virtio_blk"), ("virtio_pci", "virtio_scsi", "sd_mod")
CONF = "/etc/mkinitfs/mkinitfs.conf"
OURS = "/etc/mkinitfs/features.d/imgconv.modules"
FEATURES = {f"/etc/mkinitfs/features.d/{name}.modules": "x\n" for name in ("virtio", "scsi")}


@pytest.mark.parametrize(("files", "drivers", "after"), [
    ({CONF: 'features="base ext4"\n', **FEATURES}, BLK, {CONF: 'features="base ext4 virtio"\n'}),
    ({CONF: "features='base scsi'\n", **FEATURES}, SCSI, {CONF: "features='base scsi virtio'\n"}),
    ({CONF: "features=\"base virtio\"\n", **FEATURES}, BLK, {}),
    ({CONF: "#features=\"base virtio\"\nfeatures=\"base\"\nx=y", **FEATURES}, BLK,
     {CONF: "#features=\"base virtio\"\nfeatures=\"base virtio\"\nx=y"}),
    # A mkinitfs from before the feature virtio.
    ({CONF: 'features="base"\n'}, BLK,
     {OURS: "kernel/drivers/virtio\nkernel/drivers/block/virtio_blk.ko*\n",
      CONF: 'features="base imgconv"\n'}),
])
def test_persist(files: dict[str, str], drivers: tuple[str, ...], after: dict[str, str]) -> None:
    guest = FakeGuest({"/sbin/mkinitfs": "", **files})
    changes = mkinitfs.persist(guest, RENAMER, drivers)
    assert {change.path: change.content.decode() for change in changes} == after
    for change in changes:
        guest.write(change.path, change.content, change.mode)
    assert mkinitfs.persist(guest, RENAMER, drivers) == ()
