"""Guests that look converted and would not boot, or look unconverted and would."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgconv import linux, pipeline
from imgconv.linux import initramfs
from imgconv.linux.initramfs import cpio
from imgconv.model import (
    Bus,
    Capabilities,
    Filesystem,
    Firmware,
    InitramfsMode,
    Level,
    Options,
    Plan,
)
from imgconv.verify import linux as verify
from tests.fake_guest import FakeGuest
from tests.guests import Legacy

SPLICE = Options(initramfs=InitramfsMode.SPLICE)


def converted(legacy: Legacy, **files: str) -> tuple[FakeGuest, list[str], list[str]]:
    """The guest after planning and applying, and the messages that failed and that warn."""
    guest, inspection = legacy.build()
    for path, content in files.items():
        guest.files[path] = content.encode()
    plan = linux.plan(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    found = verify.verify(guest, inspection, plan)
    return (guest, [f.message for f in found if f.level is Level.FAILED],
            [f.message for f in found if f.level is Level.WARNING])


def test_the_default_entry_must_start_an_installed_kernel() -> None:
    guest, inspection = Legacy().build()
    config = guest.files["/boot/grub/grub.cfg"].decode()
    stale = "menuentry 'gone' {\n\tlinux /boot/vmlinuz-5 root=/dev/sda1\n\tinitrd /boot/i-5\n}\n"
    for text, level in ((stale + config, Level.FAILED), (config + stale, Level.WARNING)):
        guest.files["/boot/grub/grub.cfg"] = text.encode()
        found = verify.verify(guest, inspection, Plan((), Capabilities(Bus.VIRTIO_BLK)))
        assert [f.level for f in found if "'gone' starts no kernel" in f.message] == [level]


def test_a_default_without_root_is_not_proven() -> None:
    guest, inspection = Legacy().build()
    config = guest.files["/boot/grub/grub.cfg"].decode().replace(" root=/dev/sda1", "")
    guest.files["/boot/grub/grub.cfg"] = config.encode()
    found = verify.verify(guest, inspection, Plan((), Capabilities(Bus.VIRTIO_BLK)))
    assert any(f.level is Level.FAILED and "no root=" in f.message for f in found)


@pytest.mark.parametrize("fallback", ["/boot/efi/EFI/BOOT/BOOTX64.EFI",
                                      "/boot/efi/efi/boot/bootx64.efi"])
def test_uefi_needs_the_fallback_loader(fallback: str) -> None:
    guest, inspection = Legacy().build()
    inspection = replace(inspection, firmware=Firmware.UEFI)
    plan = Plan((), Capabilities(Bus.VIRTIO_BLK))
    failed = [f.message for f in verify.verify(guest, inspection, plan)
              if f.level is Level.FAILED and f.subject == "UEFI"]
    assert failed
    guest.files[fallback] = b"MZ"
    assert not [f for f in verify.verify(guest, inspection, plan)
                if f.level is Level.FAILED and f.subject == "UEFI"]


def test_all_initrds_of_an_entry_are_one_initramfs() -> None:
    """A second file that is loaded behind the first replaces what has the same name in it."""
    legacy = Legacy()
    guest, inspection = legacy.build()
    config = guest.files["/boot/grub/grub.cfg"].decode()
    name = next(line.split()[1] for line in config.splitlines() if "initrd" in line)
    guest.files["/boot/extra.img"] = cpio.archive(cpio.read(guest.files[name]), {"etc/x": b"x"})
    guest.files["/boot/grub/grub.cfg"] = config.replace(
        f"{name}\n", f"{name} /boot/extra.img\n").encode()
    plan = linux.plan(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    assert all(f.level is not Level.FAILED for f in verify.verify(guest, inspection, plan))
    whole = initramfs.read(guest, (name, "/boot/extra.img"))
    assert b"ext4" in (whole.read("conf/modules") or b"")
    assert b"virtio_blk" in (whole.read("conf/modules") or b"")
    assert whole.read("etc/x") == b"x"


def test_a_ready_guest_is_proven_as_it_is() -> None:
    """That only the guest's own next update would lose the drivers is worth a warning."""
    legacy = Legacy(names="uuid")
    guest, _, _ = converted(legacy)
    _, inspection = legacy.build()
    guest.files["/etc/initramfs-tools/modules"] = b""
    found = verify.verify(guest, inspection, Plan((), Capabilities(Bus.VIRTIO_BLK)))
    assert [f.level for f in found if "would lose the drivers" in f.message] == [Level.WARNING]
    assert all(f.level is not Level.FAILED for f in found)


def test_hd_letters_are_places_on_the_cable() -> None:
    """With several disks /dev/hdc need not be the third: what is not known is not proven."""
    legacy = Legacy(disk="hda", second_disk=True)
    guest, inspection = legacy.build()
    inspection = replace(inspection, filesystems=(
        *inspection.filesystems, Filesystem("/dev/sdc1", "ext4", "third")))
    fstab = guest.files["/etc/fstab"].replace(b"/dev/hdb1", b"/dev/hdc1")
    guest.files["/etc/fstab"] = fstab
    plan = linux.plan(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    assert b"/dev/hdc1" in guest.files["/etc/fstab"]
    failed = [f.message for f in verify.verify(guest, inspection, plan)
              if f.level is Level.FAILED]
    assert any("/dev/hdc1" in message for message in failed)


def test_old_names_mean_the_old_bus() -> None:
    guest, _ = Legacy(disk="hda", virtio="absent").build()
    assert linux.old_bus(guest) is Bus.IDE
    for path in guest.files:  # root= says so as well
        if path == "/etc/fstab":
            guest.files[path] = b"LABEL=/ / ext3 defaults 0 1\n"
        guest.files[path] = guest.files[path].replace(b"ata_piix", b"ahci")
    assert linux.old_bus(guest) is Bus.IDE


def test_names_that_are_not_understood_are_said() -> None:
    guest, inspection = Legacy().build()
    guest.files["/etc/fstab"] += b"ID=data /data ext4 defaults 0 2\n"
    plan = Plan((), Capabilities(Bus.VIRTIO_BLK))
    assert any("ID=data" in f.message and f.level is Level.WARNING
               for f in verify.verify(guest, inspection, plan))
