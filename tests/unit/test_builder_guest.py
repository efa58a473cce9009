"""What the builder writes into a guest: table, configuration files, boot loader."""

from __future__ import annotations

import subprocess
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from imgconv.builder import Recipe, grub, grub_efi, grub_pc, load_recipe, rootfs
from imgconv.builder.files import guest_files
from imgconv.builder.filesystem import mkfs_argv
from imgconv.builder.layout import FIRST, device, layout, sfdisk_script
from imgconv.builder.recipe import MIB
from imgconv.errors import ImgconvError

LEGACY = load_recipe("legacy-bookworm")
READY = load_recipe("virtio-ready-bookworm")
UEFI = load_recipe("legacy-bookworm-uefi")


def core_image(sectors: int, *, start: int = 2, count: int | None = None) -> bytes:
    """Make a core.img of so many sectors, its block list as grub-mkimage writes it."""
    first = bytearray(512)
    first[500:508] = start.to_bytes(8, "little")
    first[508:510] = (sectors - 1 if count is None else count).to_bytes(2, "little")
    return bytes(first) + b"\xcc" * (512 * (sectors - 1))


BOOT = bytes(range(256)) + bytes(254) + b"\x55\xaa"
MBR = b"\x11" * 440 + b"\x22" * 70 + b"\x55\xaa"


@pytest.mark.parametrize(("disk", "number", "name"), [
    ("sda", 1, "/dev/sda1"), ("hda", 2, "/dev/hda2"), ("nvme0n1", 1, "/dev/nvme0n1p1")])
def test_partition_names(disk: str, number: int, name: str) -> None:
    assert device(disk, number) == name


def test_partitions_fill_the_disk_in_order() -> None:
    disk = layout(LEGACY)
    root, swap = disk.partitions
    assert root.start == FIRST == MIB
    assert swap.start == root.start + root.size
    assert swap.start + swap.size == disk.size == LEGACY.disk_size
    assert disk == layout(LEGACY)
    assert disk.root.uuid != layout(READY).root.uuid


def test_sfdisk_script() -> None:
    disk = layout(LEGACY)
    assert sfdisk_script(disk).splitlines() == [
        "label: dos", f"label-id: 0x{disk.disk_id}", "unit: sectors", "",
        "start=2048, size=3930112, type=83, bootable", "start=3932160, size=262144, type=82"]


def test_a_gpt_has_an_esp_and_room_for_its_copy() -> None:
    disk = layout(UEFI)
    esp_, root, swap = disk.partitions
    assert (esp_.device, root.device, swap.device) == ("/dev/sda1", "/dev/sda2", "/dev/sda3")
    assert swap.start + swap.size == disk.size - MIB
    assert sfdisk_script(disk).splitlines() == [
        "label: gpt", f"label-id: {disk.disk_id}", "unit: sectors", "",
        f"start=2048, size=131072, type=uefi, uuid={esp_.partuuid}",
        f"start=133120, size=3796992, type=linux, uuid={root.partuuid}",
        f"start=3930112, size=262144, type=swap, uuid={swap.partuuid}"]
    lines = guest_files(UEFI, disk)["/etc/fstab"].splitlines()
    assert "/dev/sda1 /boot/efi vfat umask=0077 0 1" in lines
    assert "/dev/sda2 / ext4 errors=remount-ro 0 1" in lines
    stub = subprocess.run(["sh", "-c", grub.probe_stub(UEFI, disk), "grub-probe", "-t", "drive"],
                          capture_output=True, text=True, check=True)
    assert stub.stdout == "(hostdisk//dev/sda,gpt2)\n"


