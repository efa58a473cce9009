"""GRUB 2's configuration, the same for every firmware.

grub.cfg comes from the guest's own `update-grub`, which learns about disks from `grub-probe` only:
while it runs, a stub answers for the disk that the guest will have.
"""

from __future__ import annotations

import textwrap
from typing import Final

from imgconv.builder.layout import Layout
from imgconv.builder.recipe import Recipe

# GRUB's modules for what the recipe names, and its own words for partitions.
FILESYSTEMS: Final = {"ext4": "ext2", "ext3": "ext2", "ext2": "ext2"}
PARTMAPS: Final = {"mbr": "msdos", "gpt": "gpt"}


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
    part = f"{PARTMAPS[disk.table]}{disk.root.number}"
    hint = f"hd0,{part}"
    answers = {
        "device": disk.root.device,
        "fs": FILESYSTEMS[recipe.filesystem],
        "fs_uuid": disk.root.uuid,
        "partuuid": disk.root.partuuid,
        "partmap": PARTMAPS[disk.table],
        "drive": f"(hostdisk//dev/{recipe.disk},{part})",
        "compatibility_hint": hint,
        "hints_string": f"--hint-bios={hint} --hint-efi={hint} "
                        f"--hint-baremetal=ahci0,{part} ",
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


def update_script(recipe: Recipe, disk: Layout) -> str:
    """Return shell lines that run inside the guest's tree as root and write grub.cfg."""
    # 10_linux writes root=UUID= only for a UUID that udev shows.
    by_uuid = f"/dev/disk/by-uuid/{disk.root.uuid}"
    return textwrap.dedent(f"""\
        mkdir -p /boot/grub/fonts /dev/disk/by-uuid
        cp /usr/share/grub/unicode.pf2 /boot/grub/fonts/
        grub-editenv /boot/grub/grubenv create
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
