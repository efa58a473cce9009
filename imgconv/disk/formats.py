"""What is this image? Recognise the format, find every host file it names, refuse what is unsafe.

QEMU never probes here: a guest that owns a raw disk can write a qcow2 header with
`/etc/shadow` as backing file into its first sector, and probing would follow it (CVE-2008-2004).
Recognising the format by its magic, as is done when the user does not give it, has the same
weakness; what makes it safe is that an image may only name files in its own directory, unless
the user says otherwise, and that these names are read by us before QEMU sees the image.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from imgconv.disk import headers, qemu_img
from imgconv.disk.headers import Named
from imgconv.disk.truncation import is_truncated
from imgconv.errors import ImgconvError, UsageError
from imgconv.model import Image
from imgconv.run import CommandFailed

FORMATS = ("raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc")

_MAX_VIRTUAL_SIZE = 1 << 50
_MAX_CHAIN = 32


class Foreign(NamedTuple):
    """A kind of file that is no disk image we take: where its magic is and what to do with it.

    A negative offset counts from the end of the file. In `remedy`, FILE is the image's name.
    """

    offset: int
    magic: bytes
    what: str
    remedy: str


def _convertible(offset: int, magic: bytes, what: str, driver: str) -> Foreign:
    return Foreign(offset, magic, what, f"qemu-img convert -f {driver} -O qcow2 FILE FILE.qcow2")


_FOREIGN = (
    Foreign(0, b"\x1f\x8b\x08", "compressed with gzip", "gunzip -k FILE"),
    Foreign(0, b"\xfd7zXZ\x00", "compressed with xz", "unxz -k FILE"),
    Foreign(0, b"BZh", "compressed with bzip2", "bunzip2 -k FILE"),
    Foreign(0, b"\x28\xb5\x2f\xfd", "compressed with zstd", "unzstd FILE"),
    Foreign(0, b"\x04\x22\x4d\x18", "compressed with lz4", "unlz4 FILE"),
    Foreign(0, b"PK\x03\x04", "a zip archive", "unzip FILE, then give the disk in it"),
    Foreign(0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", "7z x FILE, then give the disk in it"),
    Foreign(257, b"ustar", "a tar archive (OVA files are)",
            "imgconv virtio-ize FILE -o FOLDER, or tar -xvf FILE and give the disk in it"),
    Foreign(0, b"<?xml", "an XML document, not a disk (OVF files are)",
            "imgconv virtio-ize --from FILE takes the disks that it names"),
    Foreign(32769, b"CD001", "a CD or DVD image (ISO 9660)",
            "give the installed disk, not the medium it was installed from"),
    Foreign(0, b"COWD", "a VMware COWD extent, one part of a disk",
            "give the .vmdk descriptor that names it"),
    _convertible(0, b"QFI\xfb\x00\x00\x00\x01", "a qcow image (version 1)", "qcow"),
    _convertible(0, b"QED\x00", "a QED image", "qed"),
    _convertible(0, b"WithoutFreeSpace", "a Parallels image", "parallels"),
    _convertible(0, b"WithouFreSpacExt", "a Parallels image", "parallels"),
    _convertible(0, b"Bochs Virtual HD Image", "a Bochs image", "bochs"),
    _convertible(0, b"#!/bin/sh\n#V2.0 Format", "a cloop image", "cloop"),
    _convertible(-512, b"koly", "an Apple disk image (dmg)", "dmg"),
)

# What qemu-img says, and what it means for the user. FILE is the image's name.
_QEMU_MESSAGES = (
    ("contains a log that needs to be replayed",
     "has writes in its log that never reached the disk: it was not shut down cleanly",
     "start and shut it down in Hyper-V, or on a copy: qemu-img check -r all FILE"),
)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One image of a chain: its file, the `parts` written along with it, and what is below."""

    path: Path
    format: str
    parts: tuple[Path, ...]
    backing: tuple[Path, str] | None