def test_an_esp_is_where_the_table_says(tmp_path: Path) -> None:
    disk = layout(UEFI)
    assert disk.esp is not None
    image, core, back = tmp_path / "disk.raw", tmp_path / "core.efi", tmp_path / "back"
    core.write_bytes(b"MZ core")
    with image.open("wb") as file:
        file.truncate(disk.size)
    grub_efi.install(image, tmp_path, disk)
    with image.open("rb") as file:
        file.seek(disk.esp.start)
        back.write_bytes(file.read(disk.esp.size))
        assert not any(file.read(MIB))
    for place in ("EFI/BOOT/BOOTX64.EFI", "EFI/debian/grubx64.efi"):
        shown = subprocess.run(["mtype", "-i", back, f"::/{place}"], capture_output=True,
                               check=True)
        assert shown.stdout == b"MZ core"
    assert subprocess.run(["blkid", "-o", "value", "-s", "UUID", back], capture_output=True,
                          text=True, check=True).stdout.strip() == disk.esp.uuid
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "core.efi", "disk.raw"]


def test_grub_for_uefi_needs_an_esp(tmp_path: Path) -> None:
    with pytest.raises(ImgconvError, match="EFI system partition"):
        grub_efi.install(tmp_path / "disk.raw", tmp_path, layout(LEGACY))


def test_legacy_files_name_devices() -> None:
    files = guest_files(LEGACY, layout(LEGACY))
    lines = files["/etc/fstab"].splitlines()
    assert "/dev/sda1 / ext4 errors=remount-ro 0 1" in lines
    assert "/dev/sda2 swap swap defaults 0 0" in lines
    assert files["/etc/initramfs-tools/conf.d/resume"] == "RESUME=/dev/sda2\n"
    assert "GRUB_DISABLE_LINUX_UUID=true\n" in files["/etc/default/grub"]
    assert 'GRUB_CMDLINE_LINUX="console=ttyS0"\n' in files["/etc/default/grub"]
    assert len(files["/etc/machine-id"].strip()) == 32


def test_ready_files_name_uuids() -> None:
    disk = layout(READY)
    files = guest_files(READY, disk)
    assert disk.swap is not None
    assert "/dev/sda" not in "".join(files.values())
    assert f"UUID={disk.root.uuid} / ext4" in files["/etc/fstab"]
    assert files["/etc/initramfs-tools/conf.d/resume"] == f"RESUME=UUID={disk.swap.uuid}\n"
    assert "GRUB_DISABLE_LINUX_UUID" not in files["/etc/default/grub"]


def test_without_swap() -> None:
    recipe = replace(LEGACY, swap_size=0)
    files = guest_files(recipe, layout(recipe))
    assert "swap" not in files["/etc/fstab"]
    assert "/etc/initramfs-tools/conf.d/resume" not in files


def test_the_filesystem_is_made_at_its_offset_and_readable_by_grub() -> None:
    argv = mkfs_argv(LEGACY, layout(LEGACY).root, "/tree", "/disk.raw")
    assert "offset=1048576" in argv[argv.index("-E") + 1].split(",")
    assert argv[-3:] == ["/tree", "/disk.raw", "1965056k"]
    features = argv[argv.index("-O") + 1].split(",")
    assert features[0] == "none"
    assert not {"metadata_csum_seed", "orphan_file"} & set(features)


def test_archive_is_roots() -> None:
    with tarfile.open(fileobj=BytesIO(rootfs.archive({"/etc/x": "hä\n"}))) as tar:
        member = tar.getmember("etc/x")
        assert (member.uid, member.gid, member.mode) == (0, 0, 0o644)
        assert (tar.extractfile(member) or BytesIO()).read() == "hä\n".encode()


def test_extra_packages_and_kernel_are_installed(tmp_path: Path) -> None:
    recipe = replace(LEGACY, packages=("lvm2",), kernel="linux-image-cloud-amd64")
    include = next(word for word in rootfs.mmdebstrap_argv(recipe, tmp_path)
                   if word.startswith("--include="))
    assert {"lvm2", "linux-image-cloud-amd64", "grub-pc-bin", "initramfs-tools"} <= set(
        include.removeprefix("--include=").split(","))


