"""initramfs: reading, splicing, rebuilding; one module a tool."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from imgconv.errors import CannotConvert, HostileInput, ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import (
    booster,
    check,
    compression,
    cpio,
    dracut,
    initramfs_tools,
    make_initrd,
    mkinitcpio,
    mkinitfs,
    old_image,
    redhat_mkinitrd,
    splice,
    suse_mkinitrd,
    tiny_initramfs,
)
from imgconv.linux.initramfs.tool import InitramfsTool
from imgconv.linux.kernels import DRIVERS, Kernel
from imgconv.model import Change, InitramfsMode, WriteFile

#: The order counts only for images of which nothing tells what made them: tools that bring wrappers
#: called mkinitrd go before mkinitrd itself.
TOOLS: tuple[InitramfsTool, ...] = (
    initramfs_tools, dracut, mkinitcpio, booster, mkinitfs, make_initrd, tiny_initramfs,
    suse_mkinitrd, redhat_mkinitrd)

__all__ = ["TOOLS", "InitramfsTool", "detect", "installed", "persist", "plan", "read", "tool_of"]


def installed(reader: Reader) -> tuple[InitramfsTool, ...]:
    """The initramfs tools that the guest has: more than one when one of them is a leftover."""
    return tuple(tool for tool in TOOLS if tool.detect(reader))


def detect(reader: Reader) -> InitramfsTool | None:
    """The guest's initramfs tool, None when it is none that we know."""
    return next(iter(installed(reader)), None)


def tool_of(reader: Reader, initramfs: cpio.Initramfs) -> InitramfsTool | None:
    """What has made `initramfs`: its contents tell, whatever else is installed by now. When they do
    not, it is taken for the work of the tool that is installed."""
    try:
        made = next((tool for tool in TOOLS if tool.built(initramfs)), None)
    except HostileInput:
        made = None
    return made or detect(reader)


def persist(reader: Reader, renamer: Renamer, drivers: Sequence[str]) -> tuple[WriteFile, ...]:
    """The edits that keep `drivers` in what the guest builds itself, whichever tool does it."""
    return tuple(change for tool in installed(reader)
                 for change in tool.persist(reader, renamer, drivers))


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


def plan(reader: Reader, kernel: Kernel, arch: str, renamer: Renamer,
         mode: InitramfsMode) -> tuple[Change, ...]:
    """The changes that make the initramfs of `kernel` bring up disks on `renamer.bus`.

    () when it is proven complete as it is. Raises ImgconvError when `mode` leaves no way.
    """
    path = kernel.initramfs
    if path is None or any(reader.size(name) is None for name in kernel.initrds):
        return ()  # then the entry has not booted before, either; verification says so
    drivers = DRIVERS[renamer.bus]
    try:
        initramfs = read(reader, kernel.initrds)
    except HostileInput:
        old_image.refuse(path, reader.read(path, compression.LIMIT))
        if mode is InitramfsMode.SPLICE:
            raise
        return _rebuild(reader, kernel, drivers, detect(reader))
    tool = tool_of(reader, initramfs)
    if tool is None:
        raise CannotConvert(f"{path} was made by no initramfs tool that imgconv knows",
                            hint="known are: " + ", ".join(t.NAME for t in TOOLS))
    if not (check.drivers(initramfs, kernel.tree, kernel.arch or arch, drivers, tool).problems
            or check.names(initramfs, renamer, tool).problems):
        return ()
    if mode is InitramfsMode.REBUILD:
        return _rebuild(reader, kernel, drivers, tool)
    try:
        return (splice.plan(reader, path, initramfs, kernel.tree, kernel.arch or arch, renamer,
                            drivers, tool),)
    except ImgconvError as error:
        if mode is InitramfsMode.SPLICE or not tool.detect(reader):
            raise CannotConvert(error.message, hint=error.hint or (
                "try --initramfs rebuild" if tool.detect(reader) else "")) from error
        return _rebuild(reader, kernel, drivers, tool)


def _rebuild(reader: Reader, kernel: Kernel, drivers: Sequence[str],
             tool: InitramfsTool | None) -> tuple[Change, ...]:
    if tool is None or not tool.detect(reader):
        raise CannotConvert(
            f"{kernel.initramfs} cannot be built anew: "
            + (f"{tool.NAME}, which made it, is not installed in the guest" if tool is not None
               else "the guest's initramfs tool is none that imgconv knows"),
            hint="known are: " + ", ".join(t.NAME for t in TOOLS))
    modular = [driver for driver in drivers if kernel.tree.state(driver) == "module"]
    edits, command = tool.rebuild(reader, kernel, modular)
    return (*edits, command)