def open_image(path: Path, *, input_format: str | None = None,
               allow_external_files: bool = False, writable: bool) -> Image:
    """Recognise and check the image at `path`; nothing is written.

    `Image.path` is absolute, symbolic links kept, because QEMU looks for relative backing files
    beside the link. `Image.references` holds the extents or data file first, then the backing
    chain from the top down. `writable` asks that the image could be written in place.
    `allow_external_files` permits local files outside the image's directory, never protocols.

    Raises UsageError for an unknown `input_format`, ImgconvError with a remedy otherwise.
    """
    if input_format is not None and input_format not in FORMATS:
        raise UsageError(f"unknown image format {input_format!r}",
                         hint=f"one of: {', '.join(FORMATS)}")
    path = path.absolute()
    _check_file(path, writable=writable)
    layers = _chain(path, input_format or detect(path), allow_external_files)
    top, *below = layers
    for part in top.parts:
        _check_file(part, writable=writable)
    virtual_size = _virtual_size(top, writable=writable)
    for layer in below:
        _virtual_size(layer, writable=False)
    return Image(path, top.format, virtual_size, _references(layers))


def reopen(path: Path, fmt: str, virtual_size: int, *,
           allow_external_files: bool = False) -> Image:
    """An image that was opened before and then half-written, for completing it.

    QEMU is not asked about it: a vhdx, for example, may have a log that only a writer replays.
    Raises ImgconvError when it cannot be written.
    """
    path = path.absolute()
    _check_file(path, writable=True)
    layers = _chain(path, fmt, allow_external_files)
    for part in layers[0].parts:
        _check_file(part, writable=True)
    return Image(path, fmt, virtual_size, _references(layers))


def references(path: Path, *, allow_external_files: bool = False) -> tuple[Path, ...]:
    """The other files that the image at `path` is made of, by what it says itself. No program is
    run, so this is fit for many. Raises ImgconvError."""
    return _references(_chain(path, detect(path), allow_external_files))


def detect(path: Path) -> str:
    """The format by its magic, one of FORMATS; what is nothing else is raw.

    A block device is always raw: what lies on it belongs to the guest. Raises ImgconvError for
    kinds of files that are not taken, saying which it is and how to convert it.
    """
    if path.is_block_device():
        return "raw"
    head, tail = _read(path, 0, headers.HEAD_SIZE), _read(path, -headers.SECTOR, headers.SECTOR)
    for foreign in _FOREIGN:
        data = head if foreign.offset >= 0 else tail
        at = foreign.offset if foreign.offset >= 0 else len(tail) + foreign.offset
        if at >= 0 and data.startswith(foreign.magic, at):
            raise ImgconvError(f"{path} is {foreign.what}", hint=(
                f"{_about(foreign.remedy, path)}   (if it really is a raw disk: "
                "--input-format raw)"))
    return headers.format_of(head, tail)


def _references(layers: Sequence[_Layer]) -> tuple[Path, ...]:
    files = [file for layer in layers for file in (layer.path, *layer.parts)]
    return tuple(dict.fromkeys(files[1:]))


# --- the files an image is made of --------------------------------------------------------------


def _chain(path: Path, fmt: str, allow_external_files: bool) -> list[_Layer]:
    """The image and everything below it, each layer checked before the next one is opened."""
    homes = () if allow_external_files else (path.parent.resolve(), path.resolve().parent)
    below: tuple[Path, str] | None = (path, fmt)
    layers: list[_Layer] = []
    while below is not None:
        if len(layers) == _MAX_CHAIN:
            raise ImgconvError(f"{path}: more than {_MAX_CHAIN} backing files, or they form a loop",
                               hint="flatten it: qemu-img convert -O qcow2 ...")
        layers.append(_layer(*below, homes))
        below = layers[-1].backing
    return layers


