"""GRUB 2 for BIOS, installed into an image file without mounting anything.

`grub-install` wants block devices that it can probe. What it does is simple, though: modules go
to /boot/grub, `core.img` into the gap behind the MBR, `boot.img` into the MBR.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

from imgconv.builder import grub
from imgconv.builder.layout import SECTOR, Layout
from imgconv.builder.recipe import Recipe
from imgconv.errors import ImgconvError

PACKAGES: Final = ("grub-pc-bin", "grub2-common")
#: What `configure_script` makes in the guest for `install`.
ARTIFACTS: Final = ("/boot/grub/i386-pc/boot.img", "/boot/grub/i386-pc/core.img")

# Offsets in boot.img, from GRUB's include/grub/i386/pc/boot.h.
BOOT_CODE: Final = 440              # GRUB_BOOT_MACHINE_PART_START less disk id: 446 - 6
KERNEL_SECTOR: Final = 0x5C         # u64: the sector of core.img
DRIVE_CHECK: Final = 0x66           # two bytes of jump; see below
# core.img's first sector (diskboot.img) ends in a block list: u64 start, u16 sectors, u16 segment.
BLOCKLIST: Final = SECTOR - 12
CORE_SECTOR: Final = 1


def configure_script(recipe: Recipe, disk: Layout) -> str:
    """Return shell lines that run inside the guest's tree as root and set GRUB up.

    They leave boot.img and core.img in /boot/grub/i386-pc, as grub-install does.
    """
    return textwrap.dedent(f"""\
        modules=/usr/lib/grub/i386-pc
        target=/boot/grub/i386-pc
        mkdir -p $target
        cp $modules/*.mod $modules/*.lst $modules/boot.img $target/
        grub-mkimage -O i386-pc -d $modules -o $target/core.img \\
            -p '(,msdos{disk.root.number})/boot/grub' \\
            biosdisk part_msdos {grub.FILESYSTEMS[recipe.filesystem]}
        """)


def boot_areas(mbr: bytes, boot: bytes, core: bytes, room: int) -> dict[int, bytes]:
    """Return offset -> bytes to write to the disk so that its BIOS starts GRUB.

    `mbr` is the disk's first sector as partitioned, `boot` and `core` are boot.img and core.img
    for i386-pc, `room` is the offset of the first partition. Raises ImgconvError if the images
    are not GRUB's or do not fit.
    """
    if len(mbr) != SECTOR or len(boot) != SECTOR or boot[510:512] != b"\x55\xaa":
        raise ImgconvError("boot.img is not GRUB's boot sector for i386-pc")
    sectors = -(-len(core) // SECTOR)
    start, count = (int.from_bytes(core[BLOCKLIST:BLOCKLIST + 8], "little"),
                    int.from_bytes(core[BLOCKLIST + 8:BLOCKLIST + 10], "little"))
    if (start, count) != (CORE_SECTOR + 1, sectors - 1):
        raise ImgconvError("core.img does not expect to lie behind the MBR",
                           hint=f"its block list says sector {start}, {count} sectors")
    if CORE_SECTOR * SECTOR + len(core) > room:
        raise ImgconvError(f"core.img ({len(core)} bytes) does not fit before the first partition")
    code = bytearray(boot[:BOOT_CODE])
    code[KERNEL_SECTOR:KERNEL_SECTOR + 8] = CORE_SECTOR.to_bytes(8, "little")
    # Two NOPs make GRUB distrust the BIOS's drive number, as grub-install does for hard disks
    # (util/setup.c: "workaround for buggy BIOSes").
    code[DRIVE_CHECK:DRIVE_CHECK + 2] = b"\x90\x90"
    return {0: bytes(code) + mbr[BOOT_CODE:],
            CORE_SECTOR * SECTOR: core.ljust(sectors * SECTOR, b"\0")}


def install(image: Path, artifacts: Path, disk: Layout) -> None:
    """Write GRUB into the raw disk `image`; `artifacts` holds boot.img and core.img."""
    boot, core = ((artifacts / name).read_bytes() for name in ("boot.img", "core.img"))
    room = disk.partitions[0].start
    with image.open("r+b") as file:
        for offset, content in boot_areas(file.read(SECTOR), boot, core, room).items():
            file.seek(offset)
            file.write(content)
