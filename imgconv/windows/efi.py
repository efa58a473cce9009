"""The loader that UEFI firmware starts when it knows of no boot entry.

Windows' entry is in the old machine's NVRAM. New firmware only looks for \\EFI\\BOOT\\BOOTX64.EFI,
of which Windows' setup usually keeps a copy of bootmgfw.efi; other systems, and people, remove it.
"""

from __future__ import annotations

from typing import Final

from imgconv.errors import CannotConvert
from imgconv.guest.protocols import Reader
from imgconv.model import Firmware, Inspection, WriteFile

#: By libguestfs' word for the architecture (UEFI specification, "Removable Media Boot Behavior").
_FALLBACK: Final = {"x86_64": "BOOTX64.EFI", "i386": "BOOTIA32.EFI", "aarch64": "BOOTAA64.EFI"}

#: bootmgfw.efi has 1 to 3 MiB.
_LOADER_LIMIT: Final = 16 << 20


def plan(reader: Reader, inspection: Inspection) -> tuple[WriteFile, ...]:
    """Nothing for BIOS, or when there is a loader, whosever it is. Raises CannotConvert."""
    name = _FALLBACK.get(inspection.arch)
    if inspection.firmware is not Firmware.UEFI or name is None:
        return ()
    esp = system_partition(inspection)
    if reader.find(f"{esp}/EFI/BOOT/{name}") is not None:
        return ()
    loader = reader.find(f"{esp}/EFI/Microsoft/Boot/bootmgfw.efi")
    content = reader.read(loader, _LOADER_LIMIT) if loader is not None else b""
    if not content.startswith(b"MZ"):
        raise CannotConvert(
            "the EFI system partition has no loader that could start Windows",
            hint="start from Windows' setup medium, and run bcdboot C:\\Windows there")
    folder = reader.find(f"{esp}/EFI/BOOT") or f"{esp}/EFI/BOOT"
    return (WriteFile(f"{folder}/{name}", content, None,
                      "new firmware knows no boot entries, but starts this copy of the loader"),)


def system_partition(inspection: Inspection) -> str:
    """Where the partition is mounted that the firmware starts from."""
    paths = [mount.path for mount in inspection.mounts]
    return "/system" if "/system" in paths else paths[0]
