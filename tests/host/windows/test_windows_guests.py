"""The Windows guests that other tests stand on are what they claim to be."""

from __future__ import annotations

from uuid import UUID

import pefile
import pytest

from imgconv.model import Firmware
from imgconv.windows import control_sets, versions
from imgconv.windows.registry import Hive
from tests import windows_hives, windows_pe
from tests.windows_data import needs_data
from tests.windows_guests import MIB, RELEASES, WindowsTree

ALL = pytest.mark.parametrize("name", RELEASES)
MACHINES = {"x86": 0x14C, "amd64": 0x8664}


def system(tree: WindowsTree) -> Hive:
    return Hive(tree.files()[tree.hive("SYSTEM")])


@pytest.mark.parametrize("arch", windows_pe.MACHINES)
@pytest.mark.parametrize("libraries", [(), ("ntoskrnl.exe",), ("ntoskrnl.exe", "storport.sys")])
def test_pe_files_are_valid(arch: str, libraries: tuple[str, ...]) -> None:
    for content in (windows_pe.driver(arch, *libraries), windows_pe.program(arch, *libraries),
                    windows_pe.library(arch, *libraries)):
        file = pefile.PE(data=content)
        assert file.FILE_HEADER.Machine == windows_pe.MACHINES[arch]
        assert file.verify_checksum()
        imported = getattr(file, "DIRECTORY_ENTRY_IMPORT", [])
        assert [entry.dll.decode() for entry in imported] == list(libraries)
        assert all(entry.imports[0].name == b"Something" for entry in imported)
    assert pefile.PE(data=windows_pe.driver(arch, "HAL.dll")).is_driver()
    assert pefile.PE(data=windows_pe.program(arch)).is_exe()
    assert pefile.PE(data=windows_pe.library(arch)).is_dll()


@ALL
def test_every_boot_driver_has_its_file_and_what_that_imports(name: str) -> None:
    tree = WindowsTree(RELEASES[name])
    guest, inspection = tree.build()
    hive = system(tree)
    services = hive.key(rf"{control_sets.current(hive)}\Services")
    assert services is not None
    images = [image for service in services.subkeys() if service.number("Start") == 0
              and (image := service.text("ImagePath"))]
    assert len(images) > 10
    arch = versions.of(inspection).arch
    for image in images:
        path = guest.find(f"/c{tree.root}/{image}".replace("\\", "/"))
        assert path is not None, image
        file = pefile.PE(data=guest.read(path))
        assert file.FILE_HEADER.Machine == MACHINES[arch]
        for entry in file.DIRECTORY_ENTRY_IMPORT:
            library = entry.dll.decode()
            assert any(guest.find(f"/c{folder}/{library}")
                       for folder in (tree.system32, tree.drivers)), (image, library)


@ALL
def test_the_registry_says_what_it_is(name: str) -> None:
    release = RELEASES[name]
    guest, inspection = WindowsTree(release).build()
    path = guest.find("/c/windows/system32/config/software")
    assert path is not None
    key = Hive(guest.read(path)).key(r"Microsoft\Windows NT\CurrentVersion")
    assert key is not None
    assert key.text("ProductName") == release.product
    assert key.text("CurrentBuild") == str(release.version[2])
    assert key.text("SystemRoot") == rf"C:\{release.folder}"
    found = versions.of(inspection)
    assert (found.major, found.minor, found.build) == release.version
    assert (found.arch, found.server) == (release.arch, release.server)


@ALL
def test_how_boot_devices_are_found(name: str) -> None:
    """By the DriverDatabase since Windows 8, by the CriticalDeviceDatabase before."""
    tree = WindowsTree(RELEASES[name])
    hive = system(tree)
    assert control_sets.names(hive) == windows_hives.control_sets(tree.release)
    old = hive.key(r"ControlSet001\Control\CriticalDeviceDatabase\PCI#CC_0101")
    new = hive.key(r"DriverDatabase\DeviceIds\PCI\CC_0101")
    assert (old is None, new is None) == ((True, False) if tree.release.driver_database
                                          else (False, True))
    assert (tree.hive("DRIVERS") in tree.files()) == tree.release.driver_database


