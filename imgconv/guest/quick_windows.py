"""Inspecting the plain Windows in a second: one installation on an NTFS partition of these disks.

As `quick` for Linux: whatever is not plain is left to libguestfs' `inspect_os`.
"""

from __future__ import annotations

import struct
from typing import Final

from imgconv.errors import ImgconvError
from imgconv.guest.appliance import Appliance
from imgconv.guest.quick import LONGEST
from imgconv.model import Filesystem, WindowsOs
from imgconv.windows import registry

#: More NTFS partitions than this are not looked into.
_MANY = 32

_ROOTS = ("/Windows", "/WINNT")
_CURRENT_VERSION = ("Microsoft", "Windows NT", "CurrentVersion")

#: Programs by which the architecture shows; and the machines of their PE headers.
_PROGRAMS = ("ntoskrnl.exe", "kernel32.dll", "cmd.exe")
_MACHINES: Final = {0x14C: "i386", 0x8664: "x86_64", 0xAA64: "aarch64"}

#: Windows 11 still calls itself 10 in the registry; its builds begin here.
_FIRST_11 = 22000


def quick_windows(appliance: Appliance, filesystems: tuple[Filesystem, ...]
                  ) -> tuple[str, str, WindowsOs] | None:
    """(device, architecture, system) of the only Windows there is; None when it is not plain.

    Nothing is mounted afterwards.
    """
    candidates = [f.device for f in filesystems if f.type == "ntfs"]
    if len(candidates) > _MANY:
        return None
    found = []
    for device in candidates:
        try:
            appliance.call("mount_ro", device, "/")
            facts = _installation(appliance)
        except ImgconvError:
            facts = None
        appliance.call("umount_all")
        if facts is not None:
            found.append((device, *facts))
    return found[0] if len(found) == 1 else None


def _installation(appliance: Appliance) -> tuple[str, WindowsOs] | None:
    """The architecture and the system on the filesystem that is mounted."""
    for name in _ROOTS:
        root = appliance.find(name)
        hive = appliance.find(f"{name}/System32/config/SOFTWARE")
        if root and hive and appliance.find(f"{name}/System32/config/SYSTEM"):
            arch = _arch(appliance, root)
            return (arch, windows_os(appliance, hive, root)) if arch else None
    return None


def _arch(appliance: Appliance, root: str) -> str | None:
    for name in _PROGRAMS:
        path = appliance.find(f"{root}/System32/{name}")
        if path is not None:
            head = appliance.read_range(path, 0, 4096)
            start = int.from_bytes(head[0x3C:0x40], "little")
            if head[:2] == b"MZ" and head[start:start + 4] == b"PE\0\0" and start + 6 < len(head):
                return _MACHINES.get(struct.unpack_from("<H", head, start + 4)[0])
    return None


def windows_os(appliance: Appliance, software: str, root: str) -> WindowsOs:
    """What the SOFTWARE hive, which is the file `software`, says of the system in folder `root`.

    hivex in the appliance is asked, because the hive may be large. Raises ImgconvError.
    """
    appliance.call("hivex_open", software)
    try:
        node = int(appliance.call("hivex_root"))
        for name in _CURRENT_VERSION:
            node = int(appliance.call("hivex_node_get_child", node, name)) if node else 0
        if not node:
            raise ImgconvError(f"{software} does not say which Windows this is",
                               hint="this SOFTWARE hive is damaged")

        def data(name: str) -> bytes:
            value = int(appliance.call("hivex_node_get_value", node, name))
            return bytes(appliance.call("hivex_value_value", value))[:4 * LONGEST] if value else b""

        def text(name: str) -> str:
            return registry.string(data(name))[:LONGEST]

        build = text("CurrentBuildNumber") or text("CurrentBuild")
        release = text("CurrentVersion")
        # Since Windows 10; CurrentVersion has stayed at 6.3 for the sake of old programs.
        if data("CurrentMajorVersionNumber"):
            release = ".".join(str(registry.integer(data(name)[:4])) for name in (
                "CurrentMajorVersionNumber", "CurrentMinorVersionNumber"))
        product = text("ProductName") or "Windows"
        server = "Server" in text("InstallationType") or "Server" in product
        pack = text("CSDVersion").rpartition(" ")[2]
        if build.isdecimal() and int(build) >= _FIRST_11 and not server:
            product = product.replace("Windows 10", "Windows 11")
        return WindowsOs(product, f"{release}.{build}".strip("."), root, server,
                         int(pack) if pack.isascii() and pack.isdecimal() else 0)
    finally:
        appliance.call("hivex_close")
