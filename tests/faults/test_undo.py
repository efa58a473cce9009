"""Undo: bit for bit, only when it is safe, and found wherever the disk is."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgconv.disk import journal, state
from imgconv.disk.commit import commit, fingerprint
from imgconv.disk.formats import open_image
from imgconv.disk.overlay import create
from imgconv.disk.undo import Undone, undo
from imgconv.errors import ImgconvError, UsageError
from imgconv.model import Image
from tests.host.disk.images import MIB, WRITABLE_FORMATS, content, digest, make, qemu, write


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def convert(*disks: Path, byte: int = 0x22, state_dir: Path | None = None,
            keep: bool = True, scratch: Path | None = None) -> None:
    """Change the disks as a conversion does: data, zeros over data, and the disk's last sector."""
    images = [open_image(path, writable=True) for path in disks]
    overlays = [create(image, scratch or disks[0].parent) for image in images]
    for image, overlay in zip(images, overlays, strict=True):
        write(overlay.path, "qcow2", (byte, MIB, 4096), (0x33, image.virtual_size - 512, 512),
              (0, 0, 512))
    commit(list(zip(images, overlays, strict=True)), [fingerprint(image) for image in images],
           undo=keep, state_dir=state_dir)


def disk(path: Path, fmt: str = "qcow2", options: str = "") -> Path:
    return make(path, fmt, 4 * MIB, pattern=0x11, options=options)


def seen(path: Path, tmp_path: Path) -> str:
    return content(path, open_image(path, writable=False).format, tmp_path)


@pytest.mark.parametrize(("fmt", "options"), [
    *((fmt, "") for fmt in WRITABLE_FORMATS), ("qcow2", "compat=0.10"),
    ("qcow2", "cluster_size=2M"), ("qcow2", "lazy_refcounts=on"),
    ("vmdk", "subformat=twoGbMaxExtentSparse")])
def test_bit_for_bit(fmt: str, options: str, tmp_path: Path) -> None:
    path = disk(tmp_path / "a:disk,1", fmt, options)
    before, listed = seen(path, tmp_path), set(tmp_path.glob("[!c]*"))
    convert(path)
    assert seen(path, tmp_path) != before
    done = undo([path])
    assert isinstance(done, Undone)
    assert (done.disks, done.ranges, done.left) == ((path,), 3, 0)
    assert seen(path, tmp_path) == before
    assert undo([path]) is None
    assert set(tmp_path.glob("[!c]*")) == listed, "something is left"


def test_with_a_backing_file(tmp_path: Path) -> None:
    base = disk(tmp_path / "base")
    path = create(Image(base, "qcow2", 4 * MIB), tmp_path).path
    before, below = seen(path, tmp_path), digest(base)
    convert(path)
    undo([path])
    assert (seen(path, tmp_path), digest(base)) == (before, below)


def test_disks_of_a_guest_are_undone_together(tmp_path: Path) -> None:
    disks = [disk(tmp_path / "a", "raw"), disk(tmp_path / "b"), disk(tmp_path / "c")]
    before = [seen(path, tmp_path) for path in disks]
    convert(*disks)
    disks[2].rename(tmp_path / "hidden")
    with pytest.raises(ImgconvError, match="not there"):
        undo([disks[1]])
    (tmp_path / "hidden").rename(disks[2])
    done = undo([disks[1]])
    assert done is not None
    assert [path.resolve() for path in done.disks] == disks
    assert [seen(path, tmp_path) for path in disks] == before
    assert all(undo([path]) is None for path in disks)


def test_a_disk_of_another_guest(tmp_path: Path) -> None:
    first, second = disk(tmp_path / "a"), disk(tmp_path / "b")
    convert(second)
    with pytest.raises(UsageError, match="not converted together"):
        undo([first, second])
    with pytest.raises(UsageError, match="not converted together"):
        undo([second, first])
    with pytest.raises(ImgconvError, match="does not exist"):
        undo([tmp_path / "c"])


