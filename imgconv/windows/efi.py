"""The loader that UEFI firmware starts when it knows of no boot entry.

Windows' entry is in the old machine's NVRAM. New firmware only looks for \\EFI\\BOOT\\BOOTX64.EFI,
of which Windows' setup usually keeps a copy of bootmgfw.efi; other systems, and people, remove it.
"""

from __future__ import annotations

from typing import Final

from imgconv.errors import CannotConvert
from imgconv.guest.protocols import Reader
from imgconv.model import Firmware, Inspection, WriteFile
from imgconv.windows import boot_files
from imgconv.windows.versions import ARCHES

#: By libguestfs' word for the architecture (UEFI specification, "Removable Media Boot Behavior").
_FALLBACK: Final = {"x86_64": "BOOTX64.EFI", "i386": "BOOTIA32.EFI", "aarch64": "BOOTAA64.EFI"}

#: Windows' own loader.
LOADER: Final = "EFI/Microsoft/Boot/bootmgfw.efi"

#: bootmgfw.efi has 1 to 3 MiB.
_LOADER_LIMIT: Final = 16 << 20


def plan(reader: Reader, inspection: Inspection) -> tuple[WriteFile, ...]:
    """Nothing for BIOS, or when there is a loader, whosever it is. Raises CannotConvert."""
    name = fallback_name(inspection)
    if inspection.firmware is not Firmware.UEFI or name is None:
        return ()
    esp = system_partition(inspection)
    arch = ARCHES[inspection.arch]
    path = f"{esp}/EFI/BOOT/{name}"
    if not boot_files.program_problem(reader, path, arch):
        return ()
    wanted = f"{esp}/{LOADER}"
    problem = boot_files.program_problem(reader, wanted, arch)
    if problem:
        raise CannotConvert(
            f"the EFI system partition has no loader that could start Windows: {problem}",
            hint="start from Windows' setup medium, and run bcdboot C:\\Windows there")
    content = reader.read(reader.find(wanted) or wanted, _LOADER_LIMIT)
    folder = reader.find(f"{esp}/EFI/BOOT") or f"{esp}/EFI/BOOT"
    unusable = reader.find(path)
    before = reader.read(unusable, _LOADER_LIMIT) if unusable is not None else None
    return (WriteFile(unusable or f"{folder}/{name}", content, before,
                      "new firmware knows no boot entries, but starts this copy of the loader"),)


def fallback_name(inspection: Inspection) -> str | None:
    """What firmware without boot entries starts in \\EFI\\BOOT, None if not known."""
    return _FALLBACK.get(inspection.arch)


def system_partition(inspection: Inspection) -> str:
    """Where the partition is mounted that the firmware starts from."""
    paths = [mount.path for mount in inspection.mounts]
    return "/system" if "/system" in paths else (paths or ["/"])[0].rstrip("/")
