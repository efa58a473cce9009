"""osinfo-db itself, through libosinfo; skipped where they are not installed."""

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

DISKS = (Disk(Path("/images/d.qcow2"), "qcow2"),)


def inspection(system: LinuxOs | WindowsOs, firmware: Firmware = Firmware.BIOS) -> Inspection:
    return Inspection("/dev/sda1", "x86_64", firmware, (), (), system)


def machine(system: LinuxOs | WindowsOs, *, memory: int | None = None,
            firmware: Firmware = Firmware.BIOS) -> Machine:
    found = inspection(system, firmware)
    return choose(found, Capabilities(Bus.VIRTIO_BLK), DISKS, name="d", memory=memory,
                  facts=osinfo.lookup(found))


@pytest.fixture(autouse=True)
def _installed() -> None:
    if osinfo.lookup(inspection(LinuxOs("fedora", "", "30"))) is None:
        pytest.skip("libosinfo and its database are not installed")


@pytest.mark.parametrize(("system", "q35", "virtio_1_0"), [
    (LinuxOs("debian", "", "6.0"), False, False),
    (LinuxOs("debian", "", "11.5"), True, True),
    (LinuxOs("rhel", "", "5.11"), False, False),
    (LinuxOs("ubuntu", "", "20.04"), True, True),
    (WindowsOs("", "5.1.2600"), False, False),
    (WindowsOs("", "6.1.7601", server=True), True, False),
    (WindowsOs("", "10.0.19045"), True, False),
])
def test_chipset_and_virtio(system: LinuxOs | WindowsOs, q35: bool, virtio_1_0: bool) -> None:
    facts = osinfo.lookup(inspection(system))
    assert facts is not None
    assert (facts.q35, facts.virtio_1_0) == (q35, virtio_1_0)


def test_point_releases_that_the_database_has_not() -> None:
    facts = osinfo.lookup(inspection(LinuxOs("centos", "", "7.99")))
    assert facts is not None
    assert facts.short_id == "centos7.0"


@pytest.mark.parametrize("system", [LinuxOs("no-such-linux", "", "1"), LinuxOs("\n", "", ""),
                                    WindowsOs("", "99.9"), WindowsOs("")])
def test_unknown_systems(system: LinuxOs | WindowsOs) -> None:
    assert osinfo.lookup(inspection(system)) is None


def test_memory_is_never_less_than_the_database_asks_for() -> None:
    small = osinfo.lookup(inspection(LinuxOs("debian", "", "6.0")))
    assert small is not None
    assert 0 < small.memory < 2048
    assert machine(LinuxOs("debian", "", "6.0")).memory == 2048
    assert machine(LinuxOs("debian", "", "6.0"), memory=64).memory == 64


def test_the_chipset_follows_the_database() -> None:
    assert machine(LinuxOs("rhel", "", "5.11")).machine_type == "pc"
    assert machine(LinuxOs("rhel", "", "8.4")).machine_type == "q35"
    # The old ones that start by UEFI keep the chipset that UEFI is at home on.
    assert machine(LinuxOs("rhel", "", "5.11"), firmware=Firmware.UEFI).machine_type == "q35"


def test_every_windows_has_a_short_id_that_the_database_knows() -> None:
    names = {name for pair in osinfo._WINDOWS.values() for name in pair}
    names |= {name for table in (osinfo._CLIENTS, osinfo._SERVERS) for _, name in table}
    database = osinfo._database()
    assert database is not None
    assert names - set(database) <= {"win2k25"}  # younger than Debian 12's database
