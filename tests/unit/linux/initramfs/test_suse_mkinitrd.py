from __future__ import annotations

import pytest

from imgconv.linux import modules
from imgconv.linux.bootloader import BootEntry
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import cpio, dracut, redhat_mkinitrd, suse_mkinitrd
from imgconv.linux.kernels import Kernel
from imgconv.model import Bus, Names
from tests.fake_guest import FakeGuest
from tests.guests import cpio as archive
from tests.guests import tree

DRIVERS = ("virtio_pci", "virtio_blk")
RENAMER = Renamer((), Names.UUID, Bus.VIRTIO_BLK)
CONF = "/etc/sysconfig/kernel"


@pytest.mark.parametrize(("text", "after"), [
    (None, 'INITRD_MODULES="virtio_pci virtio_blk"\n'),
    ('INITRD_MODULES=""\n', 'INITRD_MODULES="virtio_pci virtio_blk"\n'),
    ("INITRD_MODULES='ahci  virtio-pci'\nX=1\n",
     "INITRD_MODULES='ahci virtio-pci virtio_blk'\nX=1\n"),
    ("INITRD_MODULES=ahci\n", 'INITRD_MODULES="ahci virtio_pci virtio_blk"\n'),
    ('INITRD_MODULES="virtio_blk  virtio_pci"\n', None),
    ('DOMU_INITRD_MODULES="xenblk"\n# INITRD_MODULES="virtio_blk"',
     'DOMU_INITRD_MODULES="xenblk"\n# INITRD_MODULES="virtio_blk"\n'
     'INITRD_MODULES="virtio_pci virtio_blk"\n')])
def test_persist(text: str | None, after: str | None) -> None:
    guest = FakeGuest({} if text is None else {CONF: text})
    changes = suse_mkinitrd.persist(guest, RENAMER, DRIVERS)
    assert [change.content.decode() for change in changes] == ([] if after is None else [after])
    for change in changes:
        guest.write(change.path, change.content, change.mode)
    assert suse_mkinitrd.persist(guest, RENAMER, DRIVERS) == ()


def test_three_programs_are_called_mkinitrd() -> None:
    suse = FakeGuest({"/sbin/mkinitrd": "", "/lib/mkinitrd/scripts/boot-start.sh": ""})
    suse_10 = FakeGuest({"/sbin/mkinitrd": "", CONF: 'INITRD_MODULES="piix"\n'})
    wrapper = FakeGuest({"/sbin/mkinitrd": "", "/usr/bin/dracut": "", CONF: 'INITRD_MODULES=""\n'})
    red_hat = FakeGuest({"/sbin/mkinitrd": "", "/sbin/nash": ""})
    for guest, found in ((suse, suse_mkinitrd), (suse_10, suse_mkinitrd), (wrapper, dracut),
                         (red_hat, redhat_mkinitrd)):
        tools = (suse_mkinitrd, dracut, redhat_mkinitrd)
        assert [tool.NAME for tool in tools if tool.detect(guest)] == [found.NAME]


def test_an_image_without_any_modules_to_load() -> None:
    empty = cpio.read(archive(tree({"run_all.sh": b'modules=" $RESOLVED_INITRD_MODULES"\n'})))
    files = suse_mkinitrd.additions(empty, RENAMER, DRIVERS)
    assert files == {"run_all.sh": b"RESOLVED_INITRD_MODULES='virtio_pci virtio_blk'\n"
                                   b'modules=" $RESOLVED_INITRD_MODULES"\n'}


def test_the_first_assignment_counts() -> None:
    first = b"[ \"$RESOLVED_INITRD_MODULES\" ] || RESOLVED_INITRD_MODULES='ext3'\n"
    again = cpio.read(archive(tree({"run_all.sh": first + first.replace(b"ext3", b"virtio_blk")})))
    assert suse_mkinitrd.loads(again, "ext3")
    assert suse_mkinitrd.loads(again, "virtio_blk") is None


def test_the_root_device_is_named_for_a_rebuild() -> None:
    entry = BootEntry("SLES 11", "/boot/vmlinuz-3.0", ("/boot/initrd-3.0",), "root=UUID=12 quiet",
                      "/boot/grub/menu.lst")
    kernel = Kernel("3.0.101-default", "/boot/vmlinuz-3.0", ("/boot/initrd-3.0",),
                    modules.read(FakeGuest({}), "x"), (entry,))
    _, command = suse_mkinitrd.rebuild(FakeGuest({CONF: 'INITRD_MODULES="ext3"\n'}), kernel,
                                       DRIVERS)
    assert command.argv == ("mkinitrd", "-k", "/boot/vmlinuz-3.0", "-i", "/boot/initrd-3.0", "-m",
                            "ext3 virtio_pci virtio_blk", "-B", "-d", "/dev/disk/by-uuid/12")
