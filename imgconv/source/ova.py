"""An OVA: a tar archive of an OVF descriptor, perhaps a manifest of checksums, and the disks."""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote

from imgconv.disk.overlay import require_space
from imgconv.errors import HostileInput, ImgconvError
from imgconv.model import Hardware, SourceDisk
from imgconv.source import ovf, tar, values

NAME = "ova"

_CHUNK = 1 << 20
_ALGORITHMS = {"SHA1": "sha1", "SHA256": "sha256", "SHA512": "sha512"}
_MANIFEST_LINE = re.compile(r"(SHA1|SHA256|SHA512)\s{0,4}\((.{1,1024})\)\s{0,4}=\s{0,4}"
                            r"([0-9a-fA-F]{40,128})")


@dataclass(frozen=True, slots=True)
class Appliance:
    """What is in an OVA: the machine, where each file is, and the manifest's checksums.

    `files` are in the archive's order; `disks` those of the machine's disks, in theirs. `digests`
    has algorithm (hashlib's name) and digest in hexadecimal digits by name of file.
    """

    hardware: Hardware
    files: tuple[tar.Member, ...]
    disks: tuple[tar.Member, ...]
    digests: dict[str, tuple[str, str]]


def recognises(head: bytes) -> bool:
    return head.startswith(tar.MAGIC, tar.MAGIC_AT)


def parse(file: BinaryIO) -> Hardware:
    """The machine of the appliance. Its disks are not read. Raises ImgconvError."""
    return opened(file).hardware


def opened(file: BinaryIO) -> Appliance:
    """Read the headers, the descriptor and the manifest of the archive in `file`.

    Raises ImgconvError, also when the descriptor is not what the manifest says.
    """
    files = tuple(member._replace(name=member.name.removeprefix("./"))
                  for member in tar.members(file))
    by_name = {member.name: member for member in files}
    if len(by_name) != len(files):
        raise HostileInput("two files in the archive have one name",
                           hint="no appliance has that; unpack it and look: tar -tvf FILE")
    descriptor = _only(files, ".ovf")
    if descriptor is None:
        raise values.no_description("appliance", "the archive has no .ovf")
    data = _whole(file, descriptor)
    hardware = ovf.parse(io.BytesIO(data))
    manifest = _only(files, ".mf")
    digests = {} if manifest is None else _manifest(_whole(file, manifest), by_name)
    if descriptor.name in digests:
        _check(descriptor, hashlib.new(digests[descriptor.name][0], data).hexdigest(), digests)
    disks = tuple(_member(disk, by_name) for disk in hardware.disks)
    if len(set(disks)) != len(disks):
        raise HostileInput("two disks of the appliance are one file",
                           hint="unpack it, and give imgconv the disks")
    return Appliance(replace(hardware, notes=hardware.notes + _notes(files, disks, digests)),
                     files, disks, digests)


def unpack(path: Path, folder: Path, progress: Callable[[float], None]) -> tuple[Path, ...]:
    """Write the disks of the OVA into `folder`, under names of ours, and check the manifest.

    The archive is read once, from the beginning to the end. `progress` gets 0..1. Returns the
    paths in the order of the disks. Raises ImgconvError: for a checksum that is wrong, a damaged
    archive, and when there is no room, before anything is written.
    """
    with path.open("rb") as file:
        appliance = opened(file)
        _check_disks(appliance.hardware.disks)
        require_space(folder, sum(member.size for member in appliance.disks),
                      f"unpack the disks of {path.name}", "make room there, or write elsewhere: -o")
        mode = path.stat().st_mode & 0o666 | 0o600
        targets = {member: folder / f"{path.stem}-disk{number}{_suffix(disk)}"
                   for number, (member, disk) in enumerate(
                       zip(appliance.disks, appliance.hardware.disks, strict=True), 1)}
        # The descriptor has been checked already, and the manifest itself has no checksum.
        wanted = [member for member in appliance.files if member in targets or (
            member.name in appliance.digests and not member.name.lower().endswith(".ovf"))]
        total, done = sum(member.size for member in wanted) or 1, 0
        for member in wanted:
            algorithm, _ = appliance.digests.get(member.name, ("sha1", ""))
            digest = hashlib.new(algorithm, usedforsecurity=False)
            for data in _copied(file, member, targets.get(member), mode):
                digest.update(data)
                done += len(data)
                progress(done / total)
            _check(member, digest.hexdigest(), appliance.digests)
    return tuple(targets[member] for member in appliance.disks)


