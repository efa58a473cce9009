"""Which disk a name means: several disks, several kinds of names, disks without partitions."""

from __future__ import annotations

import pytest

from imgconv import linux, pipeline
from imgconv.linux import places
from imgconv.linux.device_names import Renamer, parse
from imgconv.model import Bus, Filesystem, InitramfsMode, Level, Names, Options, Plan
from imgconv.verify import linux as verify
from tests.guests import ESP_UUID, Legacy

FIRST, SECOND, THIRD = (Filesystem(f"/dev/sd{letter}1", "ext4", f"uuid-{letter}")
                        for letter in "abc")
SPLICE = Options(initramfs=InitramfsMode.SPLICE)


def found(specs: str, *filesystems: Filesystem) -> dict[str, int]:
    text = "".join(f"{spec} /m{number} ext4 ro 0 0\n" for number, spec in enumerate(specs.split()))
    text += "/dev/hdd /media/cdrom udf,iso9660 ro 0 0\n/dev/hdc /media/x auto noauto 0 0\n"
    return dict(places.of(text, filesystems))


@pytest.mark.parametrize(("specs", "disks", "expected"), [
    ("/dev/hda1", 1, {}), ("/dev/hda1 /dev/hdb1", 2, {}), ("/dev/hda1 /dev/hda2", 1, {}),
    ("/dev/hda1 /dev/hdc1", 2, {"hda": 0, "hdc": 1}), ("/dev/hdc1", 1, {"hdc": 0}),
    ("/dev/hda1 /dev/hdd1", 2, {"hda": 0, "hdd": 1}),
    ("/dev/hda1 /dev/hdb1 /dev/hdc5", 3, {}),  # all say what they are
    ("/dev/hda1 /dev/hdc1 /dev/hdd1", 3, {"hda": 0, "hdc": 1, "hdd": 2}),
    ("/dev/hda1 /dev/hdc1", 1, {"hdc": -1}), ("/dev/hdc1 /dev/hda1 /dev/hdd1", 2, {
        "hdc": -1, "hdd": -1}),
    ("/dev/sda1 /dev/sdc1", 2, {}), ("/dev/sdc1", 1, {}),
    ("/dev/hda1 /dev/sda1", 1, {}),  # one disk, before and after libata
    ("/dev/sda1 /dev/hda1", 2, {"hda": 0, "sda": 1}),
    ("/dev/sda1 /dev/nvme0n1p1 /dev/hda1", 3, {"hda": 0, "sda": 1, "nvme0": 2}),
    ("/dev/hda1 /dev/sda1 /dev/sdb1", 2, {"hda": -1, "sda": -1, "sdb": -1}),
    ("/dev/vda1 /dev/sda1", 2, {"sda": -1}), ("/dev/vda1 /dev/vdb1", 2, {}),
    ("UUID=x LABEL=y tmpfs", 2, {}), ("", 0, {})])
def test_places(specs: str, disks: int, expected: dict[str, int]) -> None:
    assert found(specs, *(FIRST, SECOND, THIRD)[:disks]) == expected


def test_a_name_whose_place_is_known() -> None:
    renamer = Renamer((FIRST, SECOND), Names.UUID, Bus.VIRTIO_BLK, (("hda", 0), ("hdc", 1)))
    assert renamer.rename("/dev/hdc1") == "UUID=uuid-b"
    assert renamer.rename("/dev/hdc1", by_uuid=False) == "/dev/vdb1"
    assert renamer.rename_disk("/dev/hdc") == "/dev/vdb"
    unknown = Renamer((FIRST, SECOND), Names.UUID, Bus.VIRTIO_BLK, (("sda", -1),))
    assert unknown.rename("/dev/sda1") == unknown.rename_disk("/dev/sda1") == "/dev/sda1"
    assert unknown.resolves("/dev/vda1") is FIRST


def test_whole_disks() -> None:
    renamer = Renamer((FIRST,), Names.UUID, Bus.VIRTIO_BLK)
    assert [renamer.rename_disk(spec) for spec in (
        "/dev/sda", "/dev/hda", "/dev/hda3", "/dev/sdb", "/dev/mapper/x", "hd0",
        "/dev/disk/by-id/ata-X", "/dev/disk/by-id/scsi-X-part2")] == [
            "/dev/vda", "/dev/vda", "/dev/vda3", "/dev/sdb", "/dev/mapper/x", "hd0", "/dev/vda",
            "/dev/vda2"]
    assert renamer.is_disk("/dev/vda")
    assert not any(map(renamer.is_disk, ("/dev/sda", "/dev/vdb", "/dev/md0", "")))


