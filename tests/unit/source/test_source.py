"""Which description a file is, and the disks that it names."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from imgconv import source
from imgconv.errors import ImgconvError, UsageError
from imgconv.model import Disk, Hardware
from tests.unit.source.samples import ESXI, LIBVIRT, PLAIN, appliance, archive


@pytest.mark.parametrize(("name", "content", "machine"), [
    ("a.vmx", ESXI.encode(), "db01"), ("b.xml", LIBVIRT.encode(), "web"),
    ("c.ovf", PLAIN.encode(), "mail"), ("d.ova", archive(appliance()), "mail"),
    # The name says nothing; UTF-16 is known as well.
    ("x", LIBVIRT.replace("<?xml version='1.0'?>", "").encode("utf-16"), "web"),
    ("y", PLAIN.replace("<Envelope", "<ovf:Envelope").replace("</Envelope", "</ovf:Envelope")
     .encode(), "mail"),
])
def test_told_by_content(tmp_path: Path, name: str, content: bytes, machine: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert source.read(tmp_path / name).name == machine
    assert source.is_appliance(tmp_path / name) == (name == "d.ova")


def test_from_a_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, LIBVIRT.encode())
    os.close(writing)
    assert source.read(Path(f"/dev/fd/{reading}")).name == "web"
    os.close(reading)


@pytest.mark.parametrize(("content", "said"), [
    (b"", "describes no virtual machine"), (os.urandom(5000), "describes no virtual machine"),
    (b"<domain>", "not well-formed"), (None, "cannot be read")])
def test_errors_name_the_file(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImgconvError, match=said) as caught:
        source.read(path)
    assert caught.value.message.startswith(str(path))


Given = Callable[..., AbstractContextManager[tuple[Hardware, tuple[Disk, ...]]]]


def given(path: Path, *disks: Path, output: Path | None = None, unpack: bool = False,
          external: bool = False) -> AbstractContextManager[tuple[Hardware, tuple[Disk, ...]]]:
    return source.given(path, disks, output=output, unpack=unpack, allow_external_files=external,
                        progress=lambda _: None)


def vmx(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "g.vmx"
    path.write_text(f'memsize = "64"\nide0:0.present = "TRUE"\nide0:0.fileName = "{name}"\n')
    return path


def test_disks_lie_beside_the_description(tmp_path: Path) -> None:
    path = vmx(tmp_path / "vm", "sub/disk.vmdk")
    with given(path) as (hardware, disks):
        assert disks == (Disk(tmp_path / "vm" / "sub/disk.vmdk", "vmdk"),)
        assert hardware.memory == 64


def test_the_users_disks_come_first(tmp_path: Path) -> None:
    with given(vmx(tmp_path, "../x.vmdk"), Path("mine.img")) as (_, disks):
        assert disks == (Disk(Path("mine.img"), ""),)


@pytest.mark.parametrize("name", ["../x.vmdk", "/etc/shadow", "link/x.vmdk", "sub/../../x.vmdk"])
def test_disks_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    path = vmx(tmp_path / "vm", name)
    (path.parent / "link").symlink_to(tmp_path)
    with pytest.raises(ImgconvError, match="outside its own folder") as caught, given(path):
        pass
    assert "--allow-external-files" in caught.value.hint
    with given(path, external=True) as (_, disks):
        assert disks[0].path == path.parent / name


@pytest.mark.parametrize("name", ["a|00b.vmdk", "x" * 5000])
def test_names_that_no_file_has(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImgconvError, match="none that a file can have"), \
            given(vmx(tmp_path, name), external=True):
        pass


def test_a_disk_that_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "g.xml").write_text(
        "<domain><devices><disk type='network'><target dev='vda'/></disk></devices></domain>")
    with pytest.raises(ImgconvError, match="no file of this host"), given(tmp_path / "g.xml"):
        pass


def test_an_ovf_may_write_a_space_as_a_uri_does(tmp_path: Path) -> None:
    path = tmp_path / "g.ovf"
    path.write_text(PLAIN.replace("disk.vmdk", "my%20disk.vmdk"))
    (tmp_path / "my disk.vmdk").touch()
    with given(path) as (_, disks):
        assert disks[0].path == tmp_path / "my disk.vmdk"


def test_an_appliance_is_unpacked_beside_the_output_and_leaves_nothing(tmp_path: Path) -> None:
    path, output = tmp_path / "g.ova", tmp_path / "out"
    path.write_bytes(archive(appliance(b"content")))
    output.mkdir()
    with given(path, output=output, unpack=True) as (_, (disk,)):
        assert disk.path.read_bytes() == b"content"
        assert disk.path.parent.parent == output
        assert disk.path.parent.stat().st_mode & 0o777 == 0o700
    assert list(output.iterdir()) == []


def test_a_damaged_appliance_leaves_nothing(tmp_path: Path) -> None:
    files = appliance() | {"disk.vmdk": b"others"}
    (tmp_path / "g.ova").write_bytes(archive(files))
    with pytest.raises(ImgconvError, match="not what its manifest says"), \
            given(tmp_path / "g.ova", output=tmp_path / "o.qcow2", unpack=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["g.ova"]


def test_ctrl_c_while_unpacking_leaves_nothing(tmp_path: Path) -> None:
    def interrupt(_: float) -> None:
        assert [p.name for p in tmp_path.glob("imgconv-*/*")] == ["g-disk1.vmdk"]
        raise KeyboardInterrupt
    (tmp_path / "g.ova").write_bytes(archive(appliance()))
    with pytest.raises(KeyboardInterrupt), source.given(
            tmp_path / "g.ova", (), output=tmp_path / "o.qcow2", unpack=True,
            allow_external_files=False, progress=interrupt):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["g.ova"]


def test_an_appliance_is_never_modified(tmp_path: Path) -> None:
    (tmp_path / "g.ova").write_bytes(archive(appliance()))
    with pytest.raises(UsageError, match="never modified") as caught, given(tmp_path / "g.ova"):
        pass
    assert "-o FOLDER" in caught.value.hint
