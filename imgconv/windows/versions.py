"""Windows' versions, as INF files and driver payloads tell them apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from imgconv.model import Inspection, WindowsOs

#: libguestfs' words for architectures, and those of INF files and virtio-win's folders.
ARCHES: Final = {"i386": "x86", "x86_64": "amd64", "aarch64": "arm64"}

#: The first version whose boot drivers are found by the DriverDatabase: Windows 8, Server 2012.
FIRST_DRIVER_DATABASE: Final = (6, 2)


@dataclass(frozen=True, slots=True, order=True)
class WindowsVersion:
    """`arch` is x86, amd64 or arm64; `server` is true of server and domain controller products."""

    major: int
    minor: int
    build: int
    arch: str
    server: bool = False
    service_pack: int = 0

    @property
    def release(self) -> tuple[int, int]:
        return self.major, self.minor


def of(inspection: Inspection) -> WindowsVersion:
    """The version of an inspected Windows guest; a part that is not known is 0."""
    system = inspection.os
    assert isinstance(system, WindowsOs)
    numbers = [int(part) for part in system.version.split(".")[:3] if part.isascii()
               and part.isdigit()]
    major, minor, build = (*numbers, 0, 0, 0)[:3]
    return WindowsVersion(major, minor, build, ARCHES.get(inspection.arch, inspection.arch),
                          system.server, system.service_pack)
