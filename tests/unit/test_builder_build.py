"""The cache: built once, whole or not at all."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from imgconv.builder import build, command, load_recipe
from imgconv.builder.cache import image_path, replacing
from imgconv.builder.recipe import Recipe
from imgconv.errors import ImgconvError

LEGACY = load_recipe("legacy-bookworm")
BUILD = "imgconv.builder.image._build"


def silent(line: str) -> None:
    """Report progress to nobody."""


def test_two_builders_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []

    def slow(recipe: Recipe, image: Path, progress: object) -> None:
        built.append(image)
        time.sleep(0.05)
        image.write_bytes(b"disk")

    monkeypatch.setattr(BUILD, slow)
    with ThreadPoolExecutor(4) as pool:
        images = list(pool.map(lambda _: build(LEGACY, cache=tmp_path, progress=silent), range(4)))
    assert built == [images[0]]
    assert set(images) == {image_path(LEGACY, tmp_path)}


def test_a_cached_image_is_returned_untouched(tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_path(LEGACY, tmp_path)
    image.parent.mkdir()
    image.write_bytes(b"disk")
    monkeypatch.setattr(BUILD, lambda *_: pytest.fail("built again"))
    lines: list[str] = []
    assert build(LEGACY, cache=tmp_path, progress=lines.append) == image
    assert lines == ["legacy-bookworm: cached"]


@pytest.mark.parametrize("error", [ImgconvError("no"), KeyboardInterrupt()])
def test_a_failed_build_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       error: BaseException) -> None:
    cache, temporary = tmp_path / "cache", tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    stale = temporary / f"imgconv-{image_path(LEGACY, cache).stem}.old"
    stale.mkdir()

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("imgconv.builder.image.rootfs.make", fail)
    monkeypatch.setattr("imgconv.builder.image._partition", lambda raw, disk: raw.touch())
    with pytest.raises(type(error)):
        build(LEGACY, cache=cache, progress=silent)
    assert list(temporary.iterdir()) == []
    assert [path.suffix for path in (cache / "guests").iterdir()] == [".lock"]


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    target = tmp_path / "image"
    target.write_text("old")
    with suppress(RuntimeError), replacing(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    with replacing(target) as partial:
        partial.write_text("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_the_command_prints_the_path_and_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("IMGCONV_CACHE", str(tmp_path))
    monkeypatch.setattr(BUILD, lambda recipe, image, progress: image.write_bytes(b"disk"))
    assert command.main(["legacy-bookworm"]) == 0
    image = Path(capsys.readouterr().out.strip())
    assert image.read_bytes() == b"disk"
    copy = tmp_path / "copy.qcow2"
    assert command.main(["legacy-bookworm", "-o", str(copy)]) == 0
    assert capsys.readouterr().out.strip() == str(copy)
    assert copy.read_bytes() == b"disk"


def test_the_command_lists_and_explains(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    assert "virtio-ready-bookworm\n" in capsys.readouterr().out
    assert command.main(["nothing"]) == 2
    assert "legacy-bookworm" in capsys.readouterr().err
