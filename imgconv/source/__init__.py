"""The hardware of the source, from what its hypervisor wrote about it.

To add a description: write a module, add it to SOURCES. All of it is foreign input.
"""

from __future__ import annotations

import io
import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote

from imgconv.disk import overlay
from imgconv.errors import HostileInput, ImgconvError, UsageError
from imgconv.model import Disk, Hardware, SourceDisk
from imgconv.source import libvirt_xml, ova, ovf, values, vmx


class Source(Protocol):
    """A module that reads one kind of description."""

    @property
    def NAME(self) -> str:  # noqa: N802 - modules have constants
        """What messages call it."""
        ...

    def recognises(self, head: bytes) -> bool:
        """Whether a description of this kind begins with `head` (of some KiB; no NUL bytes in
        text)."""
        ...

    def parse(self, file: BinaryIO) -> Hardware:
        """What the description says. `file` can seek. Raises ImgconvError, without the path."""
        ...


SOURCES: tuple[Source, ...] = (ova, ovf, libvirt_xml, vmx)

_HEAD = 16 << 10
_MAX_NAME = 4096


def read(path: Path) -> Hardware:
    """The hardware that the description at `path` (it may be a pipe) is of. Raises ImgconvError."""
    with _described(path), path.open("rb") as opened:
        file: BinaryIO = opened
        if not opened.seekable():
            file = io.BytesIO(opened.read(values.MAX_BYTES + 1))
        head = file.read(_HEAD)
        file.seek(0)
        for source in SOURCES:
            # A text in UTF-16 has a NUL in each character that matters.
            if source.recognises(head) or source.recognises(head.replace(b"\0", b"")):
                return source.parse(file)
        raise ImgconvError("it describes no virtual machine that imgconv knows",
                           hint="--from takes a VMX file, libvirt's XML (virsh dumpxml), an OVF or "
                                "an OVA")


def is_appliance(path: Path) -> bool:
    """Whether the regular file at `path` is an OVA, by its magic."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return ova.recognises(file.read(_HEAD))


@contextmanager
def given(source: Path, disks: tuple[Path, ...], *, output: Path | None, unpack: bool,
          allow_external_files: bool, progress: Callable[[float], None],
          ) -> Iterator[tuple[Hardware, tuple[Disk, ...]]]:
    """The hardware that `source` describes, and the guest's disks, for as long as the block runs.

    `disks` are the user's; without any, they are those of the description. Those of an appliance
    are unpacked for the block, beside `output`, or where temporary files go. A disk's format is ""
    where it is to be told by its magic. Raises UsageError without `unpack` for an appliance
    without disks, ImgconvError for a disk that cannot be taken.
    """
    hardware = read(source)
    if disks:
        yield hardware, tuple(Disk(path, "") for path in disks)
    elif not is_appliance(source):
        with _described(source):
            found = tuple(_disk(disk, source, allow_external_files) for disk in hardware.disks)
            if not found:
                raise ImgconvError("it names no disk", hint="give the disks as well")
        yield hardware, found
    elif not unpack:
        raise UsageError(f"{source} is an appliance, which is never modified",
                         hint="say where the converted disks go: imgconv virtio-ize "
                              f"{shlex.quote(str(source))} -o FOLDER")
    else:
        place = None if output is None else output if output.is_dir() else output.absolute().parent
        with overlay.workspace(place) as folder:
            with _described(source):
                paths = ova.unpack(source, folder, progress)
            yield hardware, tuple(Disk(path, disk.format)
                                  for path, disk in zip(paths, hardware.disks, strict=True))


@contextmanager
def _described(path: Path) -> Iterator[None]:
    """Errors of the block get the description's name."""
    try:
        yield
    except ImgconvError as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error
    except OSError as error:
        raise ImgconvError(f"{path} cannot be read: {error.strerror or error}") from error


def _disk(disk: SourceDisk, source: Path, allow_external_files: bool) -> Disk:
    """The disk at the place that the description says, which must be in its own folder.

    What links lead to counts, as with the files that an image names (`disk.formats`).
    """
    if disk.obstacle:
        raise ImgconvError(disk.obstacle, hint="give the disks as well")
    name = disk.name
    if not name or "\0" in name or len(name) > _MAX_NAME:
        raise HostileInput("the name of a disk is none that a file can have")
    folder = source.absolute().parent
    if source.suffix.lower() == ".ovf" and not (folder / name).exists():
        name = unquote(name)
    path = folder / name
    real = Path(os.path.realpath(path))
    homes = (folder.resolve(), Path(os.path.realpath(source)).parent)
    if not allow_external_files and not any(real.is_relative_to(home) for home in homes):
        raise ImgconvError(f"it names a disk outside its own folder: {values.printable(name)}",
                           hint="a malicious description can reach any file of this host that way; "
                                "give the disks as well or, if you trust it: "
                                "--allow-external-files")
    return Disk(path, disk.format)