def _layer(path: Path, fmt: str, homes: tuple[Path, ...]) -> _Layer:
    """Read which files one image names, and check each of these names."""
    named = _named(path, fmt)
    parts = tuple(_resolve(name, path, homes) for name in named.parts)
    for part in parts:
        if headers.names_further_extents(_read(part, 0, headers.SECTOR)):
            raise ImgconvError(f"{path}: its extent {part} names further extents",
                               hint="VMware makes no such images; it may be malicious")
    if not named.backing:
        return _Layer(path, fmt, parts, None)
    backing = _resolve(named.backing, path, homes)
    return _Layer(path, fmt, parts, (backing, _backing_format(path, backing, named, homes)))


def _named(path: Path, fmt: str) -> Named:
    try:
        match fmt:
            case "qcow2":
                return headers.qcow2(_read(path, 0, headers.HEAD_SIZE))
            case "vmdk":
                return headers.vmdk(_read(path, 0, headers.HEAD_SIZE))
            case "vpc":
                return headers.vpc(_read(path, 0, headers.SECTOR),
                                   _read(path, -headers.SECTOR, headers.SECTOR))
            case _:
                return Named()
    except ImgconvError as error:
        raise ImgconvError(f"{path}: {error.message}", hint=_about(error.hint, path)) from error


def _backing_format(path: Path, backing: Path, named: Named, homes: tuple[Path, ...]) -> str:
    """The format the image records for its backing file; without one, QEMU would probe."""
    fmt = named.backing_format
    rebase = f"qemu-img rebase -u -f qcow2 -F {{}} -b {_quoted(named.backing)} {_quoted(path)}"
    if not fmt:
        raise ImgconvError(
            f"{path} does not record the format of its backing file {named.backing}",
            hint=f"record it: {rebase.format(_detected(backing))}")
    if fmt not in FORMATS:
        raise ImgconvError(f"{path}: its backing file has the unsupported format {fmt!r}",
                           hint="flatten it: "
                           f"qemu-img convert -f qcow2 -O qcow2 {_quoted(path)} flat.qcow2")
    # An older QEMU may probe the parent of a vmdk, which is always a vmdk
    if named.is_vmdk and _detected(backing) != "vmdk":
        raise ImgconvError(f"{path}: its parent {backing} is no vmdk image",
                           hint="give back the parent it was made from")
    return fmt


def _detected(path: Path) -> str:
    try:
        return detect(path)
    except ImgconvError:
        return "FORMAT"


def _resolve(name: str, owner: Path, homes: tuple[Path, ...]) -> Path:
    """The file that `name`, found in the image `owner`, stands for, in QEMU's eyes.

    `homes` are the directories it must be in, () meaning any. Raises ImgconvError.
    """
    # QEMU's rule (util path_has_protocol): a colon before the first slash
    if ":" in name.partition("/")[0]:
        raise ImgconvError(f"{owner} names {name!r}, which is not a plain file name",
                           hint="copy it to a local image first: qemu-img convert -O qcow2 ...")
    path = owner.parent / name
    real = Path(os.path.realpath(path))  # resolve() raises on a loop of links
    if homes and not any(real.is_relative_to(home) for home in homes):
        raise ImgconvError(
            f"{owner} names a file outside its own directory: {name}",
            hint="a malicious image can reach any file of this host that way; if you trust it: "
                 "--allow-external-files")
    try:
        _check_file(path, writable=False)
    except ImgconvError as error:
        raise ImgconvError(f"{owner} needs the file {name}: {error.message}",
                           hint=error.hint) from error
    return path


# --- looking at files ---------------------------------------------------------------------------