def test_a_disk_that_is_one_filesystem() -> None:
    """Xen hands filesystems to its guests as xvda1; the image then has no partitions."""
    bare = Filesystem("/dev/sda", "ext4", "uuid")
    for names, expected in ((Names.UUID, "UUID=uuid"), (Names.DEVICE, "/dev/vda")):
        renamer = Renamer((bare,), names, Bus.VIRTIO_BLK)
        assert {renamer.rename(spec) for spec in ("/dev/xvda1", "/dev/sda1", "/dev/xvda")} == {
            expected}
        assert renamer.rename("/dev/xvda2") == "/dev/xvda2"
        assert renamer.rename(expected) == expected
        assert renamer.resolves("/dev/vda") is bare
        assert renamer.resolves("/dev/vda1") is None
    mixed = Renamer((bare, SECOND), Names.DEVICE, Bus.VIRTIO_BLK)
    assert mixed.rename("/dev/sdb1") == "/dev/vdb1"


@pytest.mark.parametrize(("name", "whole"), [
    ("/dev/sda1", "sda"), ("/dev/nvme1n1p2", "nvme1"), ("/dev/cciss/c0d1p2", "cciss/c0d1"),
    ("/dev/ida/c0d0p1", "ida/c0d0"), ("/dev/xvdaa1", "xvdaa"), ("/dev/mmcblk0p1", "mmcblk0")])
def test_whole(name: str, whole: str) -> None:
    parsed = parse(name)
    assert parsed is not None
    assert parsed.whole == whole


@pytest.mark.parametrize("name", ["/dev/cciss/c1d0p1", "/dev/nvme0n2p1", "/dev/ida/c1d0",
                                  "/dev/i2o/hda1"])
def test_names_that_do_not_tell(name: str) -> None:
    assert parse(name) is None


def test_partlabels() -> None:
    labelled = Filesystem("/dev/sda1", "ext4", "u", partlabel="My root")
    renamer = Renamer((labelled,), Names.UUID, Bus.VIRTIO_BLK)
    for spec in (r"PARTLABEL=My\040root", r"/dev/disk/by-partlabel/My\x20root"):
        assert renamer.rename(spec) == spec
        assert renamer.resolves(spec) is labelled
    assert renamer.resolves("PARTLABEL=my root") is None


@pytest.mark.parametrize("second", ["hdc", "hdd", "sda", "nvme0n1p"])
@pytest.mark.parametrize("names", Names)
def test_a_guest_whose_second_disk_is_elsewhere(second: str, names: Names) -> None:
    guest, inspection = Legacy(disk="hda", second_disk=True).build()
    guest.files["/etc/fstab"] = guest.files["/etc/fstab"].replace(
        b"/dev/hdb1", f"/dev/{second}1".encode())
    options = Options(names, initramfs=InitramfsMode.SPLICE)
    plan = pipeline.planned(guest, inspection, options)
    pipeline.apply(guest, plan)
    findings = pipeline.verified(guest, inspection, options, plan)
    assert {f.level for f in findings} == {Level.PROVEN}
    wanted = f"UUID={ESP_UUID}" if names is Names.UUID else "/dev/vdb1"
    assert f"{wanted} /data".encode() in guest.files["/etc/fstab"]


def test_the_type_is_a_witness_that_it_is_the_right_disk() -> None:
    guest, inspection = Legacy(disk="hda", second_disk=True).build()
    guest.files["/etc/fstab"] = guest.files["/etc/fstab"].replace(
        b"/dev/hdb1 /data ext4", b"/dev/hdb1 /stuff xfs")
    plan = linux.plan(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    failed = [f.message for f in verify.verify(guest, inspection, plan) if f.level is Level.FAILED]
    assert failed == [f"UUID={ESP_UUID} is ext4, so it is not what /dev/hdb1 was"]
    findings = verify.verify(guest, inspection, Plan((), plan.capabilities))
    assert not [f for f in findings if f.level is Level.FAILED]