def _copied(file: BinaryIO, member: tar.Member, target: Path | None, mode: int) -> Iterator[bytes]:
    """The member's content, piece by piece, which `target` gets as well where there is one."""
    if target is None:
        yield from _pieces(file, member)
        return
    with _written(target):
        output = open(target, "xb", buffering=0,  # noqa: SIM115 - closed below
                      opener=lambda name, flags: os.open(name, flags, mode))
    with output:
        for data in _pieces(file, member):
            with _written(target):
                left = memoryview(data)
                while left:
                    left = left[output.write(left):]
            yield data


@contextmanager
def _written(target: Path) -> Iterator[None]:
    """What goes wrong in the block is the output's fault, not the archive's."""
    try:
        yield
    except OSError as error:
        raise ImgconvError(f"{target} cannot be written: {error.strerror}",
                           hint="make room there, or write elsewhere: -o") from error


def _pieces(file: BinaryIO, member: tar.Member) -> Iterator[bytes]:
    file.seek(member.offset)
    left = member.size
    while left:
        data = file.read(min(left, _CHUNK))
        if not data:
            raise ImgconvError(f"the archive ends within {values.printable(member.name)}",
                               hint="was it copied or downloaded completely?")
        left -= len(data)
        yield data


def _whole(file: BinaryIO, member: tar.Member) -> bytes:
    if member.size > values.MAX_BYTES:
        raise HostileInput(f"{values.printable(member.name)} in the archive has {member.size:,} "
                           "bytes, which none of its kind has")
    return b"".join(_pieces(file, member))


def _only(files: Sequence[tar.Member], suffix: str) -> tar.Member | None:
    found = [member for member in files if member.name.lower().endswith(suffix)]
    if len(found) > 1:
        raise HostileInput(f"the archive has {len(found)} files that end in {suffix}",
                           hint="an appliance has one; unpack it, and give imgconv the disks")
    return found[0] if found else None


def _member(disk: SourceDisk, by_name: dict[str, tar.Member]) -> tar.Member:
    """The file of a disk; its name in the descriptor is a URI, in which %20 may be a space."""
    name = disk.name.removeprefix("./")
    member = by_name.get(name) or by_name.get(unquote(name))
    if member is None:
        raise ImgconvError(f"the archive lacks the disk {values.printable(disk.name)!r}",
                           hint="was it copied or downloaded completely?")
    return member


def _check_disks(disks: Sequence[SourceDisk]) -> None:
    if not disks:
        raise ImgconvError("the appliance has no disk")
    for disk in disks:
        if disk.obstacle:
            raise ImgconvError(disk.obstacle, hint="then: imgconv virtio-ize --from FILE.ovf DISK")


def _suffix(disk: SourceDisk) -> str:
    return ".vmdk" if disk.format == "vmdk" else ".disk"


# --- the manifest -------------------------------------------------------------------------------


def _manifest(data: bytes, by_name: dict[str, tar.Member]) -> dict[str, tuple[str, str]]:
    """Lines such as "SHA256(guest.ovf)= 0123..."."""
    digests: dict[str, tuple[str, str]] = {}
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        if not line.strip():
            continue
        match = _MANIFEST_LINE.fullmatch(line.strip())
        if not match or len(match[3]) != hashlib.new(_ALGORITHMS[match[1]]).digest_size * 2:
            raise HostileInput(f"a line of the manifest is not readable: {values.printable(line)}",
                               hint="the appliance is damaged, or its checksums are of a kind that "
                                    "imgconv does not know; unpack it, and give imgconv the disks")
        name = match[2].removeprefix("./")
        if name not in by_name:
            raise ImgconvError(f"the archive lacks {values.printable(name)}, which is in its "
                               "manifest", hint="was it copied or downloaded completely?")
        if name in digests:
            raise HostileInput(f"{values.printable(name)} is twice in the manifest")
        digests[name] = (_ALGORITHMS[match[1]], match[3].lower())
    return digests


def _check(member: tar.Member, digest: str, digests: dict[str, tuple[str, str]]) -> None:
    if member.name in digests and digests[member.name][1] != digest:
        algorithm, expected = digests[member.name]
        raise ImgconvError(
            f"{values.printable(member.name)} in the appliance is not what its manifest says: "
            f"{algorithm.upper()} {digest}, and not {expected}",
            hint="the appliance is damaged or was changed: copy or download it again")


def _notes(files: Sequence[tar.Member], disks: Sequence[tar.Member],
           digests: dict[str, tuple[str, str]]) -> tuple[str, ...]:
    notes = []
    if not digests:
        notes.append("the appliance has no manifest: nothing shows that it is undamaged")
    elif any(disk.name not in digests for disk in disks):
        notes.append("the appliance's manifest leaves out a disk: nothing shows it undamaged")
    if any(member.name.lower().endswith(".cert") for member in files):
        notes.append("the appliance is signed; imgconv does not check by whom")
    return tuple(notes)