@pytest.mark.parametrize(("arguments", "answer"), [
    (["--target=device", "/"], "/dev/sda1\n"),
    (["--device", "/dev/sda1", "--target=fs_uuid"], f"{layout(LEGACY).root.uuid}\n"),
    (["--device", "/dev/sda1", "--target=partmap"], "msdos\n"),
    (["-t", "abstraction", "/boot"], "\n"),
    (["-t", "fs", "/boot"], "ext2\n"),
    (["--device", "/dev/sda1", "--target=partuuid"], f"{layout(LEGACY).disk_id}-01\n"),
    (["--device", "/dev/sda1", "--target=compatibility_hint"], "hd0,msdos1\n"),
])
def test_the_probe_stub_answers_as_grub_probe(arguments: list[str], answer: str) -> None:
    script = grub.probe_stub(LEGACY, layout(LEGACY))
    done = subprocess.run(["sh", "-c", script, "grub-probe", *arguments], capture_output=True,
                          text=True, check=True)
    assert done.stdout == answer


def test_the_probe_stub_fails_for_what_the_disk_lacks() -> None:
    script = grub.probe_stub(LEGACY, layout(LEGACY))
    done = subprocess.run(["sh", "-c", script, "grub-probe", "--target=cryptodisk_uuid"],
                          capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("recipe", [LEGACY, READY, UEFI, replace(LEGACY, swap_size=0)])
def test_the_scripts_are_shell(recipe: Recipe, tmp_path: Path) -> None:
    disk = layout(recipe)
    for script in (rootfs.configure_script(recipe, disk),
                   rootfs.filesystem_script(recipe, disk, tmp_path / "a b")):
        subprocess.run(["sh", "-n", "-c", script], check=True)


def test_grub_keeps_the_partition_table_and_lies_behind_the_mbr() -> None:
    core = core_image(60)[:-100]        # the last sector is not full
    areas = grub_pc.boot_areas(MBR, BOOT, core, FIRST)
    assert sorted(areas) == [0, 512]
    sector = areas[0]
    assert len(sector) == 512
    assert sector[440:] == MBR[440:]
    assert sector[:0x5C] == BOOT[:0x5C]
    assert sector[0x5C:0x64] == (1).to_bytes(8, "little")
    assert sector[0x66:0x68] == b"\x90\x90"
    assert sector[0x68:440] == BOOT[0x68:440]
    assert areas[512] == core + bytes(100)


@pytest.mark.parametrize(("mbr", "boot", "core", "room", "words"), [
    (MBR, BOOT[:-1] + b"\0", core_image(9), FIRST, "boot.img"),
    (MBR[:100], BOOT, core_image(9), FIRST, "boot.img"),
    (MBR, BOOT, core_image(9, start=7), FIRST, "does not expect"),
    (MBR, BOOT, core_image(9, count=3), FIRST, "does not expect"),
    (MBR, BOOT, b"", FIRST, "does not expect"),
    (MBR, BOOT, core_image(63), 63 * 512, "does not fit"),
])
def test_impossible_grub_images(mbr: bytes, boot: bytes, core: bytes, room: int,
                                words: str) -> None:
    with pytest.raises(ImgconvError, match=words):
        grub_pc.boot_areas(mbr, boot, core, room)


def test_grub_just_fits() -> None:
    assert grub_pc.boot_areas(MBR, BOOT, core_image(62), 63 * 512)


def test_grub_is_written_into_the_image(tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(MBR + bytes(FIRST))
    (tmp_path / "boot.img").write_bytes(BOOT)
    (tmp_path / "core.img").write_bytes(core_image(4))
    grub_pc.install(disk, tmp_path, layout(LEGACY))
    content = disk.read_bytes()
    assert content[440:512] == MBR[440:]
    assert content[512:512 * 5] == core_image(4)
    assert len(content) == 512 + FIRST
    assert not any(content[512 * 5:])
