from __future__ import annotations

from dataclasses import replace

import pytest

from imgconv import pipeline
from imgconv.errors import CannotConvert, HostileInput
from imgconv.linux import modules
from imgconv.linux.bootloader import BootEntry
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import cpio, redhat_mkinitrd
from imgconv.linux.kernels import Kernel
from imgconv.model import Bus, Filesystem, InitramfsMode, Level, Names, Options
from tests.fake_guest import FakeGuest
from tests.guests import Legacy, tree
from tests.guests import cpio as archive

DRIVERS = ("virtio_pci", "virtio_blk")
RENAMER = Renamer((Filesystem("/dev/sda1", "ext3", "11-11"), Filesystem("/dev/sda2", "swap")),
                  Names.UUID, Bus.VIRTIO_BLK)
CONF = "/etc/modprobe.conf"
EL5 = "2.6.18-128.el5"


@pytest.mark.parametrize(("text", "after"), [
    (None, "alias scsi_hostadapter virtio_pci\nalias scsi_hostadapter1 virtio_blk\n"),
    ("alias eth0 e1000", "alias eth0 e1000\nalias scsi_hostadapter virtio_pci\n"
                         "alias scsi_hostadapter1 virtio_blk\n"),
    ("alias scsi_hostadapter1 ahci\n# alias scsi_hostadapter virtio_blk\n",
     "alias scsi_hostadapter1 ahci\n# alias scsi_hostadapter virtio_blk\n"
     "alias scsi_hostadapter virtio_pci\nalias scsi_hostadapter2 virtio_blk\n"),
    ("alias scsi_hostadapter virtio-blk\nalias scsi_hostadapter7\tvirtio_pci\n", None)])
def test_persist(text: str | None, after: str | None) -> None:
    guest = FakeGuest({} if text is None else {CONF: text})
    changes = redhat_mkinitrd.persist(guest, RENAMER, DRIVERS)
    assert [change.content.decode() for change in changes] == ([] if after is None else [after])
    for change in changes:
        guest.write(change.path, change.content, change.mode)
    assert redhat_mkinitrd.persist(guest, RENAMER, DRIVERS) == ()


def added(init: str) -> str:
    image = cpio.read(archive(tree({"init": init.encode()})))
    return redhat_mkinitrd.additions(image, RENAMER, ("virtio", "virtio_blk"))["init"].decode()


NEW = ('echo "Loading virtio.ko module"\ninsmod /lib/virtio.ko \n'
       'echo "Loading virtio_blk.ko module"\ninsmod /lib/virtio_blk.ko \n')


@pytest.mark.parametrize(("before", "after"), [
    ("mkblkdevs\ninsmod /lib/ext3.ko a=1\nmkblkdevs\nlvm vgscan\nmkrootdev -t ext3 sda1\n",
     f"mkblkdevs\ninsmod /lib/ext3.ko a=1\n{NEW}mkblkdevs\nlvm vgscan\nmkrootdev -t ext3 vda1\n"),
    ("hotplug\nmkblkdevs\nresume LABEL=SWAP-sda2\nmkrootdev -o ro hda1\n",
     f"hotplug\nmkblkdevs\n{NEW}mkblkdevs\nresume LABEL=SWAP-sda2\nmkrootdev -o ro vda1\n"),
    # Drivers behind the search for the root filesystem come too late.
    ("insmod /lib/a.ko\n/sbin/udevstart\nresume /dev/sda2\nswitchroot\ninsmod /lib/b.ko\n",
     f"insmod /lib/a.ko\n{NEW}/sbin/udevstart\nresume /dev/vda2\nswitchroot\ninsmod /lib/b.ko\n"),
])
def test_insmod_goes_where_the_disks_are_not_yet_needed(before: str, after: str) -> None:
    assert added("#!/bin/nash\n" + before) == "#!/bin/nash\n" + after


def test_an_init_that_makes_no_device_nodes() -> None:
    with pytest.raises(HostileInput, match="loads no modules"):
        added("#!/bin/nash\nmkrootdev sda1\n")


def test_enterprise_linux_5() -> None:
    """Its modules.dep holds absolute paths, and there is no modules.builtin."""
    guest, inspection = Legacy(releases=(EL5,), tool="redhat-mkinitrd", disk="hda").build()
    folder = f"/lib/modules/{EL5}"
    dep = guest.files[f"{folder}/modules.dep"].decode()
    guest.files[f"{folder}/modules.dep"] = dep.replace("kernel/", f"{folder}/kernel/").encode()
    for name in [n for n in guest.files if n.startswith(folder) and (
            n.endswith(".bin") or "builtin" in n)]:
        del guest.files[name]
    for names in Names:
        options = Options(names, initramfs=InitramfsMode.SPLICE)
        copy = FakeGuest(guest.files)
        plan = pipeline.planned(copy, inspection, options)
        pipeline.apply(copy, plan)
        findings = pipeline.verified(copy, inspection, options, plan)
        assert [f for f in findings if f.level is not Level.PROVEN] == []


def test_a_kernel_without_virtio_stays_on_ide() -> None:
    guest, inspection = Legacy(releases=("2.6.18-92.el5",), tool="redhat-mkinitrd",
                               virtio="absent", disk="hda").build()
    plan = pipeline.planned(guest, inspection, Options())
    assert plan.changes == ()
    assert plan.capabilities.block is Bus.IDE


def test_rebuild_of_red_hat_4_is_told_of_lvm() -> None:
    entry = BootEntry("RHEL 4", "/k", ("/i",), "ro root=/dev/VolGroup00/LogVol00", "/boot/grub")
    kernel = Kernel("2.6.9-89.EL", "/k", ("/i",), modules.read(FakeGuest({}), "x"), (entry,))
    argv = ("mkinitrd", "-f", "--with=virtio_pci", "--with=virtio_blk", "/i")
    _, command = redhat_mkinitrd.rebuild(FakeGuest({}), kernel, DRIVERS)
    assert command.argv == ("env", "root_lvm=1", *argv, "2.6.9-89.EL")
    _, command = redhat_mkinitrd.rebuild(FakeGuest({}), replace(kernel, release=EL5), DRIVERS)
    assert command.argv == (*argv, EL5)


def test_an_image_of_the_old_kind_is_refused() -> None:
    ext2 = bytes(1080) + b"\x53\xef" + bytes(4096)
    guest, inspection = Legacy(tool="redhat-mkinitrd", extra={
        "/boot/initrd.img-6.1.0-13-amd64": ext2}).build()
    for mode in InitramfsMode:
        with pytest.raises(CannotConvert, match=r"initrd of the old kind .* ext2"):
            pipeline.planned(guest, inspection, Options(initramfs=mode))
