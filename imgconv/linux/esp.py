"""The EFI system partition: what a machine starts that knows none of the old one's boot entries.

That is \\EFI\\BOOT\\BOOTX64.EFI (UEFI specification 2.10, 3.5.1.1, "Removable Media Boot
Behavior"). Names there have no letter case.
"""

from __future__ import annotations

from dataclasses import dataclass

from imgconv.errors import CannotConvert
from imgconv.guest.protocols import Reader, read_text
from imgconv.model import Change, Firmware, Inspection, LinuxOs, WriteFile

#: Where Linux mounts it.
_MOUNTS = ("/boot/efi", "/efi", "/boot")

#: libguestfs' architecture -> what loaders for it have in their names.
_SUFFIXES = {"x86_64": "x64", "i386": "ia32", "aarch64": "aa64", "arm": "arm",
             "riscv64": "riscv64", "loongarch64": "loongarch64"}

#: shim is about 1 MiB, GRUB with its modules at most 10.
_LIMIT = 16 << 20

#: More folders of loaders than this are no system's.
_MAX_FOLDERS = 64

#: A stub is a few lines; what is longer is a menu.
_STUB = 4096


@dataclass(frozen=True, slots=True)
class Fallback:
    """The loader that is started when there is no boot entry. `problem` says why it would not do,
    "" when nothing speaks against it."""

    path: str
    problem: str = ""


def child(reader: Reader, folder: str, name: str) -> str | None:
    """The path of `name` in `folder`, whatever its letter case."""
    return next((f"{folder}/{entry}" for entry in reader.names(folder)
                 if entry.lower() == name.lower()), None)


def partitions(reader: Reader) -> tuple[tuple[str, str], ...]:
    """Mount point and EFI folder of each EFI system partition: (("/boot/efi", "/boot/efi/EFI"),)"""
    found = ((mount, child(reader, mount, "EFI")) for mount in _MOUNTS)
    return tuple((mount, folder) for mount, folder in found if folder is not None)


def vendors(reader: Reader) -> tuple[str, ...]:
    """The folders of the EFI system partitions in which each system has its loaders."""
    return tuple(f"{folder}/{name}" for _, folder in partitions(reader)
                 for name in reader.names(folder)[:_MAX_FOLDERS])


def suffix(arch: str) -> str:
    return _SUFFIXES.get(arch, "x64")


def fallback_name(arch: str) -> str:
    return f"BOOT{suffix(arch).upper()}.EFI"


def fallback(reader: Reader, arch: str) -> Fallback | None:
    """The fallback loader, None when there is none."""
    for _, folder in partitions(reader):
        boot = child(reader, folder, "BOOT")
        path = child(reader, boot, fallback_name(arch)) if boot else None
        if boot is None or path is None or reader.size(path) is None:
            continue
        if reader.read_range(path, 0, 2) != b"MZ":
            return Fallback(path, "it is no program")
        beside = f"grub{suffix(arch)}.efi"
        if _is_shim(reader, path, arch) and child(reader, boot, beside) is None:
            return Fallback(path, f"it is shim, which starts {beside} beside it; there is none")
        return Fallback(path)
    return None


def _is_shim(reader: Reader, path: str, arch: str) -> bool:
    """shim has the name of its second stage in it, as UTF-16."""
    return f"\\grub{suffix(arch)}.efi".encode("utf-16-le") in reader.read(path, _LIMIT)


def plan(reader: Reader, inspection: Inspection) -> tuple[Change, ...]:
    """Write the fallback from the system's own loaders, where it is missing or cannot work."""
    if inspection.firmware is not Firmware.UEFI:
        return ()
    there = fallback(reader, inspection.arch)
    if there is not None and not there.problem:
        return ()
    names = suffix(inspection.arch)
    source = _source(reader, inspection, names)
    if source is None:
        return ()  # verification says that it is missing
    folder, files = source
    esp_folder = folder.rpartition("/")[0]
    boot = child(reader, esp_folder, "BOOT") or f"{esp_folder}/BOOT"
    first = next(iter(files.values()))
    wanted = {fallback_name(inspection.arch): reader.read(first, _LIMIT)}
    if f"shim{names}.efi" in files:
        for name in (f"grub{names}.efi", f"mm{names}.efi"):
            if name in files:
                wanted[name] = reader.read(files[name], _LIMIT)
    config = _config(reader, folder)
    if config is not None and child(reader, boot, "grub.cfg") is None:
        wanted["grub.cfg"] = config
    changes = []
    for name, content in wanted.items():
        path = child(reader, boot, name) or f"{boot}/{name}"
        before = reader.read(path, _LIMIT) if reader.size(path) is not None else None
        if before != content:
            changes.append(WriteFile(path, content, before, "a machine that has none of the old "
                                     "one's boot entries starts this", mode=0o755))
    return tuple(changes)


def _source(reader: Reader, inspection: Inspection,
            names: str) -> tuple[str, dict[str, str]] | None:
    """The folder with the system's loaders, and what there is in it, the one to start first."""
    distro = inspection.os.distro if isinstance(inspection.os, LinuxOs) else ""
    folders = [folder for folder in vendors(reader)
               if folder.rpartition("/")[2].lower() not in ("boot", "microsoft", "linux")]
    folders.sort(key=lambda folder: folder.rpartition("/")[2].lower() != distro.lower())
    found = []
    for folder in folders:
        spelled = {entry.lower(): f"{folder}/{entry}" for entry in reader.names(folder)}
        grub = {name: spelled[name] for name in (f"grub{names}.efi",) if name in spelled}
        shim = {name: spelled[name] for name in (f"shim{names}.efi",) if name in spelled and grub}
        more = {name: spelled[name] for name in (f"mm{names}.efi",) if name in spelled and shim}
        own = {name: spelled[name] for name in (f"systemd-boot{names}.efi",) if name in spelled}
        if files := {**shim, **grub, **more} or own:
            found.append((folder, files))
    return found[0] if found else None


def _config(reader: Reader, folder: str) -> bytes | None:
    """A grub.cfg for GRUB started from \\EFI\\BOOT. Most find that of their own folder, because its
    name is built in; some only look beside themselves. A stub is copied, as installers do with
    --removable; a menu would grow old there, and is pointed to."""
    path = child(reader, folder, "grub.cfg")
    text = read_text(reader, path) if path is not None else None
    if text is None:
        return None
    if len(text) <= _STUB and "configfile" in text and "menuentry" not in text:
        return text.encode("utf-8", "surrogateescape")
    name = folder.rpartition("/")[2]
    # It becomes part of a script: what is no plain name is not written into one.
    return f"configfile /EFI/{name}/grub.cfg\n".encode() if name.isalnum() and name.isascii() \
        else None


def refuse_unified(path: str) -> CannotConvert:
    """The error for a unified kernel image: kernel, initramfs and command line in one program."""
    return CannotConvert(
        f"{path} is a unified kernel image: its initramfs and command line cannot be edited",
        hint="in the guest, add the virtio drivers to its initramfs and build the image anew, or "
             "let kernel-install write boot entries (layout=bls in /etc/kernel/install.conf) and "
             "install the kernel again")
