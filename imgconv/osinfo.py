"""What libosinfo knows about a guest's system, where its Python binding is installed.

Debian: gir1.2-libosinfo-1.0, osinfo-db and python3-gi. Without them, or for a system that the
database does not have, `lookup` says None and `machine.choose` follows its own rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from typing import Any

from imgconv.model import Inspection, LinuxOs, WindowsOs

MIB = 1 << 20

#: osinfo-db's ids of devices: `pci.ids` vendor and device, and QEMU's chipsets.
_Q35 = "http://qemu.org/chipset/x86/q35"
_VIRTIO_1_0_BLOCK = "http://pcisig.com/pci/1af4/1042"

#: osinfo-db's words for architectures are libguestfs' but for this.
_ARCHES = {"i386": "i686"}
#: Where a resource is the same for all.
_ANY_ARCH = "all"

#: How short ids begin where that is not libguestfs' or os-release's word for the distribution.
_PREFIXES = {"opensuse-leap": "opensuse", "oraclelinux": "ol", "alpine": "alpinelinux",
             "arch": "archlinux", "redhat-based": "rhel", "scientificlinux": "scientific"}
#: Distributions whose point releases are no releases of their own to osinfo-db.
_MAJOR_ONLY = ("debian", "fedora", "mageia", "rocky", "almalinux")

#: Short ids of Windows by major and minor version: for clients and for servers.
_WINDOWS = {
    "5.0": ("win2k", "win2k"),
    "5.1": ("winxp", "winxp"),
    "5.2": ("winxp", "win2k3"),  # XP for x86_64 is of the server's version
    "6.0": ("winvista", "win2k8"),
    "6.1": ("win7", "win2k8r2"),
    "6.2": ("win8", "win2k12"),
    "6.3": ("win8.1", "win2k12r2"),
}
#: Since 10.0 the build tells them apart: the first build of each, the newest first.
_CLIENTS = ((22000, "win11"), (0, "win10"))
_SERVERS = ((26100, "win2k25"), (20348, "win2k22"), (17763, "win2k19"), (0, "win2k16"))


@dataclass(frozen=True, slots=True)
class Facts:
    """What the database says of one system; `memory` is the least it needs, in MiB, 0 if unknown.

    `q35` says whether the system is known to run on that chipset, `virtio_1_0` whether it brings
    drivers for virtio's modern interface: no Windows does.
    """

    short_id: str
    memory: int
    q35: bool
    virtio_1_0: bool


def short_id(system: LinuxOs | WindowsOs) -> str:
    """The short id that osinfo-db gives, or would give, this system; "" when it cannot be told."""
    return next(iter(_candidates(system)), "")


def lookup(inspection: Inspection) -> Facts | None:
    """What libosinfo knows about the guest's system; None for nothing."""
    systems = _database()
    if systems is None:
        return None
    for name in _candidates(inspection.os):
        found = systems.get(name)
        if found is not None:
            return _facts(name, found, inspection.arch)
    return None


def _candidates(system: LinuxOs | WindowsOs) -> tuple[str, ...]:
    """Short ids that may be this system's, the most exact first."""
    if isinstance(system, WindowsOs):
        found = _windows(system)
        return (found,) if found else ()
    # The version is a guest's word.
    version = re.match(r"(\d{1,4})(?:\.(\d{1,4}))?", system.version)
    distro = _PREFIXES.get(system.distro, system.distro)
    if not re.fullmatch("[a-z][a-z0-9-]{0,40}", distro):
        return ()
    if version is None:
        return (distro,)
    major, minor = version.groups()
    if minor is None or distro in _MAJOR_ONLY:
        return (distro + major,)
    if distro in ("sles", "sled"):
        exact = distro + major + (f"sp{minor}" if int(minor) else "")
    else:
        exact = f"{distro}{major}.{minor}"
    # A point release that is younger than the database is like the first of its kind.
    return (exact, distro + major, f"{distro}{major}.0")


def _windows(system: WindowsOs) -> str:
    match = re.match(r"(\d{1,9})\.(\d{1,9})(?:\.(\d{1,9}))?", system.version)
    if match is None:
        return ""
    major, minor, build = match.groups()
    if int(major) < 10:
        names = _WINDOWS.get(f"{int(major)}.{int(minor)}")
        return names[system.server] if names else ""
    if int(major) > 10:
        return ""
    table = _SERVERS if system.server else _CLIENTS
    return next(name for first, name in table if int(build or 0) >= first)


@cache
def _database() -> dict[str, Any] | None:
    """The database's systems by short id; None without libosinfo."""
    try:
        import gi

        gi.require_version("Libosinfo", "1.0")
        from gi.repository import Libosinfo
    except (ImportError, ValueError):
        return None
    loader = Libosinfo.Loader()
    loader.process_default_path()
    systems = loader.get_db().get_os_list()
    return {found.get_short_id(): found
            for found in (systems.get_nth(n) for n in range(systems.get_length()))}


def _facts(name: str, system: Any, arch: str) -> Facts:  # noqa: ANN401 - libosinfo's Os
    # All that the system, or one that it is derived from, has drivers for.
    found = system.get_all_devices(None)
    devices = {found.get_nth(n).get_id() for n in range(found.get_length())}
    resources = system.get_minimum_resources()
    memory = 0
    for n in range(resources.get_length()):
        resource = resources.get_nth(n)
        if resource.get_architecture() in (_ARCHES.get(arch, arch), _ANY_ARCH):
            memory = max(memory, resource.get_ram() // MIB)  # -1 is unknown
    return Facts(name, memory, _Q35 in devices, _VIRTIO_1_0_BLOCK in devices)
