"""What each initramfs tool leaves in a guest and puts into its images: fixtures.

They are made from facts of the tools' own sources and manuals, and from real files where such could
be had (dracut and tiny-initramfs of Debian 12); none of these has been booted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

Files = dict[str, bytes]

ELF = b"\x7fELF program"
UDEV_RULE = b'ENV{MODALIAS}=="?*", RUN{builtin}+="kmod load"\n'
UDEV: Files = {"usr/lib/systemd/systemd-udevd": ELF,
               "usr/lib/udev/rules.d/80-drivers.rules": UDEV_RULE}
SYSTEMD: Files = {
    "init": ELF, "usr/lib/systemd/systemd": ELF, "usr/lib/systemd/systemd-modules-load": ELF,
    "usr/lib/systemd/system/sysinit.target.wants/systemd-modules-load.service": b"[Unit]\n"}


@dataclass(frozen=True, slots=True)
class Inside:
    """What a tool's fixture may need to know of the guest: paths of the initramfs' modules (name ->
    content) in loading order with what each needs, and how the guest names its disks."""

    release: str
    modules: Mapping[str, bytes]
    needs: Mapping[str, tuple[str, ...]]
    aliases: tuple[tuple[str, str], ...]
    kmod: Files
    root: str
    swap: str
    udev: bool = True


@dataclass(frozen=True, slots=True)
class Fixture:
    """`guest` are files of the guest, `inside` makes those of its initramfs."""

    guest: Mapping[str, str]
    inside: Callable[[Inside], Files]
    links: Mapping[str, str] = field(default_factory=lambda: {"lib": "usr/lib", "sbin": "usr/bin"})


def _dracut(systemd: bool) -> Callable[[Inside], Files]:
    def inside(about: Inside) -> Files:
        files = dict(about.kmod) | (UDEV if about.udev else {}) | {
            "usr/lib/initrd-release": b"NAME=dracut\n",
            "usr/lib/dracut/dracut-059-4": b"dracut-059-4\n",
            "usr/lib/dracut-lib.sh": b"getcmdline() {\n    for _i in /etc/cmdline.d/*.conf; do\n",
            "usr/lib/dracut/hooks/cmdline/01-parse-kernel.sh":
                b'for i in $(getargs rd.driver.pre -d rdloaddriver=); do modprobe $i; done\n',
            "etc/cmdline.d/95resume.conf": f" resume={about.swap}\n".encode(),
            "usr/lib/dracut/hooks/initqueue/finished/devexists-x.sh":
                f'[ -e "{about.swap}" ]\n'.encode() if about.swap.startswith("/dev/") else b"",
        }
        return files | (SYSTEMD if systemd else {"init": b"#!/bin/sh\nexport -p\n"})
    return inside


def _mkinitcpio(systemd: bool) -> Callable[[Inside], Files]:
    def inside(about: Inside) -> Files:
        files = dict(about.kmod) | (UDEV if about.udev else {}) | {
            "buildconfig": b"MODULES=()\n", "VERSION": b"39\n"}
        if systemd:
            return files | SYSTEMD | {"etc/modules-load.d/MODULES.conf": b"ext4\n"}
        return files | {
            "init": b'#!/usr/bin/ash\n. /init_functions\n. /config\n'
                    b'    modprobe -qab ${earlymodules//,/ } $MODULES\n',
            "init_functions": b"# functions\n",
            "config": b'MODULES="ext4"\nEARLYHOOKS="udev"\nHOOKS="udev"\n'}
    return inside


def _mkinitfs(about: Inside) -> Files:
    return dict(about.kmod) | {
        "init": b'#!/bin/sh\necho "Alpine Init 3.11"\nif [ -f "$ROOT"/etc/modules ] ; then\n'
                b"\tsed 's/\\#.*//g' < /etc/modules |\n\twhile read module args; do\n"
                b"\t\tmodprobe -q $module $args\n\tdone\nfi\n"
                b"nlplug-findfs -p /sbin/mdev $KOPT_root\n",
        "bin/busybox": ELF, **({"sbin/nlplug-findfs": ELF} if about.udev else {})}


def _suse(about: Inside) -> Files:
    return dict(about.kmod) | (
        {"sbin/udevd": ELF, "lib/udev/rules.d/80-drivers.rules": UDEV_RULE} if about.udev else {}
    ) | {
        "init": b"#!/bin/bash\nsource run_all.sh\n",
        "run_all.sh": b"[ \"$build_day\" ] || build_day='20100509'\n"
                      b"[ \"$RESOLVED_INITRD_MODULES\" ] || RESOLVED_INITRD_MODULES='thermal "
                      b"ata_piix ext3'\n\nmodules=\" $RESOLVED_INITRD_MODULES\"\n"
                      b"source boot/02-start.sh\n[ \"$modules\" ] && load_modules\n"
                      b"[ \"$rootdev\" ] || rootdev='" + about.root.encode() + b"'\n"
                      b"[ \"$resumedev\" ] || resumedev='" + about.swap.encode() + b"'\n",
        "config/start.sh": b"[ \"$RESOLVED_INITRD_MODULES\" ] || "
                           b"RESOLVED_INITRD_MODULES='thermal ata_piix ext3'\n",
        "config/storage.sh": b"[ \"$rootdev\" ] || rootdev='" + about.root.encode() + b"'\n"}


def _redhat(about: Inside) -> Files:
    insmods = "".join(f'echo "Loading {name}.ko module"\ninsmod /lib/{name}.ko \n'
                      for name in about.modules)
    init = ("#!/bin/nash\n\nmount -t proc /proc /proc\nsetquiet\necho Creating block device nodes."
            f"\nhotplug\nmkblkdevs\n{insmods}mkblkdevs\n"
            f"resume {about.swap}\necho Creating root device.\n"
            f"mkrootdev -t ext3 -o defaults,ro {about.root.removeprefix('/dev/')}\n"
            "echo Mounting root filesystem.\nmount /sysroot\nsetuproot\nswitchroot\n")
    return {"init": init.encode(), "bin/nash": ELF, "bin/insmod": ELF,
            **{f"lib/{name}.ko": content for name, content in about.modules.items()}}


def _tiny(about: Inside) -> Files:
    return {"init": ELF, "target/.keep": b"", "dev/.keep": b"", "proc/.keep": b"",
            "modules": "".join(f"/{name}.ko\n" for name in about.modules).encode(),
            **{f"{name}.ko": content for name, content in about.modules.items()}}


def _make_initrd(about: Inside) -> Files:
    return dict(about.kmod) | (UDEV if about.udev else {}) | {
        "init": b"#!/bin/sh\n", "etc/initrd/init": b"",
        "lib/initrd/kmodules/.keep": b""}


def _booster(about: Inside) -> Files:
    rows = ["moduledependencies:"]
    for name in about.modules:
        if about.needs[name]:
            rows += [f"    {name}:", *(f"        - {need}" for need in about.needs[name])]
    rows += ["modulesforceload:", "    - ext4", "builtinmodules:", "    binfmt: true",
             f"kernel: {about.release}", "mounttimeout: 180", ""]
    return {"init": ELF, "etc/booster.init.yaml": "\n".join(rows).encode(),
            "usr/lib/modules/booster.alias": "".join(
                f"{pattern} {name}\n" for pattern, name in about.aliases
                if name in about.modules).encode(),
            **{f"usr/lib/modules/{name}.ko": content for name, content in about.modules.items()}}


_DRACUT_GUEST = {"/usr/bin/dracut": "#!/bin/bash\n", "/usr/lib/dracut/dracut-init.sh": "",
                 "/etc/dracut.conf": "# PUT YOUR CONFIG IN separate files\n",
                 "/etc/dracut.conf.d/hostonly.conf": 'hostonly="yes"\n'}
_MKINITCPIO_GUEST = {"/usr/bin/mkinitcpio": "#!/bin/bash\n",
                     "/etc/mkinitcpio.conf": "# MODULES\nMODULES=()\nBINARIES=()\nFILES=()\n"
                     "HOOKS=(base udev autodetect modconf block filesystems)\n",
                     "/etc/mkinitcpio.d/linux.preset": 'ALL_kver="/boot/vmlinuz-linux"\n'
                     "PRESETS=('default' 'fallback')\n"
                     'default_image="/boot/initramfs-linux.img"\n'}

FIXTURES: dict[str, Fixture] = {
    "dracut": Fixture(_DRACUT_GUEST, _dracut(False)),
    "dracut-systemd": Fixture(_DRACUT_GUEST, _dracut(True)),
    "mkinitcpio": Fixture(_MKINITCPIO_GUEST, _mkinitcpio(False)),
    "mkinitcpio-systemd": Fixture(_MKINITCPIO_GUEST, _mkinitcpio(True)),
    "mkinitfs": Fixture({"/sbin/mkinitfs": "#!/bin/sh\n",
                         "/etc/mkinitfs/mkinitfs.conf":
                         'features="ata base cdrom ext4 keymap kms mmc nvme raid scsi usb"\n',
                         "/etc/mkinitfs/features.d/virtio.modules":
                         "kernel/drivers/block/virtio*\nkernel/drivers/virtio\n",
                         "/etc/mkinitfs/features.d/scsi.modules": "kernel/drivers/scsi/*.ko*\n"},
                        _mkinitfs, {}),
    "suse-mkinitrd": Fixture({"/sbin/mkinitrd": "#!/bin/bash\n",
                              "/lib/mkinitrd/scripts/boot-start.sh": "",
                              "/etc/sysconfig/kernel": "## Type: string\n#\n"
                              'INITRD_MODULES="thermal ata_piix ext3"\n'
                              'DOMU_INITRD_MODULES="xennet xenblk"\n'}, _suse, {}),
    "redhat-mkinitrd": Fixture({"/sbin/mkinitrd": "#!/bin/bash\n", "/sbin/nash": "",
                                "/etc/modprobe.conf": "alias eth0 e1000\n"
                                "alias scsi_hostadapter ata_piix\n"}, _redhat, {"sbin": "bin"}),
    "tiny-initramfs": Fixture({"/usr/sbin/mktirfs": "#!/bin/sh\n",
                               "/usr/sbin/update-tirfs": "#!/bin/sh\n"}, _tiny, {}),
    "make-initrd": Fixture({"/usr/sbin/make-initrd": "#!/bin/bash\n",
                            "/etc/initrd.mk": "AUTODETECT = all\n"}, _make_initrd),
    "booster": Fixture({"/usr/bin/booster": "", "/etc/booster.yaml": "universal: false\n",
                        "/usr/lib/booster/init": ""}, _booster, {}),
}
