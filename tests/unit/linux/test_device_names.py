from __future__ import annotations

import pytest

from imgconv.linux.device_names import DiskName, Renamer, disk_letters, hangs_on_bus, parse
from imgconv.model import Bus, Filesystem, Names

ROOT = "0b8b9b8e-1111-4111-8111-000000000001"
FILESYSTEMS = (
    Filesystem("/dev/sda1", "ext4", ROOT, "my disk", "c0ffee00-01"),
    Filesystem("/dev/sda2", "swap", "0b8b9b8e-1111-4111-8111-000000000002"),
    Filesystem("/dev/sda3", ""),
    Filesystem("/dev/sda5", "vfat", "AB12-CD34", "ESP"),
    Filesystem("/dev/vg-0/root", "xfs", "0b8b9b8e-1111-4111-8111-000000000003"),
)
SECOND = Filesystem("/dev/sdb1", "ext4", "0b8b9b8e-1111-4111-8111-000000000009")


def renamer(names: Names = Names.UUID, bus: Bus = Bus.VIRTIO_BLK,
            extra: tuple[Filesystem, ...] = ()) -> Renamer:
    return Renamer((*FILESYSTEMS, *extra), names, bus)


@pytest.mark.parametrize(("name", "expected"), [
    ("/dev/sda", DiskName("sd", 0, None)), ("/dev/hdb12", DiskName("hd", 1, 12)),
    ("/dev/xvda1", DiskName("xvd", 0, 1)), ("/dev/vdaa3", DiskName("vd", 26, 3)),
    ("/dev/nvme0n1p2", DiskName("nvme", 0, 2)), ("/dev/nvme1n1", DiskName("nvme", 1, None)),
    ("/dev/mmcblk0p1", DiskName("mmcblk", 0, 1)),
    ("/dev/cciss/c0d1p3", DiskName("cciss/c0d", 1, 3)),
    *((name, None) for name in (
        "", "sda1", "/dev/sda0", "/dev/sda1234", "/dev/sdaaa1", "/dev/sr0", "/dev/fd0", "/dev/md0",
        "/dev/dm-0", "/dev/mapper/sda1", "/dev/sda1/x", "/dev/SDA1", "UUID=x", "/dev/loop0",
        "/dev/nvme0p1", "/dev/sda1\n", "/dev/scd0", "/dev/hvc0"))])
def test_parse(name: str, expected: DiskName | None) -> None:
    assert parse(name) == expected


def test_letters() -> None:
    assert [disk_letters(index) for index in (0, 25, 26, 27, 51, 52)] == [
        "a", "z", "aa", "ab", "az", "ba"]
    for index in range(300):
        name = parse(f"/dev/sd{disk_letters(index)}7")
        assert name == DiskName("sd", index, 7)


@pytest.mark.parametrize(("spec", "device"), [
    ("/dev/sda1", "/dev/sda1"), ("/dev/hda1", "/dev/sda1"), ("/dev/vda2", "/dev/sda2"),
    ("/dev/nvme0n1p5", "/dev/sda5"), ("/dev/sdb1", None), ("/dev/sda", None),
    (f"UUID={ROOT}", "/dev/sda1"), (f'UUID="{ROOT}"', "/dev/sda1"), (f"UUID={ROOT.upper()}",
                                                                     "/dev/sda1"),
    ("UUID=ab12-cd34", "/dev/sda5"), ("UUID=", None), ("LABEL=ESP", "/dev/sda5"),
    ("LABEL=esp", None), (r"LABEL=my\040disk", "/dev/sda1"),
    (r"/dev/disk/by-label/my\x20disk", "/dev/sda1"), ("PARTUUID=C0FFEE00-01", "/dev/sda1"),
    (f"/dev/disk/by-uuid/{ROOT}", "/dev/sda1"), ("/dev/disk/by-partuuid/c0ffee00-01", "/dev/sda1"),
    ("/dev/disk/by-nothing/x", None), ("/dev/vg-0/root", "/dev/vg-0/root"),
    ("/dev/mapper/vg--0-root", "/dev/vg-0/root"), ("tmpfs", None), ("server:/export", None),
    ("/dev/disk/by-id/ata-QEMU_HARDDISK_QM00001-part2", "/dev/sda2"),
    ("/dev/disk/by-path/pci-0000:00:01.1-ata-1-part1", "/dev/sda1"),
    ("/dev/disk/by-id/dm-name-vg-root", None)])
