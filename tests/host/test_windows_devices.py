"""The devices as Windows names them, against what QEMU's devices have in their configuration space.

Nothing of QEMU's own tells the revision and the whole class, so the machine starts with a firmware
of ours that reads the configuration space and writes it to QEMU's debug console.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from imgconv.windows import devices
from imgconv.windows.devices import PciDevice

pytestmark = pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None,
                                reason="needs qemu-system-x86_64")

_CODE = bytes.fromhex(
    "bc0070"            # mov sp, 0x7000
    "66bb00000080"      # mov ebx, 0x80000000
    "6689d8" "e81c00"   # next: mov eax, ebx; call dump
    "6689d8" "b008" "e81400"  # ... register 8: class and revision
    "6689d8" "b02c" "e80c00"  # ... register 0x2c: subsystem
    "80c701" "75e5"     # add bh, 1; jnz next: 32 devices of 8 functions
    "b000" "e6f4"       # out 0xf4, 0: isa-debug-exit
    "f4" "ebfd"         # hlt, for ever
    "baf80c" "66ef"     # dump: out 0xcf8, eax
    "bafc0c" "66ed"     # in eax, 0xcfc
    "b90400"            # four bytes to the console
    "e6e9" "66c1e808" "e2f8" "c3")

_VIRTIO = ("virtio-blk-pci,drive=disk", "virtio-scsi-pci", "virtio-net-pci", "virtio-rng-pci",
           "virtio-balloon-pci")


def _configuration(machine: str, virtio: str, folder: Path) -> set[tuple[int, ...]]:
    """(vendor, device, class, revision, subsystem) of every device of a machine with the lot.

    `virtio` are further properties of the virtio devices.
    """
    rom = folder / "rom"
    # The reset vector is 16 bytes below the end, and jumps to the start of the last 64 KiB.
    rom.write_bytes((_CODE.ljust(0xFFF0, b"\xf4") + b"\xe9\x0d\x00").ljust(0x10000, b"\xf4"))
    words = ["qemu-system-x86_64", "-M", machine, "-accel", "tcg", "-nodefaults",
             "-display", "none", "-bios", str(rom), "-debugcon", f"file:{folder}/out",
             "-device", "isa-debug-exit,iobase=0xf4"]
    words += ["-blockdev", "driver=null-co,node-name=disk"]
    for device in _VIRTIO:
        words += ["-device", device + virtio]
    for device in ("e1000", "e1000e", "rtl8139"):
        words += ["-device", device]
    ended = subprocess.run(words, timeout=60, capture_output=True, text=True)
    assert ended.returncode == 1, ended.stderr  # isa-debug-exit's 0
    numbers = struct.iter_unpack("<HHIHH", (folder / "out").read_bytes())
    return {(vendor, device, rest >> 8, rest & 0xFF, sub, system)
            for vendor, device, rest, sub, system in numbers if vendor != 0xFFFF}


def _numbers(device: PciDevice) -> tuple[int, ...]:
    return device.vendor, device.device, device.class_code, device.revision, *device.subsystem


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_qemu_has_the_devices_of_the_table(machine: str, tmp_path: Path) -> None:
    there = (_configuration(machine, "", tmp_path)
             | _configuration(machine, ",disable-legacy=on", tmp_path))
    table = [value for value in vars(devices).values() if isinstance(value, PciDevice)]
    other = devices.AHCI if machine == "pc" else devices.IDE
    missing = [device.name for device in table if _numbers(device) not in there]
    assert missing == [other.name], sorted(there)
