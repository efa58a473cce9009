"""The guest's files: one run of mmdebstrap, which also configures them and makes the filesystem.

mmdebstrap works as root or, for other users, in a user namespace. Everything that needs the
files' true owners therefore happens inside its hooks, `mke2fs -d` included: the tree never
leaves the namespace.
"""

from __future__ import annotations

import io
import os
import shlex
import tarfile
import textwrap
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from imgconv.builder import grub
from imgconv.builder.bootloaders import BOOTLOADERS
from imgconv.builder.files import guest_files
from imgconv.builder.filesystem import mkfs_argv
from imgconv.builder.layout import Layout
from imgconv.builder.recipe import Recipe
from imgconv.builder.tools import with_sbin
from imgconv.run import run

PASSWORD: Final = "imgconv"  # noqa: S105  # root's, in guests made for tests

_PACKAGES: Final = ("initramfs-tools", "udev", "kmod", "systemd-sysv", "e2fsprogs", "zstd",
                    "iproute2")

# Not unpacked: documentation, and modules for hardware that no virtual machine has. dpkg's
# patterns match across slashes and the last match wins.
_DPKG_PATHS: Final = (
    "exclude=/usr/share/man/*", "exclude=/usr/share/doc/*", "exclude=/usr/share/info/*",
    "exclude=/usr/share/locale/*", "exclude=/usr/share/lintian/*", "exclude=/usr/lib/*/gconv/*",
    *(f"exclude=*/lib/modules/*/kernel/{part}/*" for part in (
        "sound", "drivers/gpu", "drivers/media", "drivers/infiniband", "drivers/iio",
        "drivers/staging", "drivers/comedi", "drivers/mtd", "drivers/isdn", "drivers/net/wireless",
        "drivers/net/ethernet", "drivers/hwmon", "drivers/platform", "net/bluetooth",
        "net/mac80211", "net/wireless", "fs/ocfs2", "fs/smb", "fs/ceph", "drivers/target",
        "drivers/video", "drivers/bluetooth", "drivers/hid", "drivers/mmc", "drivers/scsi/bfa",
        "drivers/scsi/lpfc", "drivers/scsi/qla2xxx")),
    *(f"include=*/lib/modules/*/kernel/drivers/net/ethernet/{vendor}/*" for vendor in (
        "amd", "intel", "realtek")),
    "include=*/lib/modules/*/kernel/drivers/gpu/drm/virtio/*",
    "include=*/lib/modules/*/kernel/drivers/gpu/drm/drm*.ko*",
)

# Only noise in a guest that runs for minutes on an emulated processor.
_MASKED: Final = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer",
                  "e2scrub_all.timer", "e2scrub_reap.service", "fstrim.timer",
                  "getty-static.service", "systemd-networkd-wait-online.service")

# As root, mmdebstrap mounts into the tree in the host's own mount namespace, and its children
# outlive it. In here nothing is left of either when it is killed.
_CONTAINED: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def mmdebstrap_argv(recipe: Recipe, work: Path) -> list[str]:
    """Return the command that makes `work/disk.raw`'s filesystem.

    It reads `work/files.tar` and the scripts that `make` writes beside it.
    """
    loader = BOOTLOADERS[recipe.bootloader]
    packages = sorted({recipe.kernel, *_PACKAGES, *loader.PACKAGES, *recipe.packages})
    quoted = shlex.quote(str(work))
    copies = " ".join(loader.ARTIFACTS)
    return ["mmdebstrap", "--variant=minbase", "--format=null", "--skip=cleanup",
            f"--architectures={recipe.arch}", f"--include={','.join(packages)}",
            '--aptopt=Acquire::Languages "none"', "--dpkgopt=force-unsafe-io",
            *(f"--dpkgopt=path-{rule}" for rule in _DPKG_PATHS),
            f"--customize-hook=tar-in {quoted}/files.tar /",
            f'--customize-hook=chroot "$1" /bin/sh -eu < {quoted}/configure.sh',
            f"--customize-hook=copy-out {copies} {quoted}",
            f'--customize-hook=unshare --mount sh -eu {quoted}/make-filesystem.sh "$1"',
            recipe.suite, "/dev/null"]


