"""A guest with nothing in it as it should be, looked at through the real appliance."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgconv import host
from imgconv.disk.formats import open_image
from imgconv.errors import GuestFileMissing, HostileInput, ImgconvError
from imgconv.guest import appliance
from imgconv.guest.appliance import Appliance
from imgconv.guest.cached import Cached
from imgconv.guest.inspection import inspect
from imgconv.guest.protocols import NAMES_LIMIT
from imgconv.linux import fstab
from imgconv.linux.initramfs import read as read_initramfs
from imgconv.model import Mount
from tests.guests import COMPRESS
from tests.host.disk.images import WRITABLE_FORMATS
from tests.host.disk.test_formats import BAD_IMAGES, VERDICTS, unpack

BOMB = 200 << 20


@pytest.fixture(scope="module")
def hostile_disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A filesystem with what no guest should have, as far as mke2fs can make it."""
    folder = tmp_path_factory.mktemp("hostile")
    tree = folder / "tree"
    for name in ("etc", "boot", "many"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/fstab").write_bytes(b"/dev/sda1 /a\xff\x1b[31m ext4 x 0 0\n" * 40_000)
    os.mkfifo(tree / "etc/fifo")
    os.mknod(tree / "etc/socket", stat.S_IFSOCK | 0o600)
    for name, target in (("device", "/dev/sda"), ("loop", "loop"), ("tty", "/dev/console"),
                         ("out", "../../../../../../proc/self/environ"), ("a", "b"), ("b", "a")):
        (tree / "etc" / name).symlink_to(target)
    (tree / "out").symlink_to("/tmp")  # a mount point that leads out of the guest's root
    (tree / "tmp").mkdir()
    with (tree / "etc/huge").open("wb") as file:
        file.truncate(1 << 40)
    for number in range(NAMES_LIMIT + 1):
        (tree / f"many/{number}").touch()
    (tree / "odd\n\x1b[2J").write_bytes(b"x")
    zeros = bytes(BOMB)
    for kind, pack in COMPRESS.items():
        if kind != "cpio":
            (tree / f"boot/{kind}").write_bytes(pack(zeros))
    disk = folder / "disk.img"
    with disk.open("wb") as file:
        file.truncate(128 << 20)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", tree, disk], check=True)
    return disk


@pytest.fixture(scope="module")
def guest(hostile_disk: Path) -> Iterator[Appliance]:
    with appliance.launch([open_image(hostile_disk, writable=True)], writable=True,
                          tcg=not host.kvm_usable().usable) as running:
        running.mount([Mount("/dev/sda", "/")], writable=True)
        yield running


@pytest.mark.parametrize("name", ["fifo", "socket", "device", "loop", "tty", "out", "a"])
def test_what_is_no_file_is_not_read(guest: Appliance, name: str) -> None:
    assert guest.size(f"/etc/{name}") is None
    with pytest.raises(GuestFileMissing):
        guest.read(f"/etc/{name}")


def test_sizes_are_limited(guest: Appliance) -> None:
    with pytest.raises(HostileInput, match="1,099,511,627,776 bytes large"):
        guest.read("/etc/huge")
    with pytest.raises(HostileInput, match="more than such a file can be"):
        list(fstab.lines(guest))
    with pytest.raises(HostileInput, match="more than 4,096 names"):
        guest.names("/many")
    assert "odd\n\x1b[2J" in guest.names("/")


@pytest.mark.parametrize("kind", [kind for kind in COMPRESS if kind != "cpio"])
def test_bombs(guest: Appliance, kind: str) -> None:
    with pytest.raises(HostileInput, match=r"more than|no entry"):
        read_initramfs(Cached(guest), (f"/boot/{kind}",))


def test_a_mount_point_stays_in_the_guest(guest: Appliance) -> None:
    """Followed by the appliance's own mount, /out would be the appliance's /tmp."""
    guest.mount([Mount("/dev/sda", "/out")], writable=True)
    assert guest.is_dir("/tmp/boot")
    guest.call("umount", "/tmp")


def test_no_space_in_the_guest(guest: Appliance) -> None:
    with pytest.raises(ImgconvError, match="no space left") as caught:
        guest.write("/etc/full", b"y" * (200 << 20), 0o600)
    assert "make room" in caught.value.hint
    guest.call("rm_f", "/etc/full")


@pytest.mark.skipif(not BAD_IMAGES.is_dir(), reason="the shared test data is not here")
def test_odd_images_that_open_hold_no_system(tmp_path: Path) -> None:
    images = []
    for name, verdict in VERDICTS.items():
        if verdict in WRITABLE_FORMATS:
            path = tmp_path / name
            unpack(BAD_IMAGES / f"{name}.bz2", path)
            images.append(open_image(path, writable=False))
    assert images
    with pytest.raises(ImgconvError) as caught, \
            appliance.launch(images, writable=False, tcg=not host.kvm_usable().usable) as running:
        inspect(running)
    assert "no operating system" in caught.value.message
