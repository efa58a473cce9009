"""A small arm64 guest: Debian's kernel, GRUB for UEFI and busybox, put together without running any
of their programs, so that no emulator of other processors need be registered with the host."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from imgconv.builder import esp
from imgconv.builder.layout import layout, sfdisk_script
from imgconv.builder.recipe import parse_recipe
from imgconv.builder.tools import with_sbin
from tests.guests import Record, cpio, tree

PACKAGES = "linux-image-arm64,busybox-static,grub-efi-arm64-bin"

#: What the initramfs needs to mount the root filesystem, besides the driver of its disk.
EXT4 = ("ext4", "crc32c_generic")
VIRTIO = ("virtio_pci", "virtio_blk")

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /root /sbin /usr/bin /usr/sbin
/bin/busybox --install -s
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
for module in MODULES; do modprobe $module; done
root=$(sed 's/.*root=\\([^ ]*\\).*/\\1/' /proc/cmdline)
for second in 1 2 3 4 5; do [ -b "$root" ] || sleep 1; done
mount -t ext4 "$root" /root || exit 1
umount /proc /sys
exec switch_root /root /sbin/init
"""

#: What systems do that the verdict looks for: swap, and a login prompt.
SYSTEM = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -o remount,rw /
/bin/busybox hostname arm
/bin/busybox swapon /dev/vda3
while :; do /bin/busybox getty -L 115200 ttyAMA0; /bin/busybox sleep 1; done
"""


def fetch(tar: Path) -> None:
    """Write a tar of what the guest is made of; takes a Debian mirror and a minute."""
    subprocess.run(["mmdebstrap", "--variant=extract", "--architectures=arm64",
                    f"--include={PACKAGES}", "--dpkgopt=path-exclude=/usr/share/*",
                    "--dpkgopt=path-exclude=*/kernel/drivers/gpu/*",
                    "--dpkgopt=path-exclude=*/kernel/sound/*", "bookworm", tar], check=True,
                   env={**os.environ, **with_sbin()})


def build(folder: Path, tar: Path, *, virtio: bool) -> Path:
    """A raw disk in `folder`; with `virtio`, the initramfs has the drivers for virtio-blk.

    `tar` is what `fetch` has written.
    """
    debian, root = folder / "debian", folder / "root"
    debian.mkdir()
    subprocess.run(["tar", "-xf", tar, "-C", debian, "./boot", "./lib/modules", "./usr/lib/grub",
                    "./bin/busybox"], check=True)
    (kernel,) = (debian / "boot").glob("vmlinuz-*")
    release = kernel.name.removeprefix("vmlinuz-")
    _root(root, kernel, debian / "bin/busybox")
    wanted = (*EXT4, *(VIRTIO if virtio else ()))
    (root / "boot/initrd.img").write_bytes(_initramfs(debian, release, wanted, folder))
    image = _disk(folder, root, debian / "usr/lib/grub/arm64-efi")
    for name in (debian, root, folder / "small"):
        shutil.rmtree(name)
    return image


def _root(root: Path, kernel: Path, busybox: Path) -> None:
    for name in ("boot", "bin", "sbin", "etc", "dev", "proc", "sys"):
        (root / name).mkdir(parents=True)
    shutil.copy(kernel, root / "boot/vmlinuz")
    shutil.copy(busybox, root / "bin/busybox")
    (root / "sbin/init").write_text(SYSTEM)
    (root / "sbin/init").chmod(0o755)
    (root / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")


def _initramfs(debian: Path, release: str, wanted: tuple[str, ...], folder: Path) -> bytes:
    """busybox, the modules of `wanted` with what they depend on, and depmod's indexes of them."""
    depmod = shutil.which("depmod", path=with_sbin()["PATH"])
    assert depmod is not None
    subprocess.run([depmod, "-b", debian, release], check=True)
    lines = (debian / "lib/modules" / release / "modules.dep").read_text().splitlines()
    needs = {Path(path).stem.replace("-", "_"): (path, *depends.split())
             for path, _, depends in (line.partition(":") for line in lines)}
    paths = {path for name in wanted for path in needs.get(name, ())}
    small = folder / "small"
    for path in paths:
        target = small / "lib/modules" / release / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(debian / "lib/modules" / release / path, target)
    subprocess.run([depmod, "-b", small, release], check=True)
    files = {str(path.relative_to(small)): path.read_bytes()
             for path in small.rglob("*") if path.is_file()}
    files["init"] = INIT.replace("MODULES", " ".join(wanted)).encode()
    busybox = Record("bin/busybox", (debian / "bin/busybox").read_bytes(), 0o100755)
    return cpio([Record("bin", b"", 0o40755), busybox, *tree(files)])


def _disk(folder: Path, root: Path, modules: Path) -> Path:
    recipe = parse_recipe("arm", {
        "suite": "bookworm", "hostname": "arm", "disk": "vda", "names": "device",
        "root": "device", "modules": [], "partition_table": "gpt", "bootloader": "grub-efi",
        "disk_size": "768M"})
    disk = layout(recipe)
    assert disk.esp is not None
    assert disk.swap is not None
    (root / "boot/grub").mkdir()
    (root / "boot/grub/grub.cfg").write_text(
        f"linux /boot/vmlinuz root={disk.root.device} ro console=ttyAMA0\n"
        "initrd /boot/initrd.img\nboot\n")
    image, swap, core = folder / "disk.raw", folder / "swap", folder / "core.efi"
    with image.open("wb") as file:
        file.truncate(disk.size)
    env = {**os.environ, **with_sbin()}
    subprocess.run(["sfdisk", "--quiet", image], input=sfdisk_script(disk), text=True, check=True,
                   env=env)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^metadata_csum_seed,^orphan_file",
                    "-E", f"offset={disk.root.start}", "-d", root, image,
                    f"{disk.root.size // 1024}k"], check=True, env=env)
    with swap.open("wb") as file:
        file.truncate(disk.swap.size)
    subprocess.run(["mkswap", "-q", swap], check=True, env=env)
    with swap.open("rb") as source, image.open("r+b") as target:
        target.seek(disk.swap.start)
        target.write(source.read(4096))
    subprocess.run(["grub-mkimage", "-O", "arm64-efi", "-d", modules, "-o", core,
                    "-p", "(,gpt2)/boot/grub", "part_gpt", "fat", "ext2", "normal", "linux",
                    "boot", "configfile"], check=True)
    esp.write(image, disk.esp, {"EFI/BOOT/BOOTAA64.EFI": core}, folder / "esp")
    return image
