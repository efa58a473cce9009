"""The real appliance as a Reader and as a Guest: what planners rely on."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from imgconv import host
from imgconv.disk.formats import open_image
from imgconv.errors import GuestFileMissing, HostileInput, ImgconvError
from imgconv.guest import appliance
from imgconv.guest.appliance import Appliance
from imgconv.guest.inspection import inspect
from imgconv.model import Firmware, Inspection, Mount


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """A small filesystem in an appliance, with things in it that no guest should have."""
    folder = tmp_path_factory.mktemp("appliance")
    disk = folder / "disk.img"
    with disk.open("wb") as file:
        file.truncate(64 << 20)
    tree = folder / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "etc/fstab").write_bytes(b"# caf\xe9\n")
    (tree / "etc/large").write_bytes(b"x" * (5 << 20))
    for name, target in (("device", "/dev/sda"), ("loop", "loop"), ("up", "../../../etc/fstab"),
                         ("absolute", "/etc/fstab"), ("dangling", "nowhere"), ("folder", "/etc")):
        (tree / "etc" / name).symlink_to(target)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, disk], check=True)
    image = open_image(disk, writable=True)
    with appliance.launch([image], writable=True, tcg=not host.kvm_usable().usable) as running:
        running.mount([Mount("/dev/sda", "/")], writable=True)
        yield running


def test_reading(guest: Appliance) -> None:
    assert guest.read("/etc/fstab") == b"# caf\xe9\n"
    assert guest.read("/etc/large") == b"x" * (5 << 20)
    assert guest.read_range("/etc/large", (5 << 20) - 2, 10) == b"xx"
    assert guest.is_dir("/etc")
    assert not guest.is_dir("/etc/fstab")
    assert "fstab" in guest.names("/etc")
    assert guest.names("/nowhere") == ()
    with pytest.raises(GuestFileMissing, match="/nowhere"):
        guest.read("/nowhere")
    with pytest.raises(HostileInput, match="larg"):
        guest.read("/etc/large", limit=1 << 20)


@pytest.mark.parametrize("name", ["up", "absolute"])
def test_links_stay_in_the_guest(guest: Appliance, name: str) -> None:
    assert guest.read(f"/etc/{name}") == b"# caf\xe9\n"


@pytest.mark.parametrize("name", ["device", "loop", "dangling", "folder"])
def test_only_regular_files_are_read(guest: Appliance, name: str) -> None:
    """/etc/fstab as a link to a disk must not make us read a disk."""
    assert guest.size(f"/etc/{name}") is None
    with pytest.raises(GuestFileMissing):
        guest.read(f"/etc/{name}")


def test_writing(guest: Appliance) -> None:
    content = bytes(range(256)) * (20 << 10)
    guest.write("/etc/new", content[:100], 0o600)
    guest.append("/etc/new", content[100:])
    assert guest.read("/etc/new") == content
    guest.write("/etc/new", b"short", 0o644)
    assert guest.read("/etc/new") == b"short"
    assert guest.call("statns", "/etc/new")["st_mode"] & 0o777 == 0o600
    with pytest.raises(ImgconvError, match="No space left"):
        guest.write("/etc/full", b"y" * (80 << 20), 0o600)


def test_reading_again(guest: Appliance) -> None:
    guest.write("/etc/marker", b"on the disk", 0o644)
    guest.reread([Mount("/dev/sda", "/")])
    assert guest.read("/etc/marker") == b"on the disk"
    with pytest.raises(ImgconvError, match="Read-only"):
        guest.write("/etc/marker", b"no", 0o644)


def test_quick_inspection_agrees_with_libguestfs(legacy_guest: Path) -> None:
    image = open_image(legacy_guest, writable=False)
    with appliance.launch([image], writable=False,
                          tcg=not host.kvm_usable().usable) as running:
        found: Inspection = inspect(running)
        assert running.call("inspect_os") == [found.root]
        assert running.call("inspect_get_arch", found.root) == found.arch
        assert running.call("inspect_get_distro", found.root) == "debian"
        mounts: dict[str, str] = running.call("inspect_get_mountpoints", found.root)
        assert {mount.path: mount.device for mount in found.mounts} == mounts
    assert found.firmware is Firmware.BIOS


def test_data_disks(legacy_guest: Path, copy_of: Callable[[Path], Path], tmp_path: Path) -> None:
    """Several disks are one guest: each name is found by the order of the disks."""
    from tests.appliance.test_pipeline import imgconv

    disk, data = copy_of(legacy_guest), tmp_path / "data.img"
    with data.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", data], check=True)
    with appliance.launch([open_image(disk, writable=True)], writable=True,
                          tcg=not host.kvm_usable().usable) as running:
        running.mount([Mount("/dev/sda1", "/")], writable=True)
        running.append("/etc/fstab", b"/dev/sdb /srv ext4 defaults 0 2\n")

    alone = imgconv("virtio-ize", disk)
    assert alone.returncode == 4, alone.stderr
    assert "/dev/sdb" in alone.stderr
    both = imgconv("virtio-ize", disk, data, "--names", "device", "-o", tmp_path / "out")
    assert both.returncode == 2, both.stderr
    (tmp_path / "out").mkdir()
    both = imgconv("virtio-ize", disk, data, "--names", "device", "-o", tmp_path / "out", "--json")
    assert both.returncode == 0, both.stderr
    assert "+/dev/vdb /srv ext4 defaults 0 2" in both.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "data.qcow2", "disk.qcow2", "disk.qcow2.qemu.sh"]
    script = (tmp_path / "out/disk.qcow2.qemu.sh").read_text()
    assert script.count("virtio-blk-pci") == 2
