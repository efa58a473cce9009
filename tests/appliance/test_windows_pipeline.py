"""Whole conversions of Windows guests on real NTFS disks, BIOS and UEFI, through the appliance."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from imgconv import host
from imgconv.disk.formats import open_image
from imgconv.guest import appliance
from imgconv.guest.inspection import inspect
from imgconv.model import Bus, Firmware, Level, SetRegistry, WriteFile
from imgconv.pipeline import proof
from imgconv.windows import registry
from tests import windows_disks, windows_payloads
from tests.appliance.test_pipeline import content, imgconv
from tests.windows_data import SAMPLE_ISO, needs_data
from tests.windows_disks import Volume
from tests.windows_guests import RELEASES, WindowsTree

Disk = Callable[[WindowsTree], Path]


def _payload(folder: Path) -> Path:
    return windows_payloads.write(folder, windows_payloads.tree({
        "viostor/w10/amd64": windows_payloads.package()}))


def test_windows_11_on_uefi(windows_disk: Disk, tmp_path: Path) -> None:
    disk = windows_disk(WindowsTree(RELEASES["11"], Firmware.UEFI))
    before = content(disk)
    payload = _payload(tmp_path / "payload")

    none = imgconv("virtio-ize", disk, "--drivers", tmp_path / "missing")
    assert none.returncode == 1
    assert content(disk) == before

    dry = imgconv("virtio-ize", disk, "--dry-run", "--drivers", payload)
    assert dry.returncode == 0, dry.stderr
    assert '+"Start"=dword:00000000' in dry.stdout.replace("'", '"')
    assert content(disk) == before

    done = imgconv("virtio-ize", disk, "--drivers", payload, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["committed"]
    assert report["machine"]["bus"] == "virtio-blk"
    assert report["machine"]["tpm"]
    _break_on_disk(disk)

    undone = imgconv("undo", disk, "--force")
    assert undone.returncode == 0, undone.stderr
    unready = imgconv("verify", disk)
    assert unready.returncode == 4, unready.stderr


def _break_on_disk(disk: Path) -> None:
    """In one appliance: what was written is protected, proven, and not any more when broken."""
    image = open_image(disk, writable=True)
    with appliance.launch([image], writable=True, tcg=not host.kvm_usable().usable) as guest:
        inspection = inspect(guest)
        guest.mount(inspection.mounts, writable=True)
        assert _failed_now(guest, inspection) == set()
        drivers = "/c/Windows/System32/drivers"
        rights = guest.call("getxattr", drivers, "system.ntfs_acl")
        assert guest.call("getxattr", f"{drivers}/viostor.sys", "system.ntfs_acl") == rights
        system = "/c/Windows/System32/config/SYSTEM"
        key = r"ControlSet001\Services\viostor"
        for start, broken in ((3, {"virtio-blk: Start"}), (0, set())):
            guest.edit_registry(system, [SetRegistry(
                system, key, (registry.dword("Start", start),), "")])
            assert _failed_now(guest, inspection) == broken
        driver = guest.read(f"{drivers}/viostor.sys")
        guest.call("rm", f"{drivers}/viostor.sys")
        assert "virtio-blk: driver file" in _failed_now(guest, inspection)
        guest.create([WriteFile(f"{drivers}/viostor.sys", driver, None, "")])
        assert _failed_now(guest, inspection) == set()


def _failed_now(guest: appliance.Appliance, inspection: object) -> set[str]:
    return {finding.subject for finding in proof(guest, inspection, Bus.VIRTIO_BLK)  # type: ignore[arg-type]
            if finding.level is Level.FAILED}


@needs_data
@pytest.mark.parametrize(("name", "firmware"), [
    ("7-x86", Firmware.BIOS), ("8.1", Firmware.BIOS), ("10", Firmware.UEFI)])
def test_real_registries_and_drivers(windows_disk: Disk, name: str, firmware: Firmware) -> None:
    disk = windows_disk(WindowsTree(RELEASES[name], firmware, real=True, dirty=name == "10"))
    done = imgconv("virtio-ize", disk, "--drivers", SAMPLE_ISO, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["machine"]["bus"] == "virtio-blk"
    again = imgconv("virtio-ize", disk, "--drivers", SAMPLE_ISO)
    assert again.returncode == 0, again.stderr
    assert "nothing to do" in again.stderr


def test_without_drivers_for_it_xp_stays_on_ide(tmp_path: Path) -> None:
    tree = WindowsTree(RELEASES["xp"], controller="ide")
    disk = windows_disks.image(tree, tmp_path, fmt="qcow2", volume=Volume(heads=16))
    done = imgconv("virtio-ize", disk, "--drivers", _payload(tmp_path / "payload"))
    assert done.returncode == 0, done.stderr
    assert "so its disks stay on ide" in done.stderr
    assert "patch /dev/sda1" in done.stderr


@pytest.mark.parametrize(("volume", "tree", "says"), [
    (Volume(bitlocker=True), {}, "BitLocker"), (Volume(dynamic=True), {}, "dynamic disk"),
    (Volume(dirty=True), {}, "chkdsk"), (None, {"hibernated": True}, "hibernat")])
def test_what_cannot_be_converted_is_refused(tmp_path: Path, volume: Volume | None,
                                             tree: dict[str, bool], says: str) -> None:
    made = WindowsTree(RELEASES["10"], hibernated=tree.get("hibernated", False))
    disk = windows_disks.image(made, tmp_path, fmt="qcow2", volume=volume)
    before = content(disk)
    payload = _payload(tmp_path / "payload")
    refused = imgconv("virtio-ize", disk, "--drivers", payload)
    assert refused.returncode == 3, refused.stderr
    assert says in refused.stderr
    assert "hint" in refused.stderr
    assert content(disk) == before
    if tree:
        done = imgconv("virtio-ize", disk, "--drivers", payload, "--discard-hibernation")
        assert done.returncode == 0, done.stderr
