"""Editing registry hives inside the appliance, on NTFS, as `FakeGuest` does it with hivex."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from imgconv import host
from imgconv.disk.formats import open_image
from imgconv.errors import ImgconvError
from imgconv.guest import appliance
from imgconv.guest.appliance import Appliance
from imgconv.model import DeleteRegistryKey, RegistryValue, SetRegistry, WriteFile
from imgconv.windows import hives, registry
from imgconv.windows.edits import Edits
from imgconv.windows.hives import check
from tests.fake_guest import FakeGuest
from tests.hives import make_hive
from tests.registry_compare import differences
from tests.windows_data import hive, needs_data

CONFIG = "/Windows/System32/config"
MADE = make_hive({"Select": {"Current": 1}, "A\\B\\C": {"x": 1}, "A\\D": {"": "y"}})


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """An NTFS with a folder for hives."""
    disk = tmp_path_factory.mktemp("registry") / "disk.img"
    with disk.open("wb") as file:
        file.truncate(96 << 20)
    image = open_image(disk, writable=True)
    with appliance.launch([image], writable=True, tcg=not host.kvm_usable().usable) as running:
        running.call("mkfs", "ntfs", "/dev/sda")
        running.call("mount", "/dev/sda", "/")
        running.call("mkdir_p", CONFIG)
        yield running


def put(path: str, key: str, *values: RegistryValue) -> SetRegistry:
    return SetRegistry(path, key, values, "")


def test_edits_are_those_of_the_fake_guest(guest: Appliance) -> None:
    path = f"{CONFIG}/MADE"
    edits: list[SetRegistry | DeleteRegistryKey] = [
        put(path, "a\\b\\c", RegistryValue("", 1, b"d\0\0\0"), registry.dword("X", 2),
            RegistryValue("odd", 0xFFFF0013, b"x" * 16), RegistryValue("é日", 7, b""),
            RegistryValue("large", 3, bytes(range(256)) * 63)),
        *(put(path, f"New\\{number * 7919 % 101:03}\\_") for number in range(101)),
        DeleteRegistryKey(path, "A\\d", ""), DeleteRegistryKey(path, "not\\there", ""),
        put(path, "A\\D\\E")]
    fake = FakeGuest({path: MADE})
    fake.edit_registry(path, edits)
    guest.write(path, MADE, 0o644)
    guest.edit_registry(path, edits)
    found = guest.read(path)
    assert check(found) == ()
    assert found == fake.files[path]


def test_what_cannot_be_edited_is_left_alone(guest: Appliance) -> None:
    path = f"{CONFIG}/ODD"
    guest.write(path, MADE, 0o644)
    for edit in (put(path, "A\\\\B"), put(path, "A\\Ä"),
                 put(path, "A", registry.binary("x", bytes(20_000)))):
        with pytest.raises(ImgconvError, match=f"{path} cannot be edited") as caught:
            guest.edit_registry(path, [put(path, "Good"), edit])
        assert caught.value.hint
        assert guest.read(path) == MADE
    guest.write(path, b"regf" * 4096, 0o644)
    with pytest.raises(ImgconvError, match=f"{path} cannot be edited"):
        guest.edit_registry(path, [put(path, "Good")])


def test_names_in_any_letter_case(guest: Appliance) -> None:
    guest.write(f"{CONFIG}/SYSTEM.LOG1", b"1", 0o644)
    assert guest.find("/windows/SYSTEM32/Config/system.log1") == f"{CONFIG}/SYSTEM.LOG1"
    assert guest.find("/WINDOWS") == "/Windows"
    assert guest.find("/windows/system32/nothing") is None
    assert guest.find("/nothing/system32") is None
    guest.call("rm", f"{CONFIG}/SYSTEM.LOG1")


@needs_data
def test_a_real_dirty_hive(guest: Appliance) -> None:
    """Its logs are replayed, it is edited, and then nothing is left to do."""
    name, path = "SYSTEM-win10-1709-x64", f"{CONFIG}/SYSTEM"
    files = {path: hive(name), f"{path}.LOG1": hive(f"{name}.LOG1"),
             f"{path}.LOG2": hive(f"{name}.LOG2")}
    for file, content in files.items():
        guest.write(file, content, 0o644)
    loaded = hives.load(guest, path)
    edits = Edits(loaded.hive, path)
    ids = "DriverDatabase\\DeviceIds\\PCI"
    for number in range(10):
        edits.set(f"{ids}\\VEN_1AF4&DEV_{number:04X}", [registry.binary("oem9.inf", b"\1")], "")
    edits.delete("ControlSet001\\Services\\atapi\\StartOverride", "")
    changes = loaded.finish(edits.changes())
    fake = FakeGuest(files)
    for target in (guest, fake):
        for change in changes:
            if isinstance(change, WriteFile):
                target.write(change.path, change.content, change.mode)
        target.edit_registry(path, edits.changes())
    found = guest.read(path, 1 << 30)
    assert found == fake.read(path, 1 << 30)
    assert check(found) == ()
    assert len(differences(loaded.data, found)) == 11
    again = hives.load(guest, path)
    assert (again.changes, again.neutralise, again.warnings) == ((), (), ())
    assert again.hive.key(f"{ids}\\ven_1af4&dev_0009") is not None
