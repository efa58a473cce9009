from __future__ import annotations

import pytest

from imgconv.errors import ImgconvError
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import mkinitcpio
from imgconv.model import Bus, Names
from tests.fake_guest import FakeGuest

DRIVERS = ("virtio_pci", "virtio_blk")
RENAMER = Renamer((), Names.UUID, Bus.VIRTIO_BLK)
CONF, ZZ = "/etc/mkinitcpio.conf", "/etc/mkinitcpio.conf.d/zz-imgconv.conf"
BOTH = "MODULES+=(virtio_pci virtio_blk)\n"


@pytest.mark.parametrize(("files", "after"), [
    ({CONF: "MODULES=()\n"}, {CONF: "MODULES=()\n" + BOTH}),
    ({CONF: "HOOKS=(base)"}, {CONF: "HOOKS=(base)\n" + BOTH}),
    ({CONF: "MODULES=(virtio_pci virtio-blk?)\n"}, {}),
    ({CONF: "MODULES=(\n  ext4  # why\n  virtio_pci\n  'virtio_blk'\n)\n"}, {}),
    ({CONF: "MODULES=(ext4 # virtio_blk virtio_pci\n)\n"},
     {CONF: "MODULES=(ext4 # virtio_blk virtio_pci\n)\n" + BOTH}),
    ({CONF: "#MODULES=(virtio_pci virtio_blk)\n"},
     {CONF: "#MODULES=(virtio_pci virtio_blk)\n" + BOTH}),
    # The string of versions before 2013: += would begin a second element.
    ({CONF: 'MODULES="ext4 virtio_pci"\nHOOKS="base"\n'},
     {CONF: 'MODULES="ext4 virtio_pci virtio_blk"\nHOOKS="base"\n'}),
    ({CONF: 'MODULES=""\n'}, {CONF: 'MODULES="virtio_pci virtio_blk"\n'}),
    # A drop-in that adds leaves the main one's; one that sets does not.
    ({CONF: "MODULES=()\n", "/etc/mkinitcpio.conf.d/a.conf": "MODULES+=(ext4)\n"},
     {CONF: "MODULES=()\n" + BOTH}),
    ({CONF: "MODULES=()\n", "/etc/mkinitcpio.conf.d/a.conf": "MODULES=(ext4)\n"},
     {CONF: "MODULES=()\n" + BOTH, ZZ: BOTH}),
    ({CONF: "MODULES=(virtio_pci virtio_blk)\n", "/etc/mkinitcpio.conf.d/a.conf":
      "MODULES=(virtio_blk)\n"}, {ZZ: BOTH}),
    ({CONF: BOTH, "/etc/mkinitcpio.conf.d/ignored.txt": "MODULES=()\n"}, {}),
    # A preset may name a file of its own.
    ({CONF: BOTH, "/etc/mk-lts.conf": "MODULES=()\n", "/etc/mkinitcpio.d/lts.preset":
      "PRESETS=('default')\ndefault_config=\"/etc/mk-lts.conf\"\n#x_config=/etc/no\n"},
     {"/etc/mk-lts.conf": "MODULES=()\n" + BOTH}),
])
def test_persist(files: dict[str, str], after: dict[str, str]) -> None:
    guest = FakeGuest({"/usr/bin/mkinitcpio": "", **files})
    changes = mkinitcpio.persist(guest, RENAMER, DRIVERS)
    assert {change.path: change.content.decode() for change in changes} == after
    for change in changes:
        guest.write(change.path, change.content, change.mode)
    assert mkinitcpio.persist(guest, RENAMER, DRIVERS) == ()


@pytest.mark.parametrize(("files", "message"), [
    ({CONF: "MODULES+=("}, "written in a way"),
    ({CONF: BOTH, ZZ: BOTH, "/etc/mkinitcpio.conf.d/zzz.conf": "MODULES=()\n"}, "sets MODULES")])
def test_what_cannot_be_added_to_is_said(files: dict[str, str], message: str) -> None:
    with pytest.raises(ImgconvError, match=message):
        mkinitcpio.persist(FakeGuest({"/usr/bin/mkinitcpio": "", **files}), RENAMER, DRIVERS)