def _check_file(path: Path, *, writable: bool) -> None:
    """Raise ImgconvError unless `path` is a non-empty file or block device we may use."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise ImgconvError(f"{path} is a directory, not a disk image",
                               hint="give the disk image in it, or use imgconv batch")
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise ImgconvError(f"{path} is neither a file nor a block device")
        size = _size(path, os.O_RDONLY)
    except FileNotFoundError as error:
        raise ImgconvError(f"{path} does not exist") from error
    except PermissionError as error:
        raise ImgconvError(f"{path} cannot be read: permission denied",
                           hint="run imgconv as a user who may read it") from error
    except OSError as error:
        raise ImgconvError(f"{path} cannot be read: {error.strerror}") from error
    if size == 0:
        raise ImgconvError(f"{path} is empty", hint="was it copied or downloaded completely?")
    if writable:
        _check_writable(path)


def _check_writable(path: Path) -> None:
    try:
        _size(path, os.O_RDWR)
    except OSError as error:
        raise ImgconvError(f"{path} cannot be written: {error.strerror}",
                           hint="write a converted copy instead: -o OUTPUT") from error


def _size(path: Path, flags: int) -> int:
    """Open `path` and return its size in bytes; a block device tells it only by seeking."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def _read(path: Path, offset: int, length: int) -> bytes:
    """At most `length` bytes at `offset` (from the end when negative)."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(offset if offset >= 0 else max(size + offset, 0))
            return file.read(length)
    except OSError as error:
        raise ImgconvError(f"{path} cannot be read: {error.strerror}") from error


# --- what QEMU says of it -----------------------------------------------------------------------


def _virtual_size(layer: _Layer, *, writable: bool) -> int:
    """Have QEMU open one image, its format given, and return the disk's size in bytes."""
    try:
        info = qemu_img.info(layer.path, layer.format)
    except CommandFailed as error:
        raise _explained(layer, error) from error
    if is_truncated(layer.path, layer.format):
        raise ImgconvError(f"{layer.path} is not complete: its own tables point behind its end",
                           hint="was the copy or download interrupted? copy it again")
    size = int(info["virtual-size"])
    if size == 0:
        raise ImgconvError(f"{layer.path}: the disk in it has no size",
                           hint="was it copied or downloaded completely?")
    if size > _MAX_VIRTUAL_SIZE:
        raise ImgconvError(f"{layer.path}: the disk in it claims {size} bytes, over 1 PiB",
                           hint="the image's header is damaged; take it from a backup")
    if writable and layer.format == "vmdk":
        _check_vmdk_writable(layer.path, info.get("format-specific", {}).get("data", {}))
    return size


def _check_vmdk_writable(path: Path, details: Mapping[str, Any]) -> None:
    """Refuse the kinds that QEMU can only read; some of them it refuses only in mid-write."""
    kind = details.get("create-type", "")
    # VMware KB 2064959: version 3 tracks changed blocks, which QEMU would not keep up
    if kind != "streamOptimized" and headers.vmdk_version(_read(path, 0, headers.SECTOR)) == 3:
        kind = "version 3"
    if kind in ("streamOptimized", "seSparse", "version 3"):
        raise ImgconvError(f"{path}: a {kind} vmdk cannot be written in place",
                           hint="write a converted copy instead: -o OUTPUT")


def _explained(layer: _Layer, error: CommandFailed) -> ImgconvError:
    said = error.result.stderr
    for pattern, message, remedy in _QEMU_MESSAGES:
        if pattern in said:
            return ImgconvError(f"{layer.path} {message}", hint=_about(remedy, layer.path))
    if error.result.status < 0:
        return ImgconvError(f"{layer.path}: QEMU exhausted its limits opening it as {layer.format}",
                            hint="the image is damaged or malicious")
    detail = (said.strip() or "no reason given").splitlines()[-1]
    detail = detail.removeprefix("qemu-img: ").replace(f"Could not open '{layer.path}': ", "")
    return ImgconvError(
        f"{layer.path}: QEMU cannot open it as {layer.format}: {detail}",
        hint="it may be damaged or incomplete; if the format is wrong, give --input-format")


def _about(remedy: str, path: Path) -> str:
    return remedy.replace("FILE", _quoted(path))


def _quoted(name: str | Path | None) -> str:
    return shlex.quote(str(name))