def configure_script(recipe: Recipe, disk: Layout) -> str:
    """Return the shell script that runs inside the tree, as root, when all files are in place."""
    script = textwrap.dedent(f"""\
        echo root:{PASSWORD} | chpasswd
        for unit in {' '.join(_MASKED)}; do
            ln -sf /dev/null /etc/systemd/system/$unit
        done
        systemctl enable systemd-networkd
        # The fsck hook cannot probe the root's device in here: tell it the type, this once.
        cd /etc/initramfs-tools
        cp -p initramfs.conf initramfs.conf.orig
        sed -i 's/^FSTYPE=.*/FSTYPE={recipe.filesystem}/' initramfs.conf
        update-initramfs -c -k all
        mv initramfs.conf.orig initramfs.conf
        """)
    script += BOOTLOADERS[recipe.bootloader].configure_script(recipe, disk)
    script += grub.update_script(recipe, disk)
    # What mmdebstrap itself would remove only after the last hook.
    script += textwrap.dedent("""\
        apt-get clean
        rm -rf /var/lib/apt/lists/* /var/cache/debconf/*-old /var/lib/dpkg/*-old /run/* /tmp/*
        rm -f /etc/apt/apt.conf.d/99mmdebstrap /etc/dpkg/dpkg.cfg.d/99mmdebstrap
        rm -f /etc/apt/apt.conf.d/00mmdebstrap /etc/resolv.conf /usr/sbin/policy-rc.d
        rm -f /var/log/*.log /var/log/apt/*
        if [ -e /sbin/start-stop-daemon.REAL ]; then
            mv /sbin/start-stop-daemon.REAL /sbin/start-stop-daemon
        fi
        # Not a new system: systemd rebuilds no caches at the first boot (systemd.unit(5),
        # ConditionNeedsUpdate).
        touch /etc/.updated /var/.updated
        """)
    return script


def filesystem_script(recipe: Recipe, disk: Layout, work: Path) -> str:
    """Return the shell script that copies the tree (its first argument) into the disk.

    A plain bind mount shows the tree without what mmdebstrap has mounted into it. /dev stays
    empty, as the kernel fills it at boot: mmdebstrap's device nodes are mere files without root.
    """
    view, image = str(work / "view"), str(work / "disk.raw")
    return textwrap.dedent(f"""\
        mount --bind "$1" {shlex.quote(view)}
        mount -t tmpfs -o mode=755 dev {shlex.quote(view)}/dev
        {shlex.join(mkfs_argv(recipe, disk.root, view, image))}
        """)


def archive(contents: Mapping[str, str]) -> bytes:
    """Return a tar of files (absolute path -> content), owned by root, mode 0644."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path, content in sorted(contents.items()):
            data = content.encode()
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode, member.mtime = len(data), 0o644, int(time.time())
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def make(recipe: Recipe, disk: Layout, work: Path) -> None:
    """Make the root filesystem inside `work/disk.raw`, and the boot loader's artifacts beside it.

    `work` must be a folder that every user may enter; disk.raw exists with its partition table.
    """
    (work / "files.tar").write_bytes(archive(guest_files(recipe, disk)))
    (work / "configure.sh").write_text(configure_script(recipe, disk))
    (work / "make-filesystem.sh").write_text(filesystem_script(recipe, disk, work))
    (work / "view").mkdir()
    (work / "disk.raw").chmod(0o666)    # in a user namespace, root is another user
    # INITRD=No: the kernel's post-install hook makes no initramfs; ours comes when configured.
    contained = _CONTAINED if os.geteuid() == 0 else ()
    run([*contained, *mmdebstrap_argv(recipe, work)], cwd=Path("/"),
        env={**with_sbin(), "INITRD": "No", "TMPDIR": str(work)})
