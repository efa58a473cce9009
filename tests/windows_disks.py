"""Disks with a Windows guest of tests.windows_guests on them, made without root and without an
appliance: sfdisk, mkntfs and libntfs-3g (for files), mkfs.vfat and mtools.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from imgconv.model import Firmware
from tests.windows_guests import ESP_GUID, MIB, WindowsTree

#: On a disk with a GPT, where the reserved partition begins.
_RESERVED = 50 * MIB
#: Between the last partition and the end of a disk: the second GPT lies there.
_END = MIB
_SECTOR = 512
_DYNAMIC = 0x42
_BITLOCKER_GUID = bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")


@dataclass(frozen=True, slots=True)
class Volume:
    """What is odd about C:. `dirty` sets NTFS's own mark of that, `bitlocker` makes it look
    encrypted (nothing of the guest is readable then), `dynamic` has it on a dynamic disk. `heads`
    is what the boot sector says of the disk's geometry, which matters to Windows XP."""

    dirty: bool = False
    bitlocker: bool = False
    dynamic: bool = False
    heads: int = 255


def image(tree: WindowsTree, folder: Path, name: str = "windows", fmt: str = "raw",
          volume: Volume | None = None) -> Path:
    """Make a disk of `tree` in `folder`, sparse; `fmt` is a format that qemu-img writes."""
    volume = volume or Volume()
    uefi = tree.firmware is Firmware.UEFI
    disk = folder / f"{name}.raw"
    root = _ntfs(folder / f"{name}.c", tree.size, tree.offset, tree.files(), volume)
    if volume.bitlocker:
        _encrypt(root)
    partitions = {tree.offset: root}
    if uefi:
        partitions[MIB] = _fat(folder / f"{name}.esp", _RESERVED - MIB, tree.system_partition())
    elif not tree.single:
        partitions[MIB] = _ntfs(folder / f"{name}.boot", tree.offset - MIB, MIB,
                                tree.system_partition(), label="System Reserved")
    _truncate(disk, tree.offset + tree.size + _END)
    _run("sfdisk", "--quiet", disk, script=_gpt(tree) if uefi else _mbr(tree, volume))
    for offset, part in partitions.items():
        _copy(part, disk, offset)
        part.unlink()
    if fmt == "raw":
        return disk
    converted = folder / f"{name}.{fmt}"
    _run("qemu-img", "convert", "-f", "raw", "-O", fmt, disk, converted)
    disk.unlink()
    return converted


# --- partition tables -----------------------------------------------------------------------------


def _mbr(tree: WindowsTree, volume: Volume) -> str:
    kind = f"{_DYNAMIC:x}" if volume.dynamic else "7"
    rows = [f"start={tree.offset // _SECTOR}, size={tree.size // _SECTOR}, type={kind}"]
    if not tree.single:
        rows.insert(0, f"start={MIB // _SECTOR}, size={(tree.offset - MIB) // _SECTOR}, type=7")
    rows[0] += ", bootable"
    return "\n".join(("label: dos", f"label-id: {tree.disk_id:#010x}", *rows)) + "\n"


def _gpt(tree: WindowsTree) -> str:
    return "\n".join((
        "label: gpt", f"label-id: {tree.disk_id}",
        f"start={MIB // _SECTOR}, size={(_RESERVED - MIB) // _SECTOR}, "
        f'type=C12A7328-F81F-11D2-BA4B-00A0C93EC93B, uuid={ESP_GUID}, name="EFI system partition"',
        f"start={_RESERVED // _SECTOR}, size={(tree.offset - _RESERVED) // _SECTOR}, "
        'type=E3C9E316-0B5C-4DB8-817D-F92DF00215AE, name="Microsoft reserved partition"',
        f"start={tree.offset // _SECTOR}, size={tree.size // _SECTOR}, "
        f"type=EBD0A0A2-B9E5-4433-87C0-68B6B72699C7, uuid={tree.partition_guid}, "
        'name="Basic data partition"')) + "\n"


# --- filesystems ----------------------------------------------------------------------------------


def _fat(path: Path, size: int, files: Mapping[str, bytes]) -> Path:
    _truncate(path, size)
    _run("mkfs.vfat", "-F", "32", "-s", "1", path)
    for folder in _folders(files):
        _run("mmd", "-i", path, f"::{folder}")
    for name, content in files.items():
        source = path.with_suffix(".file")
        source.write_bytes(content)
        _run("mcopy", "-i", path, source, f"::{name}")
        source.unlink()
    return path