@pytest.mark.parametrize("fmt", ["raw", "qcow2"])
def test_a_guest_that_has_run(fmt: str, tmp_path: Path) -> None:
    path = disk(tmp_path / "disk", fmt)
    before = seen(path, tmp_path)
    convert(path)
    write(path, fmt, (0x77, MIB, 512))
    run = digest(path)
    with pytest.raises(ImgconvError, match="1 of the 3 ranges") as caught:
        undo([path])
    assert "--force" in caught.value.hint
    assert digest(path) == run
    undo([path], force=True)
    assert seen(path, tmp_path) == before


def test_a_guest_that_wrote_elsewhere(tmp_path: Path) -> None:
    """As with XFS, where mounting need not touch what a conversion wrote."""
    path = disk(tmp_path / "disk")
    convert(path)
    write(path, "qcow2", (0x77, 2 * MIB, 512))
    with pytest.raises(ImgconvError, match="time of change"):
        undo([path])
    assert undo([path], force=True)


def test_a_disk_that_was_resized(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk", "raw")
    convert(path)
    os.truncate(path, 5 * MIB)
    with pytest.raises(ImgconvError, match="resized"):
        undo([path], force=True)


def test_conversions_are_undone_one_by_one(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk")
    states = [seen(path, tmp_path)]
    for byte in (0x41, 0x42, 0x43):
        convert(path, byte=byte)
        states.append(seen(path, tmp_path))
    for left in (2, 1, 0):
        done = undo([path])
        assert done is not None
        assert done.left == left
        assert seen(path, tmp_path) == states[left]


def test_what_ran_between_two_conversions_is_noticed(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk")
    convert(path, byte=0x41)
    write(path, "qcow2", (0x77, 2 * MIB, 512))
    convert(path, byte=0x42)
    assert undo([path])
    with pytest.raises(ImgconvError, match="time of change"):
        undo([path])


def test_no_undo(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk")
    convert(path, keep=False)
    assert undo([path]) is None
    assert [name.name for name in tmp_path.iterdir()] == ["disk"]


def test_another_path_and_another_name(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk")
    before = seen(path, tmp_path)
    convert(path)
    (tmp_path / "link").symlink_to("disk")
    path.rename(tmp_path / "renamed")
    path = tmp_path / "renamed"
    (tmp_path / "link").unlink()
    (tmp_path / "link").symlink_to("renamed")
    assert undo([tmp_path / "link"])
    assert seen(path, tmp_path) == before


def test_moved_with_its_folder(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    disks = [disk(old / "a"), disk(old / "b")]
    before = [seen(path, tmp_path) for path in disks]
    convert(*disks)
    old.rename(new)
    assert undo([new / "b"])
    assert [seen(new / name, tmp_path) for name in "ab"] == before


def test_the_state_elsewhere(tmp_path: Path) -> None:
    """It is found by what lies beside the disk, without naming the place again."""
    elsewhere = tmp_path / "elsewhere"
    path = disk(tmp_path / "disk")
    before = seen(path, tmp_path)
    convert(path, state_dir=elsewhere)
    assert len(list(elsewhere.glob("*-disk/0001/0.undo.qcow2"))) == 1
    assert not list(tmp_path.glob(".disk.imgconv/0001"))
    assert undo([path])
    assert seen(path, tmp_path) == before


def test_a_home_that_cannot_be_beside_the_disk(tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    path = disk(tmp_path / ("d" * 250))
    convert(path)
    assert list((tmp_path / "state/imgconv").glob("*/0001/undo.json"))
    assert undo([path])
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    with pytest.raises(ImgconvError, match="no place for the journal") as caught:
        convert(path)
    assert "--state-dir" in caught.value.hint


def test_packs_are_as_private_as_the_disk(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk")
    path.chmod(0o640)
    convert(path)
    [pack] = tmp_path.glob(".disk.imgconv/0001/*.undo.qcow2")
    assert pack.stat().st_mode & 0o777 == 0o640


# --- damaged and malicious state ------------------------------------------------------------------


def test_a_damaged_pack_or_journal(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk")
    convert(path)
    converted = digest(path)
    folder = tmp_path / ".disk.imgconv/0001"
    write(folder / "0.undo.qcow2", "qcow2", (1, MIB, 512))
    with pytest.raises(ImgconvError, match="damaged: its content"):
        undo([path])
    text = (folder / "undo.json").read_text()
    (folder / "undo.json").write_text(text.replace('"size": 4194304', '"size": 4194305'))
    with pytest.raises(ImgconvError, match="its checksum is wrong"):
        undo([path], force=True)
    for junk in ("", "{}", "[]", '"', "null", '{"sha256": 1}'):
        (folder / "undo.json").write_text(junk)
        with pytest.raises(ImgconvError, match="is damaged"):
            undo([path])
    assert digest(path) == converted


def test_a_journal_writes_to_no_disk_that_does_not_lead_to_it(tmp_path: Path) -> None:
    """As in an archive of an image with a folder .NAME.imgconv that names another file."""
    evil, victim = disk(tmp_path / "evil"), disk(tmp_path / "victim")
    convert(evil, victim)
    before = digest(victim)
    (tmp_path / ".victim.imgconv/0001.link").unlink()
    with pytest.raises(ImgconvError, match="not there"):
        undo([evil])
    assert digest(victim) == before


def test_a_pack_that_names_another_file(tmp_path: Path) -> None:
    path, secret = disk(tmp_path / "disk"), disk(tmp_path / "secret")
    convert(path)
    pack = tmp_path / ".disk.imgconv/0001/0.undo.qcow2"
    pack.unlink()
    create(Image(secret, "qcow2", 4 * MIB), pack.parent).path.rename(pack)
    with pytest.raises(ImgconvError, match="outside its own directory"):
        undo([path])
    pack.unlink()
    pack.symlink_to(secret)
    with pytest.raises(ImgconvError, match="not made by imgconv"):
        undo([path])


def test_odd_things_in_a_home(tmp_path: Path) -> None:
    path = disk(tmp_path / "disk")
    home = tmp_path / ".disk.imgconv"
    home.mkdir()
    (home / "0001.link").write_text("no json")
    (home / "0002.link").write_text(json.dumps({"folder": 3, "relative": 4, "index": 5}))
    (home / "0003.link").symlink_to("/dev/zero")
    (home / "0004").symlink_to("/etc")
    (home / "notes").mkdir()
    assert state.entries(path) == []
    assert undo([path]) is None
    convert(path)
    assert undo([path])
    assert journal.PENDING not in {name.name for name in home.iterdir()}


def test_a_pack_restores_the_disk_without_imgconv(tmp_path: Path) -> None:
    """As the README says; zeros over what was a hole included."""
    path = disk(tmp_path / "disk")
    before = seen(path, tmp_path)
    convert(path)
    pack = tmp_path / ".disk.imgconv/0001/0.undo.qcow2"
    qemu("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", path, pack)
    qemu("qemu-img", "commit", "-q", pack)
    assert seen(path, tmp_path) == before


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Path]:
    """A block device over a file of 4 MiB."""
    backing = tmp_path / "backing"
    backing.write_bytes(b"\x11" * 4 * MIB)
    done = subprocess.run(["losetup", "--find", "--show", backing], check=False,
                          capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    yield Path(done.stdout.strip())
    subprocess.run(["losetup", "--detach", done.stdout.strip()], check=True)


def test_a_block_device(device: Path, tmp_path: Path) -> None:
    before = seen(device, tmp_path)
    convert(device, scratch=tmp_path)
    assert seen(device, tmp_path) != before
    assert list((tmp_path / "state/imgconv").glob("*/0001/undo.json"))
    write(device, "raw", (0x77, MIB, 512))
    with pytest.raises(ImgconvError, match="the guest has run"):
        undo([device])
    assert undo([device], force=True)
    assert seen(device, tmp_path) == before