@pytest.mark.parametrize("name", [name for name, release in RELEASES.items()
                                  if release.driver_database])
def test_the_driver_database_is_consistent(name: str) -> None:
    tree = WindowsTree(RELEASES[name])
    for hive in (system(tree), Hive(tree.files()[tree.hive("DRIVERS")])):
        packages = hive.key(r"DriverDatabase\DriverPackages")
        assert packages is not None
        for package in packages.subkeys():
            inf = hive.key(rf"DriverDatabase\DriverInfFiles\{package.text('')}")
            assert inf is not None
            assert inf.strings("") == (package.name,)
            version = package.value("Version")
            assert version is not None
            assert len(version.data) == 48
            descriptors = package.key("Descriptors")
            assert descriptors is not None
            leaves = [(path, key) for path, key in descriptors.walk() if key.values()]
            assert leaves
            for path, key in leaves:
                identifier = hive.key(rf"DriverDatabase\DeviceIds\{path}")
                assert identifier is not None
                assert identifier.value(str(package.text(""))) is not None
                assert package.key(rf"Configurations\{key.text('Configuration')}") is not None


@pytest.mark.parametrize(("controller", "starts"), [("ide", {"intelide", "atapi"}),
                                                    ("sata", {"storahci"}), ("sas", {"LSI_SAS"})])
def test_only_the_drivers_of_its_controller_start(controller: str, starts: set[str]) -> None:
    hive = system(WindowsTree(RELEASES["10"], controller=controller))
    key = hive.key(r"ControlSet001\Services")
    assert key is not None
    storage = {"intelide", "atapi", "pciide", "storahci", "stornvme", "lsi_sas"}
    found = {service.name for service in key.subkeys() if service.name.lower() in storage
             and service.key("StartOverride") is None}
    assert found == starts


def test_variations() -> None:
    tree = WindowsTree(RELEASES["10"], hibernated=True, dirty=True, extra={"/x": b"y"},
                       control_set=windows_hives.static_address())
    files = tree.files()
    assert files["/hiberfil.sys"][:4] == b"hibr"
    assert files["/x"] == b"y"
    hive = system(tree)
    assert hive.dirty
    assert hive.checksum_right
    interface = hive.key(r"ControlSet001\Services\Tcpip\Parameters\Interfaces"
                         rf"\{windows_hives.INTERFACE}")
    assert interface is not None
    assert interface.number("EnableDHCP") == 0
    assert interface.strings("IPAddress") == ("192.0.2.10",)
    assert not system(WindowsTree(RELEASES["10"])).dirty


@needs_data
@pytest.mark.parametrize("name", [name for name, release in RELEASES.items() if release.real])
def test_real_hives(name: str) -> None:
    tree = WindowsTree(RELEASES[name], real=True)
    hive = system(tree)
    assert not hive.dirty
    dirty = WindowsTree(RELEASES[name], real=True, dirty=True)
    assert system(dirty).dirty == (name != "7-x86")
    logs = [path for path, content in dirty.files().items() if "SYSTEM.LOG" in path and content]
    assert len(logs) == (2 if name == "10" else 0)


@needs_data
def test_a_disk_is_made_as_the_real_hive_knows_it() -> None:
    """Else libguestfs would not find out which drive is C:."""
    old = WindowsTree(RELEASES["8.1"], real=True)
    assert (old.disk_id, old.offset) == (0x273E4CFE, 351 * MIB)
    new = WindowsTree(RELEASES["10"], Firmware.UEFI, real=True)
    assert new.partition_guid == UUID("09931f21-7faf-44a9-81d8-1e73c14b9eaf")