def test_what_a_name_means(spec: str, device: str | None) -> None:
    filesystem = renamer().filesystem(spec)
    assert (filesystem.device if filesystem else None) == device


@pytest.mark.parametrize(("spec", "uuid", "device"), [
    ("/dev/hda1", f"UUID={ROOT}", "/dev/vda1"), ("/dev/sda3", "/dev/vda3", "/dev/vda3"),
    ("/dev/sda9", "/dev/sda9", "/dev/sda9"), ("/dev/hdc", "/dev/hdc", "/dev/hdc"),
    (f"UUID={ROOT}", f"UUID={ROOT}", f"UUID={ROOT}"), ("LABEL=ESP", "LABEL=ESP", "LABEL=ESP"),
    ("/dev/vg-0/root", "/dev/vg-0/root", "/dev/vg-0/root"), ("none", "none", "none"),
    ("/dev/disk/by-id/scsi-SATA_QEMU-part1", f"UUID={ROOT}", "/dev/vda1")])
def test_rename(spec: str, uuid: str, device: str) -> None:
    assert renamer().rename(spec) == uuid
    assert renamer(Names.DEVICE).rename(spec) == device
    assert renamer().rename(spec, by_uuid=False) == device


def test_rename_on_virtio_scsi() -> None:
    assert renamer(Names.DEVICE, Bus.VIRTIO_SCSI).rename("/dev/hda1") == "/dev/sda1"
    assert renamer(Names.DEVICE, Bus.VIRTIO_SCSI).rename("/dev/sda1") == "/dev/sda1"


def test_by_id_is_not_guessed_among_several_disks() -> None:
    both = renamer(extra=(SECOND,))
    name = "/dev/disk/by-id/ata-QEMU_HARDDISK_QM00001-part1"
    assert both.rename(name) == name
    assert both.resolves(name) is None
    assert both.rename("/dev/hdb1") == f"UUID={SECOND.uuid}"


def test_a_copied_disk_is_not_named_by_uuid() -> None:
    copy = renamer(extra=(Filesystem("/dev/sdb1", "ext4", ROOT),))
    assert copy.rename("/dev/sda1") == "/dev/vda1"
    assert copy.rename("/dev/sdb1") == "/dev/vdb1"
    members = tuple(Filesystem(f"/dev/sd{letter}1", "btrfs", ROOT) for letter in "bc")
    assert Renamer(members, Names.UUID, Bus.VIRTIO_BLK).rename("/dev/sdb1") == f"UUID={ROOT}"


@pytest.mark.parametrize(("bus", "there", "gone"), [
    (Bus.VIRTIO_BLK, ("/dev/vda1", f"UUID={ROOT}"), ("/dev/sda1", "/dev/hda1", "/dev/vda9")),
    (Bus.VIRTIO_SCSI, ("/dev/sda1", "LABEL=ESP"), ("/dev/vda1", "/dev/hda1")),
    (Bus.SATA, ("/dev/sda1",), ("/dev/hda1", "/dev/vda1")),
    (Bus.IDE, ("/dev/sda1", "/dev/hda1", "/dev/disk/by-id/ata-X-part1"), ("/dev/vda1",))])
def test_resolves(bus: Bus, there: tuple[str, ...], gone: tuple[str, ...]) -> None:
    assert all(renamer(bus=bus).resolves(spec) for spec in there)
    assert not any(renamer(bus=bus).resolves(spec) for spec in gone)


@pytest.mark.parametrize(("name", "answer"), [
    ("/dev/sda1", True), ("/dev/disk/by-path/pci-0000:00:1f.2-ata-1", True),
    ("/dev/disk/by-id/wwn-0x5000-part1", True), ("/dev/disk/by-id/md-uuid-1:2", False),
    ("/dev/disk/by-id/lvm-pv-uuid-x", False), ("/dev/disk/by-uuid/x", False), ("UUID=x", False)])
def test_hangs_on_bus(name: str, answer: bool) -> None:
    assert hangs_on_bus(name) is answer
