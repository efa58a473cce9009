from __future__ import annotations

from pathlib import Path

import pytest

from imgconv import osinfo
from imgconv.machine import choose
from imgconv.model import (
    Bus,
    Capabilities,
    Disk,
    Firmware,
    Inspection,
    LinuxOs,
    Machine,
    WindowsOs,
)


@pytest.mark.parametrize(("distro", "version", "expected"), [
    ("debian", "12.5", "debian12"), ("debian", "12", "debian12"),
    ("ubuntu", "22.04", "ubuntu22.04"),
    ("rhel", "9.4", "rhel9.4"), ("centos", "7", "centos7"), ("fedora", "40", "fedora40"),
    ("rocky", "9.3", "rocky9"), ("sles", "15.5", "sles15sp5"), ("sles", "12.0", "sles12"),
    ("opensuse-leap", "15.5", "opensuse15.5"), ("oraclelinux", "8.9", "ol8.9"),
    ("alpine", "3.19.1", "alpinelinux3.19"), ("arch", "", "archlinux"), ("gentoo", "x", "gentoo"),
    ("", "1", ""), ("a b", "1", ""), ("x" * 99, "1", ""), ("$(id)", "", ""),
])
def test_short_ids_of_linux(distro: str, version: str, expected: str) -> None:
    assert osinfo.short_id(LinuxOs(distro, "", version)) == expected


@pytest.mark.parametrize(("version", "client", "server"), [
    ("5.0.2195", "win2k", "win2k"), ("5.1.2600", "winxp", "winxp"),
    ("5.2.3790", "winxp", "win2k3"), ("6.0.6002", "winvista", "win2k8"),
    ("6.1.7601", "win7", "win2k8r2"), ("6.2.9200", "win8", "win2k12"),
    ("6.3.9600", "win8.1", "win2k12r2"), ("10.0.14393", "win10", "win2k16"),
    ("10.0.17763", "win10", "win2k19"), ("10.0.20348", "win10", "win2k22"),
    ("10.0.22631", "win11", "win2k22"), ("10.0.26100", "win11", "win2k25"),
    ("10.0", "win10", "win2k16"), ("11.0.1", "", ""), ("4.0.1381", "", ""),
    ("", "", ""), ("9" * 5000, "", ""), ("x.y", "", ""),
])
def test_short_ids_of_windows(version: str, client: str, server: str) -> None:
    assert osinfo.short_id(WindowsOs("", version)) == client
    assert osinfo.short_id(WindowsOs("", version, server=True)) == server


def machine(system: LinuxOs | WindowsOs, facts: osinfo.Facts | None, *,
            memory: int | None = None, firmware: Firmware = Firmware.BIOS,
            bus: Bus = Bus.VIRTIO_BLK) -> Machine:
    return choose(Inspection("/dev/sda1", "x86_64", firmware, (), (), system), Capabilities(bus),
                  (Disk(Path("/images/d.qcow2"), "qcow2"),), name="d", memory=memory, facts=facts)


def facts(memory: int = 0, *, q35: bool = True, virtio_1_0: bool = True) -> osinfo.Facts:
    return osinfo.Facts("x", memory, q35, virtio_1_0)


LINUX = LinuxOs("debian", "Debian", "12")
WINDOWS = WindowsOs("Windows 10", "10.0.19045")


def test_machines_say_their_system() -> None:
    assert machine(LINUX, None).os == "debian12"
    assert machine(WINDOWS, None).os == "win10"


def test_facts_raise_the_memory_and_never_lower_it() -> None:
    assert machine(LINUX, None).memory == machine(LINUX, facts(128)).memory == 2048
    assert machine(LINUX, facts(3072)).memory == 3072
    assert machine(LINUX, facts(3072), memory=256).memory == 256


@pytest.mark.parametrize("old", [facts(q35=False), facts(virtio_1_0=False)])
def test_facts_choose_the_chipset(old: osinfo.Facts) -> None:
    assert machine(LINUX, None).machine_type == machine(LINUX, facts()).machine_type == "q35"
    assert machine(LINUX, old).machine_type == "pc"
    # But a bus has its chipset, UEFI is at home on q35, Windows' drivers are not Windows' own.
    assert machine(LINUX, old, bus=Bus.SATA).machine_type == "q35"
    assert machine(LINUX, old, firmware=Firmware.UEFI).machine_type == "q35"
    assert machine(WINDOWS, old).machine_type == "q35"
