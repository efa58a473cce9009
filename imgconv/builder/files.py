"""The configuration files of a guest, as a pure function of its recipe."""

from __future__ import annotations

from imgconv.builder import grub
from imgconv.builder.layout import Layout, Partition, stable_uuid
from imgconv.builder.recipe import Recipe


def guest_files(recipe: Recipe, disk: Layout) -> dict[str, str]:
    """Return absolute path -> content of every file that the builder writes into the guest."""
    return {
        "/etc/fstab": fstab(recipe, disk),
        "/etc/hostname": f"{recipe.hostname}\n",
        "/etc/hosts": f"127.0.0.1\tlocalhost\n127.0.1.1\t{recipe.hostname}\n",
        # A guest with an empty machine-id takes itself for new and runs systemd's first boot.
        "/etc/machine-id": stable_uuid(recipe, "machine").replace("-", "") + "\n",
        # By pattern: what the card is called depends on the slot, and so on the machine.
        "/etc/systemd/network/lan.network":
            f"[Match]\nName={recipe.interface}\n\n[Network]\nDHCP=ipv4\n",
        **_initramfs_tools(recipe, disk),
        **grub.files(recipe),
    }


def fstab(recipe: Recipe, disk: Layout) -> str:
    """Return /etc/fstab, its comments those of Debian's installer."""
    root_options = "errors=remount-ro" if recipe.filesystem.startswith("ext") else "defaults"
    lines = ["# /etc/fstab: static file system information.", "#",
             "# <file system> <mount point> <type> <options> <dump> <pass>",
             f"{spec(recipe.names, disk.root)} / {recipe.filesystem} {root_options} 0 1"]
    if disk.esp:
        lines.append(f"{spec(recipe.names, disk.esp)} /boot/efi vfat umask=0077 0 1")
    if disk.swap:
        lines.append(f"{spec(recipe.names, disk.swap)} swap swap defaults 0 0")
    return "\n".join(lines) + "\n"


def spec(names: str, part: Partition) -> str:
    """Name a partition for fstab: `/dev/sda1` or `UUID=...`."""
    return part.device if names == "device" else f"UUID={part.uuid}"


def _initramfs_tools(recipe: Recipe, disk: Layout) -> dict[str, str]:
    """Return initramfs-tools' configuration: MODULES=list and the list (initramfs.conf(5))."""
    directory = "/etc/initramfs-tools"
    written = {
        # The file and the comment are Debian's installer's.
        f"{directory}/conf.d/driver-policy":
            "# Driver inclusion policy selected during installation\nMODULES=list\n",
        f"{directory}/modules": "# Modules to include and to load, in order.\n"
                                + "".join(f"{module}\n" for module in recipe.modules),
    }
    if recipe.resume and disk.swap:
        written[f"{directory}/conf.d/resume"] = f"RESUME={spec(recipe.names, disk.swap)}\n"
    return written
