"""A machine that starts a kernel itself: some outputs can say so, the others refuse it."""

from __future__ import annotations

import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from imgconv.emit import Emitter, incus, kubevirt, libvirt, openstack, proxmox, qemu
from imgconv.errors import CannotConvert
from imgconv.model import DirectBoot

from .machines import MACHINES, check_golden, needs_shellcheck, shellcheck
from .test_libvirt import needs_validator, validate

LINE = "root=UUID=1234 ro console=ttyS0"
DIRECT = replace(MACHINES["linux"], direct=DirectBoot(
    Path("/images/web.qcow2.vmlinuz"), Path("/images/web.qcow2.initrd"), LINE))


def test_golden() -> None:
    check_golden(qemu, "linux-direct", qemu.emit(DIRECT))
    check_golden(libvirt, "linux-direct", libvirt.emit(DIRECT))


@needs_shellcheck
def test_the_script_is_right() -> None:
    shellcheck(qemu.emit(replace(DIRECT, direct=DirectBoot(
        Path("/images/a b$(x).vmlinuz"), None, "root=/dev/vda quiet='$(x)'"))))


def test_qemu_takes_each_as_one_word() -> None:
    words = qemu.argv(replace(DIRECT, direct=DirectBoot(Path("/a,b c"), Path("/d,,e"), LINE)),
                      accel="tcg")
    at = words.index("-kernel")
    assert words[at:at + 6] == ("-kernel", "/a,b c", "-initrd", "/d,,e", "-append", LINE)


def test_without_an_initramfs() -> None:
    machine = replace(DIRECT, direct=DirectBoot(Path("/k"), None, LINE))
    assert "-initrd" not in qemu.argv(machine, accel="tcg")
    system = ET.fromstring(libvirt.emit(machine)).find("os")
    assert system is not None
    assert [element.tag for element in system] == ["type", "kernel", "cmdline"]


@needs_validator
@pytest.mark.parametrize("name", ["linux", "linux-arm", "linux-uefi-scsi"])
def test_libvirt_validates(tmp_path: Path, name: str) -> None:
    done = validate(libvirt.emit(replace(MACHINES[name], direct=DIRECT.direct)), tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("emitter", [proxmox, kubevirt, openstack, incus])
def test_the_others_refuse(emitter: Emitter) -> None:
    emitter.emit(MACHINES["linux"])
    with pytest.raises(CannotConvert, match="boot loader") as caught:
        emitter.emit(DIRECT)
    assert "qemu" in caught.value.hint


def test_qemu_really_takes_a_comma_in_a_name(tmp_path: Path) -> None:
    """QEMU says of a file that is missing what it took for its name."""
    kernel = tmp_path / "kernel"
    kernel.write_bytes(b"\0" * 0x202 + b"HdrS" + b"\x0f\x02" + b"\0" * 8192)
    disk = tmp_path / "disk.raw"
    disk.write_bytes(b"\0" * 512)
    initrd = tmp_path / "no,such"
    machine = replace(
        DIRECT, direct=DirectBoot(kernel, initrd, LINE), nics=(),
        disks=(replace(DIRECT.disks[0], path=disk, format="raw"),))
    done = subprocess.run([*qemu.argv(machine, accel="tcg"), "-S"], check=False,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode != 0
    assert str(initrd) in done.stderr
