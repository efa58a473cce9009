from __future__ import annotations

import pytest

from imgconv.linux import modules
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import cpio, dracut
from imgconv.linux.kernels import Kernel
from imgconv.model import Bus, Filesystem, Names
from tests.fake_guest import FakeGuest
from tests.guests import cpio as archive
from tests.guests import tree

DRIVERS = ("virtio_pci", "virtio_blk")
RENAMER = Renamer((Filesystem("/dev/sda1", "ext4", "11-11"), Filesystem("/dev/sda2", "swap")),
                  Names.UUID, Bus.VIRTIO_BLK)
OURS = "/etc/dracut.conf.d/imgconv.conf"


def persisted(files: dict[str, str]) -> dict[str, str]:
    guest = FakeGuest({"/usr/bin/dracut": "", **files})
    changes = dracut.persist(guest, RENAMER, DRIVERS)
    for change in changes:
        guest.write(change.path, change.content, change.mode)
    assert dracut.persist(guest, RENAMER, DRIVERS) == ()
    return {change.path: change.content.decode() for change in changes}


@pytest.mark.parametrize(("files", "after"), [
    ({}, {OURS: 'add_drivers+=" virtio_pci virtio_blk "\n'}),
    ({"/etc/dracut.conf.d/x.conf": 'add_drivers+=" virtio-blk "\n'},
     {OURS: 'add_drivers+=" virtio_pci "\n'}),
    ({"/etc/dracut.conf": "force_drivers+='virtio_pci virtio_blk'\n"}, {}),
    ({"/etc/dracut.conf": "#add_drivers+=\"virtio_blk virtio_pci\"\n",
      "/etc/dracut.conf.d/a.conf": ""}, {OURS: 'add_drivers+=" virtio_pci virtio_blk "\n'}),
    # Red Hat 6 without a folder of fragments
    ({"/etc/dracut.conf": "hostonly=no"},
     {"/etc/dracut.conf": 'hostonly=no\nadd_drivers+=" virtio_pci virtio_blk "\n'}),
    ({"/etc/dracut.conf.d/vm.conf": 'add_drivers+=" virtio_pci virtio_blk "\n'
      'omit_drivers+=" nouveau virtio_blk floppy "\n'},
     {"/etc/dracut.conf.d/vm.conf": 'add_drivers+=" virtio_pci virtio_blk "\n'
      'omit_drivers+=" nouveau floppy "\n'}),
    ({"/etc/dracut.conf.d/d.conf": 'force_drivers+=" virtio_pci virtio_blk "\n'
      'add_device+="/dev/sda1 /dev/sda2"\nkernel_cmdline="resume=/dev/sda2"\nx="/dev/sda2"\n'},
     {"/etc/dracut.conf.d/d.conf": 'force_drivers+=" virtio_pci virtio_blk "\n'
      'add_device+="/dev/vda1 /dev/vda2"\nkernel_cmdline="resume=/dev/vda2"\nx="/dev/sda2"\n'}),
    ({"/usr/lib/dracut/dracut.conf.d/v.conf": 'add_drivers+=" virtio_pci virtio_blk "\n'}, {}),
    # which a file of that name in /etc replaces
    ({"/usr/lib/dracut/dracut.conf.d/v.conf": 'add_drivers+=" virtio_pci virtio_blk "\n',
      "/etc/dracut.conf.d/v.conf": ""}, {OURS: 'add_drivers+=" virtio_pci virtio_blk "\n'}),
])
def test_persist(files: dict[str, str], after: dict[str, str]) -> None:
    assert persisted(files) == after


def kernel(initrd: str) -> Kernel:
    return Kernel("2.6.32-754.el6", "/k", (initrd,), modules.read(FakeGuest({}), "x"), ())


def test_rebuild_of_red_hat_6_knows_no_option_against_hostonly() -> None:
    _, command = dracut.rebuild(FakeGuest({"/usr/share/dracut/modules.d/x": ""}),
                                kernel("/boot/initramfs-2.6.32-754.el6.img"), DRIVERS)
    assert command.argv == ("dracut", "-f", "--add-drivers", "virtio_pci virtio_blk",
                            "/boot/initramfs-2.6.32-754.el6.img", "2.6.32-754.el6")


def test_rebuild_of_a_rescue_image_keeps_it_one() -> None:
    _, command = dracut.rebuild(FakeGuest({}), kernel("/boot/initramfs-0-rescue-abc.img"), ())
    assert command.argv[:5] == ("dracut", "-f", "--no-hostonly", "--add", "rescue")


def test_an_image_of_red_hat_6_loads_by_udev_only() -> None:
    old = cpio.read(archive(tree({
        "init": b"#!/bin/sh\n", "lib/dracut-lib.sh": b"[ -e /etc/cmdline ]\n",
        "cmdline/01-parse-kernel.sh": b"for p in $(getargs rdloaddriver=); do\n"})))
    assert dracut.built(old)
    assert dracut.additions(old, RENAMER, DRIVERS) == {}
    assert dracut.loads(old, "virtio_blk") is None
