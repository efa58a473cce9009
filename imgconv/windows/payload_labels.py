"""The folders of driver payloads: for which Windows and processor the drivers in them are.

virtio-win has three layouts: DRIVER/WINDOWS/ARCH, ARCH/WINDOWS with several drivers in a folder,
and both of them below by-driver/ and by-os/. So a word is looked for in any folder above a file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from imgconv.windows.versions import WindowsVersion

ARCHES: Final = {"x86": "x86", "i386": "x86", "x64": "amd64", "amd64": "amd64", "x86_64": "amd64",
                 "arm64": "arm64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Label:
    """A Windows as virtio-win's folders name it; `builds` are its first and its last one."""

    name: str
    release: tuple[int, int]
    builds: tuple[int, int]
    server: bool
    title: str

    def version(self, arch: str) -> WindowsVersion:
        """Its last build."""
        return WindowsVersion(*self.release, self.builds[1], arch, self.server)

    def not_newer(self, windows: WindowsVersion) -> bool:
        """Whether it is the version `windows` or an earlier one; build 0 (unknown) is the last."""
        return (*self.release, self.builds[0]) <= (*windows.release, windows.build or 1 << 31)


#: From the oldest to the newest, clients first. The builds are Microsoft's.
LABELS: Final = (
    Label("xp", (5, 1), (2600, 2600), False, "Windows XP"),
    Label("2k3", (5, 2), (3790, 3790), True, "Windows Server 2003"),
    Label("vista", (6, 0), (6000, 6003), False, "Windows Vista"),
    Label("2k8", (6, 0), (6001, 6003), True, "Windows Server 2008"),
    Label("w7", (6, 1), (7600, 7601), False, "Windows 7"),
    Label("2k8R2", (6, 1), (7600, 7601), True, "Windows Server 2008 R2"),
    Label("w8", (6, 2), (9200, 9200), False, "Windows 8"),
    Label("2k12", (6, 2), (9200, 9200), True, "Windows Server 2012"),
    Label("w8.1", (6, 3), (9600, 9600), False, "Windows 8.1"),
    Label("2k12R2", (6, 3), (9600, 9600), True, "Windows Server 2012 R2"),
    Label("w10", (10, 0), (10240, 19045), False, "Windows 10"),
    Label("2k16", (10, 0), (14393, 14393), True, "Windows Server 2016"),
    Label("2k19", (10, 0), (17763, 17763), True, "Windows Server 2019"),
    Label("2k22", (10, 0), (20348, 20348), True, "Windows Server 2022"),
    Label("w11", (10, 0), (22000, 26200), False, "Windows 11"),
    Label("2k25", (10, 0), (26100, 26100), True, "Windows Server 2025"),
)

#: Other names: those of builds before 2012 (after the tools of Windows' driver kits), and people's.
_OTHER: Final = {"wxp": "xp", "wnet": "2k3", "wlh": "vista", "wvista": "vista"}
_BY_NAME: Final = {label.name.lower(): label for label in LABELS}


def label(word: str) -> Label | None:
    """The Windows that a folder, or a person, calls `word`: w10, Win10, 10, windows-2012r2..."""
    short = re.sub(r"[\s_-]|windows|win|server", "", word.lower())
    short = re.sub(r"^(?:w?20|w?2k)(0?)(\d)", r"2k\2", short)
    short = _OTHER.get(short, short)
    return _BY_NAME.get(short) or _BY_NAME.get(f"w{short}")


def of_folder(folder: str) -> tuple[Label | None, str | None]:
    """The Windows and the processor that a folder's path names, the innermost word first."""
    words = folder.split("/")[::-1]
    found = next(filter(None, map(label, words)), None)
    return found, next((ARCHES[word.lower()] for word in words if word.lower() in ARCHES), None)
