"""Inspecting the plain case in a second: one Linux system on filesystems that its fstab names.

libguestfs' `inspect_os` knows every case and takes a third of a conversion's time, most of it for
what is not needed here. So this looks first, and whatever is not plain (several systems, btrfs
subvolumes, encryption, Windows, an fstab that does not resolve) is left to `inspect_os`: the answer
is None then, never a guess.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping

from imgconv.errors import ImgconvError
from imgconv.guest.appliance import Appliance
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import fstab, places
from imgconv.linux.device_names import Renamer
from imgconv.linux.modinfo import architecture
from imgconv.model import Bus, Filesystem, LinuxOs, Mount, Names

#: Filesystems that hold a system as a whole, so neither subvolumes nor encryption.
_PLAIN = {"ext2", "ext3", "ext4", "xfs"}
#: What may be there besides: it holds no system, or what holds it shows by itself.
_BESIDES = {"", "swap", "vfat", "LVM2_member"}

#: Looking into each takes a mount.
_MANY = 32

_ROOT_FOLDERS = ("/etc", "/dev", "/proc", "/lib/modules")
_LONGEST_LINE = 4096
#: As much of a system's name or version as is taken.
LONGEST = 200

_ELF_FILES = ("/bin/bash", "/bin/sh", "/usr/bin/bash", "/bin/busybox", "/sbin/init")

#: fstab's mounts that a conversion looks into or its commands write to.
_WANTED = ("/", "/boot", "/boot/efi", "/efi", "/usr", "/var", "/etc")


def quick(appliance: Appliance, filesystems: tuple[Filesystem, ...]
          ) -> tuple[str, str, tuple[Mount, ...], LinuxOs] | None:
    """(root device, architecture, mounts, system) of a plain guest; None for every other one.

    Nothing is mounted afterwards.
    """
    if any(f.type not in _PLAIN | _BESIDES for f in filesystems):
        return None
    if sum(f.type in _PLAIN for f in filesystems) > _MANY:
        return None
    found = []
    for filesystem in filesystems:
        if filesystem.type in _PLAIN:
            plain = True
            try:
                appliance.call("mount_ro", filesystem.device, "/")
                facts = _root(appliance, filesystem, filesystems)
            except ImgconvError:
                plain = False
            # Not in a `finally`: after Ctrl-C there may be no appliance to ask, and its error would
            # take the place of the interruption.
            appliance.call("umount_all")
            if not plain:
                return None
            if facts is not None:
                found.append(facts)
    return found[0] if len(found) == 1 else None


def _root(reader: Reader, filesystem: Filesystem, filesystems: tuple[Filesystem, ...]
          ) -> tuple[str, str, tuple[Mount, ...], LinuxOs] | None:
    """What a mounted filesystem tells when it is the root of a Linux system.

    Raises ImgconvError when it is one that is not plain.
    """
    if not all(reader.is_dir(folder) for folder in _ROOT_FOLDERS):
        return None
    arch, system = _arch(reader), _system(reader)
    mounts = _mounts(reader, filesystem, filesystems)
    if arch is None or system is None or mounts is None:
        raise ImgconvError(f"{filesystem.device} is no plain system")
    return filesystem.device, arch, mounts, system


def _arch(reader: Reader) -> str | None:
    found = (architecture(reader.read_range(path, 0, 20)) for path in _ELF_FILES
             if reader.size(path) is not None)
    return next((arch for arch in found if arch), None)


def _system(reader: Reader) -> LinuxOs | None:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        text = read_text(reader, path)
        if text is not None:
            values = _assignments(text)
            name = values.get("ID", "linux")
            return LinuxOs(name[:LONGEST], values.get("PRETTY_NAME", name)[:LONGEST],
                           values.get("VERSION_ID", "")[:LONGEST])
    return None


def _assignments(text: str) -> Mapping[str, str]:
    """os-release(5): shell assignments without anything to expand, of those that are wanted."""
    values = {}
    for line in text.split("\n"):
        key, equals, value = line.partition("=")
        if equals and key.strip() in ("ID", "PRETTY_NAME", "VERSION_ID"):
            try:
                values[key.strip()] = "".join(shlex.split(value[:_LONGEST_LINE]))
            except ValueError:  # unbalanced quotes
                continue
    return values


def _mounts(reader: Reader, root: Filesystem, filesystems: tuple[Filesystem, ...]
            ) -> tuple[Mount, ...] | None:
    """The filesystems of fstab that matter here, parents first; None when one cannot be found."""
    # Of the bus, only the letters of the disks count here, and they are the same on all.
    renamer = Renamer(filesystems, Names.DEVICE, Bus.SATA,
                      places.of(read_text(reader, fstab.PATH) or "", filesystems))
    mounts = [Mount(root.device, "/")]
    for line in fstab.lines(reader):
        if line.path not in _WANTED or line.path == "/":
            continue
        if any(mount.path == line.path for mount in mounts):
            return None
        filesystem = renamer.filesystem(line.spec)
        if filesystem is None or filesystem.type not in _PLAIN | {"vfat"}:
            return None
        mounts.append(Mount(filesystem.device, line.path))
    return tuple(sorted(mounts, key=lambda mount: len(mount.path)))
