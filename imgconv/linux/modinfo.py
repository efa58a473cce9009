"""What a kernel module says of itself: the `.modinfo` section of its ELF file.

This is the independent witness for verification: modules.dep is an index that someone wrote, but
`depends=` and `vermagic=` inside the module are what the kernel itself goes by.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from imgconv.errors import HostileInput
from imgconv.linux.initramfs import compression

#: Drivers of disks and all they need are less than 1 MiB each, unpacked; the largest modules of all
#: (amdgpu) about 30 MiB.
LIMIT = 32 << 20

#: The largest .modinfo sections (usb-storage, snd-hda) are about 100 KiB.
_SECTION_LIMIT = 4 << 20

#: ELF's e_machine, whether it is 64 bits wide, and its byte order -> libguestfs' word for it.
_MACHINES = {(3, False, "<"): "i386", (62, True, "<"): "x86_64", (40, False, "<"): "arm",
             (183, True, "<"): "aarch64", (20, False, ">"): "ppc", (21, True, ">"): "ppc64",
             (21, True, "<"): "ppc64le", (22, False, ">"): "s390", (22, True, ">"): "s390x",
             (243, False, "<"): "riscv32", (243, True, "<"): "riscv64",
             (258, True, "<"): "loongarch64"}


@dataclass(frozen=True, slots=True)
class ModInfo:
    """`release` is the kernel release of vermagic ("6.1.0-13-amd64"), "" when there is none."""

    name: str
    arch: str
    depends: tuple[str, ...]
    aliases: tuple[str, ...]
    release: str


def read(content: bytes) -> ModInfo:
    """Read a module, compressed or not. Raises HostileInput when it is no kernel module."""
    data = compression.decompress_file(content, LIMIT)
    try:
        arch, section = _modinfo_section(data)
    except (struct.error, IndexError, OverflowError) as error:
        raise HostileInput(f"a kernel module is damaged: {error}") from error
    values: dict[str, list[str]] = {}
    for item in section.split(b"\0"):
        key, separator, value = item.decode("utf-8", "replace").partition("=")
        if separator:
            values.setdefault(key, []).append(value)
    depends = tuple(name for text in values.get("depends", []) for name in text.split(",") if name)
    vermagic = values.get("vermagic", [""])[0].split()
    return ModInfo(name=normalise(values.get("name", [""])[0]), arch=arch,
                   depends=tuple(normalise(name) for name in depends),
                   aliases=tuple(values.get("alias", [])), release=vermagic[0] if vermagic else "")


def normalise(name: str) -> str:
    """The kernel takes "-" and "_" in module names for the same."""
    return name.replace("-", "_")


def architecture(data: bytes) -> str:
    """The architecture of an ELF file, of which the first 20 bytes will do; "" when it is none."""
    if len(data) < 20 or data[:4] != b"\x7fELF":
        return ""
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", data, 18)
    return _MACHINES.get((machine, wide, order), f"ELF machine {machine}")


def _modinfo_section(data: bytes) -> tuple[str, bytes]:
    if data[:4] != b"\x7fELF" or data[4] not in (1, 2) or data[5] not in (1, 2):
        raise HostileInput("a kernel module is no ELF file")
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    (table,) = struct.unpack_from(order + ("Q" if wide else "I"), data, 40 if wide else 32)
    entry_size, count, names_index = struct.unpack_from(order + "3H", data, 58 if wide else 46)
    layout = order + ("IIQQQQ" if wide else "IIIIII")
    if table + count * entry_size > len(data):
        raise HostileInput("a kernel module is cut off")

    def section(index: int) -> tuple[int, int, int]:
        name, _, _, _, offset, size = struct.unpack_from(layout, data, table + index * entry_size)
        return name, offset, size

    _, names_at, names_size = section(names_index)
    for index in range(count):
        name, offset, size = section(index)
        at = names_at + name
        if name < names_size and data[at:at + 9] == b".modinfo\0":
            if size > _SECTION_LIMIT or offset + size > len(data):
                raise HostileInput("a kernel module has a damaged .modinfo section")
            return architecture(data), data[offset:offset + size]
    raise HostileInput("a kernel module has no .modinfo section")
