"""GRUB 2 for BIOS, installed into an image file without mounting anything.

`grub-install` wants block devices that it can probe. What it does is simple, though: modules go
to /boot/grub, `core.img` into the gap behind the MBR, `boot.img` into the MBR. grub.cfg comes
from the guest's own `update-grub`, which learns about disks from `grub-probe` only: while it
runs, a stub answers for the disk that the guest will have.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Final

from imgconv.builder.layout import SECTOR, Layout
from imgconv.builder.recipe import Recipe
from imgconv.errors import ImgconvError

PACKAGES: Final = ("grub-pc-bin", "grub2-common")

# Offsets in boot.img, from GRUB's include/grub/i386/pc/boot.h.
BOOT_CODE: Final = 440              # GRUB_BOOT_MACHINE_PART_START less disk id: 446 - 6
KERNEL_SECTOR: Final = 0x5C         # u64: the sector of core.img
DRIVE_CHECK: Final = 0x66           # two bytes of jump; see below
# core.img's first sector (diskboot.img) ends in a block list: u64 start, u16 sectors, u16 segment.
BLOCKLIST: Final = SECTOR - 12
CORE_SECTOR: Final = 1

_GRUB_FS: Final = {"ext4": "ext2", "ext3": "ext2", "ext2": "ext2"}


def files(recipe: Recipe) -> dict[str, str]:
    """Return GRUB's configuration for `update-grub`."""
    lines = [
        'GRUB_DEFAULT=0',
        'GRUB_TIMEOUT=1',
        'GRUB_DISTRIBUTOR=`lsb_release -i -s 2> /dev/null || echo Debian`',
        'GRUB_CMDLINE_LINUX_DEFAULT=""',
        f'GRUB_CMDLINE_LINUX="{" ".join(recipe.cmdline)}"',
        'GRUB_TERMINAL="console serial"',
        'GRUB_SERIAL_COMMAND="serial --unit=0 --speed=115200"',
    ]
    if recipe.root == "device":
        lines.append("GRUB_DISABLE_LINUX_UUID=true")
    return {"/etc/default/grub": "\n".join(lines) + "\n"}


def probe_stub(recipe: Recipe, disk: Layout) -> str:
    """Return a shell script that answers like `grub-probe` on the finished guest.

    An unknown target fails, as it does in grub-probe for what a disk does not have.
    """
    part = disk.root.number
    hint = f"hd0,msdos{part}"
    answers = {
        "device": disk.root.device,
        "fs": _GRUB_FS[recipe.filesystem],
        "fs_uuid": disk.root.uuid,
        "partuuid": f"{disk.disk_id}-{part:02x}",
        "partmap": "msdos",
        "drive": f"(hostdisk//dev/{recipe.disk},msdos{part})",
        "compatibility_hint": hint,
        "hints_string": f"--hint-bios={hint} --hint-efi={hint} "
                        f"--hint-baremetal=ahci0,msdos{part} ",
        "abstraction": "",
    }
    cases = "\n".join(f"    {target}) echo '{answer}' ;;" for target, answer in answers.items())
    return textwrap.dedent("""\
        #!/bin/sh
        target=fs
        while [ $# -gt 0 ]; do
            case $1 in
                --target=*) target=${1#--target=} ;;
                -t | --target) target=$2; shift ;;
            esac
            shift
        done
        case $target in
        CASES
            *) exit 1 ;;
        esac
        """).replace("CASES", cases)


def configure_script(recipe: Recipe, disk: Layout) -> str:
    """Return shell lines that run inside the guest's tree as root and set GRUB up.

    They leave boot.img and core.img in /boot/grub/i386-pc, as grub-install does.
    """
    # 10_linux writes root=UUID= only for a UUID that udev shows.
    by_uuid = f"/dev/disk/by-uuid/{disk.root.uuid}"
    filesystem = _GRUB_FS[recipe.filesystem]
    return textwrap.dedent(f"""\
        modules=/usr/lib/grub/i386-pc
        target=/boot/grub/i386-pc
        mkdir -p $target /boot/grub/fonts /dev/disk/by-uuid
        cp $modules/*.mod $modules/*.lst $modules/boot.img $target/
        cp /usr/share/grub/unicode.pf2 /boot/grub/fonts/
        grub-editenv /boot/grub/grubenv create
        grub-mkimage -O i386-pc -d $modules -o $target/core.img \\
            -p '(,msdos{disk.root.number})/boot/grub' biosdisk part_msdos {filesystem}
        mv /usr/sbin/grub-probe /usr/sbin/grub-probe.real
        cat > /usr/sbin/grub-probe <<'STUB'
        PROBE
        STUB
        chmod 755 /usr/sbin/grub-probe
        touch {by_uuid}
        update-grub
        rm -r /dev/disk
        mv /usr/sbin/grub-probe.real /usr/sbin/grub-probe
        """).replace("PROBE\n", probe_stub(recipe, disk))


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


def install(image: Path, artifacts: Path, room: int) -> None:
    """Write GRUB into the raw disk `image`; `artifacts` holds boot.img and core.img."""
    boot, core = ((artifacts / name).read_bytes() for name in ("boot.img", "core.img"))
    with image.open("r+b") as disk:
        for offset, content in boot_areas(disk.read(SECTOR), boot, core, room).items():
            disk.seek(offset)
            disk.write(content)
