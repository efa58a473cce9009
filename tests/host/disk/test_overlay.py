"""Overlays over images of any name, and the workspace that leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imgconv.disk import overlay as module
from imgconv.disk.formats import open_image
from imgconv.disk.overlay import create, require_space, workspace
from imgconv.errors import ImgconvError
from tests.host.disk.images import MIB, WRITABLE_FORMATS, digest, make, same, write

ODD_NAMES = ("a:b", "a,b", "new\nline", "-dash", " sp ace ", "nbd:x:1", 'json:{"a":1}',
             "it's", '"q"', "$HOME;`x`", "%s%n", "ünï", os.fsdecode(b"\xff\xfe"), "a=b,c=d")


@pytest.mark.parametrize("fmt", WRITABLE_FORMATS)
def test_an_overlay_shows_the_image_and_shields_it(fmt: str, tmp_path: Path) -> None:
    source = open_image(make(tmp_path / "disk", fmt, pattern=5), writable=True)
    before = digest(source.path)
    with workspace() as directory:
        overlay = create(source, directory)
        assert (overlay.format, overlay.virtual_size) == ("qcow2", source.virtual_size)
        assert overlay.references == (source.path,)
        assert same(overlay.path, "qcow2", source.path, fmt)
        write(overlay.path, "qcow2", (6, 0, 512))
        assert not same(overlay.path, "qcow2", source.path, fmt)
    assert digest(source.path) == before


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(name: str, tmp_path: Path) -> None:
    source = open_image(make(tmp_path / name, "qcow2", pattern=5), writable=True)
    with workspace() as directory:
        overlay = create(source, directory)
        assert same(overlay.path, "qcow2", source.path, "qcow2")
        assert overlay.path.name == "disk0.qcow2"


def test_what_is_created_is_what_opens(tmp_path: Path) -> None:
    source = open_image(make(tmp_path / "disk", "vdi"), writable=True)
    overlay = create(source, tmp_path)
    assert open_image(overlay.path, writable=True) == overlay


def test_the_name_of_a_relative_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "disk")
    assert open_image(Path("disk"), writable=True).path == tmp_path / "disk"


def test_two_disks_have_two_overlays(tmp_path: Path) -> None:
    images = [open_image(make(tmp_path / name), writable=True) for name in ("a", "b")]
    assert len({create(image, tmp_path).path for image in images}) == 2


def test_path_too_long_for_qcow2(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 200] * 5)
    deep.mkdir(parents=True)
    source = open_image(make(deep / "disk"), writable=True)
    with pytest.raises(ImgconvError, match="1023 bytes"):
        create(source, tmp_path)


def test_workspace_is_private_and_goes_away(tmp_path: Path) -> None:
    for failure in (None, RuntimeError(), KeyboardInterrupt()):
        try:
            with workspace(tmp_path) as directory:
                assert directory.stat().st_mode & 0o777 == 0o700
                (directory / "sub").mkdir()
                if failure:
                    raise failure
        except (RuntimeError, KeyboardInterrupt):
            pass
        assert list(tmp_path.iterdir()) == []


def test_workspace_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImgconvError, match="No such file"), workspace(tmp_path / "absent"):
        pass
    monkeypatch.setattr(module, "_WORK_BYTES", 1 << 60)
    with (pytest.raises(ImgconvError, match="MiB free, but 1,099,511,627,776 MiB") as caught,
          workspace(tmp_path)):
        pass
    assert "TMPDIR" in caught.value.hint


def test_space_that_is_there(tmp_path: Path) -> None:
    require_space(tmp_path, MIB, "test", "none")
