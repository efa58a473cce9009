"""A spliced initramfs differs by its compression; the guest's own kernel is the judge of each."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from imgconv import host, pipeline
from imgconv.boot import Verdict, here
from imgconv.disk.formats import open_image
from imgconv.guest import appliance
from imgconv.linux.initramfs import compression
from imgconv.model import AppendFile, InitramfsMode, Mount, Options

#: As mkinitramfs compresses: the kernel reads only this check of xz, only the legacy frame of lz4.
COMMANDS = {
    "gzip": ["gzip", "-n", "-1"],
    "xz": ["xz", "-0", "--check=crc32"],
    "lz4": ["lz4", "-l", "-1", "-"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_spliced_initramfs_boots(name: str, legacy_guest: Path, tmp_path: Path,
                                 copy_of: Callable[[Path], Path]) -> None:
    disk = copy_of(legacy_guest)
    with appliance.launch([open_image(disk, writable=True)], writable=True,
                          tcg=not host.kvm_usable().usable) as guest:
        guest.mount([Mount("/dev/sda1", "/")], writable=True)
        (path,) = (f"/boot/{entry}" for entry in guest.names("/boot")
                   if entry.startswith("initrd.img-"))
        _, archive, _ = compression.decompress(memoryview(guest.read(path, 1 << 30)))
        packed = subprocess.run(COMMANDS[name], input=archive, stdout=subprocess.PIPE, check=True)
        guest.write(path, packed.stdout, 0o644)

    report = pipeline.virtio_ize(pipeline.Job(
        (disk,), Options(initramfs=InitramfsMode.SPLICE), memory=1024, cpus=1))
    assert report.committed, report.findings
    assert report.plan is not None
    assert any(isinstance(change, AppendFile) for change in report.plan.changes)
    assert report.machine is not None
    evidence = here.boot(report.machine, workspace=tmp_path)
    assert evidence.verdict is Verdict.BOOTED, evidence.reason + evidence.serial[-2000:]
    assert evidence.root_device == "/dev/vda1"