def _ntfs(path: Path, size: int, start: int, files: Mapping[str, bytes],
          volume: Volume | None = None, *, label: str = "") -> Path:
    """An NTFS of that size, which is to lie `start` bytes behind the disk's beginning."""
    odd = volume or Volume()
    _truncate(path, size)
    _run("mkntfs", "--force", "--fast", "--quiet", "--label", label, "--sector-size", "512",
         "--partition-start", str(start // _SECTOR), "--heads", str(odd.heads),
         "--sectors-per-track", "63", path)
    with _mounted(path) as mounted:
        for folder in _folders(files):
            mounted.create(folder, b"", folder=True)
        for name, content in files.items():
            mounted.create(name, content)
        if odd.dirty:
            mounted.mark_dirty()
    return path


def _folders(files: Mapping[str, bytes]) -> list[str]:
    """Every folder above the files, parents first."""
    return sorted({str(folder) for name in files for folder in PurePosixPath(name).parents
                   if folder != PurePosixPath("/")})


_S_IFDIR = 0o040000
_S_IFREG = 0o100000
_AT_DATA = 0x80
_VOLUME_IS_DIRTY = 1


@cache
def _library() -> ctypes.CDLL:
    """libntfs-3g, which ntfs-3g and ntfscp are made of: it needs neither root nor FUSE."""
    found = ctypes.util.find_library("ntfs-3g")
    assert found is not None, "libntfs-3g is absent: apt install ntfs-3g"
    library = ctypes.CDLL(found, use_errno=True)
    pointer = ctypes.c_void_p
    for name, result, arguments in (
            ("ntfs_mount", pointer, (ctypes.c_char_p, ctypes.c_ulong)),
            ("ntfs_umount", ctypes.c_int, (pointer, ctypes.c_int)),
            ("ntfs_pathname_to_inode", pointer, (pointer, pointer, ctypes.c_char_p)),
            ("ntfs_create", pointer, (pointer, ctypes.c_uint32, ctypes.c_char_p, ctypes.c_uint8,
                                      ctypes.c_uint32)),
            ("ntfs_inode_close", ctypes.c_int, (pointer,)),
            ("ntfs_inode_close_in_dir", ctypes.c_int, (pointer, pointer)),
            ("ntfs_attr_open", pointer, (pointer, ctypes.c_uint32, pointer, ctypes.c_uint32)),
            ("ntfs_attr_pwrite", ctypes.c_int64, (pointer, ctypes.c_int64, ctypes.c_int64,
                                                  ctypes.c_char_p)),
            ("ntfs_attr_close", None, (pointer,)),
            ("ntfs_volume_write_flags", ctypes.c_int, (pointer, ctypes.c_uint16))):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class _Ntfs:
    """A mounted NTFS."""

    def __init__(self, volume: int) -> None:
        self._volume = volume

    def create(self, path: str, content: bytes, *, folder: bool = False) -> None:
        above, _, name = path.rpartition("/")
        library = _library()
        parent = _checked(library.ntfs_pathname_to_inode(self._volume, None, above.encode()), above)
        # In UTF-16 already; a length of 0 bytes for the security descriptor is Windows' default.
        node = _checked(library.ntfs_create(parent, 0, name.encode("utf-16-le"), len(name),
                                            _S_IFDIR if folder else _S_IFREG), path)
        if content:
            data = _checked(library.ntfs_attr_open(node, _AT_DATA, None, 0), path)
            written = library.ntfs_attr_pwrite(data, 0, len(content), content)
            _checked(written == len(content), path)
            library.ntfs_attr_close(data)
        _checked(library.ntfs_inode_close_in_dir(node, parent) == 0, path)
        _checked(library.ntfs_inode_close(parent) == 0, above)

    def mark_dirty(self) -> None:
        _checked(_library().ntfs_volume_write_flags(self._volume, _VOLUME_IS_DIRTY) == 0, "volume")


@contextmanager
def _mounted(path: Path) -> Iterator[_Ntfs]:
    volume = _checked(_library().ntfs_mount(os.fsencode(path), 0), str(path))
    try:
        yield _Ntfs(volume)
    finally:
        _checked(_library().ntfs_umount(volume, 0) == 0, str(path))


def _checked(result: int | None, what: str) -> int:
    if not result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), what)
    return result


def _encrypt(path: Path) -> None:
    """Overwrite the beginning with what BitLocker has there, as blkid and Windows recognise it."""
    metadata = 16 * MIB
    sector = bytearray(_SECTOR)
    sector[:11] = b"\xeb\x58\x90-FVE-FS-"
    sector[160:176] = _BITLOCKER_GUID
    sector[176:184] = metadata.to_bytes(8, "little")
    sector[510:] = b"\x55\xaa"
    # The header of the metadata: signature, size, version 2.
    header = b"-FVE-FS-" + (64).to_bytes(2, "little") + (2).to_bytes(2, "little")
    with path.open("r+b") as file:
        file.write(bytes(sector).ljust(metadata, b"\xa5"))
        file.write(header.ljust(4096, b"\0"))


# --- files ----------------------------------------------------------------------------------------


def _truncate(path: Path, size: int) -> None:
    with path.open("wb") as file:
        file.truncate(size)


def _copy(part: Path, disk: Path, offset: int) -> None:
    """Copy a partition's content to its place, but not its holes."""
    with part.open("rb") as source, disk.open("r+b") as target:
        size = part.stat().st_size
        at = 0
        while at < size:
            try:
                at = os.lseek(source.fileno(), at, os.SEEK_DATA)
            except OSError:  # a hole up to the end
                return
            end = os.lseek(source.fileno(), at, os.SEEK_HOLE)
            source.seek(at)
            target.seek(offset + at)
            target.write(source.read(end - at))
            at = end


def _run(*argv: str | Path, script: str | None = None) -> None:
    done = subprocess.run(argv, input=script, text=True, capture_output=True, check=False,
                          env=os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
                                            "MTOOLS_SKIP_CHECK": "1"})
    assert done.returncode == 0, f"{argv}: {done.stderr}{done.stdout}"
