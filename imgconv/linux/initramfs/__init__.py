"""initramfs: reading, splicing, rebuilding; one module a tool."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from imgconv.errors import HostileInput, ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import check, compression, cpio, initramfs_tools, splice
from imgconv.linux.initramfs.tool import InitramfsTool
from imgconv.linux.kernels import DRIVERS, Kernel
from imgconv.model import Change, InitramfsMode

TOOLS: tuple[InitramfsTool, ...] = (initramfs_tools,)

__all__ = ["TOOLS", "InitramfsTool", "detect", "plan", "read"]


def detect(reader: Reader) -> InitramfsTool | None:
    """The guest's initramfs tool, None when it is none that we know."""
    return next((tool for tool in TOOLS if tool.detect(reader)), None)


def read(reader: Reader, paths: Sequence[str]) -> cpio.Initramfs:
    """Read the initramfs that the files `paths` of the guest make up: the boot loader loads them
    one behind the other, each aligned to 4 bytes.

    Raises GuestFileMissing, HostileInput.
    """
    content = b""
    try:
        for path in paths:
            part = reader.read(path, compression.LIMIT)
            content = content + b"\0" * (-len(content) % 4) + part if content else part
        return _parsed(content)
    except HostileInput as error:
        raise HostileInput(f"{' + '.join(paths)}: {error.message}", hint=error.hint) from error


@lru_cache(maxsize=1)  # each may hold up to compression.LIMIT
def _parsed(content: bytes) -> cpio.Initramfs:
    """Verification asks several times for one initramfs."""
    return cpio.read(content)


def plan(reader: Reader, kernel: Kernel, arch: str, renamer: Renamer, tool: InitramfsTool,
         mode: InitramfsMode) -> tuple[Change, ...]:
    """The changes that make the initramfs of `kernel` bring up disks on `renamer.bus`.

    () when it is proven complete as it is. Raises ImgconvError when `mode` leaves no way.
    """
    if kernel.initramfs is None:
        return ()
    drivers = DRIVERS[renamer.bus]
    if any(reader.size(path) is None for path in kernel.initrds):
        return ()  # the entry has not booted before, either; verification says so
    try:
        initramfs = read(reader, kernel.initrds)
    except HostileInput:
        if mode is InitramfsMode.SPLICE:
            raise
        return _rebuild(reader, kernel, tool)
    if not (check.drivers(initramfs, kernel.tree, kernel.arch or arch, drivers, tool).problems
            or check.names(initramfs, renamer, tool).problems):
        return ()
    if mode is InitramfsMode.REBUILD:
        return _rebuild(reader, kernel, tool)
    try:
        return (splice.plan(reader, kernel.initramfs, initramfs, kernel.tree, kernel.arch or arch,
                            renamer, drivers, tool),)
    except ImgconvError:
        if mode is InitramfsMode.SPLICE:
            raise
        return _rebuild(reader, kernel, tool)


def _rebuild(reader: Reader, kernel: Kernel, tool: InitramfsTool) -> tuple[Change, ...]:
    edits, command = tool.rebuild(reader, kernel)
    return (*edits, command)
