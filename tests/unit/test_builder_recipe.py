"""Recipes: what is read, what is refused, and that each of them makes another guest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgconv.builder import Recipe, load_recipe, recipe_names
from imgconv.builder.cache import builder_source, cache_folder, cache_key
from imgconv.builder.recipe import MIB, parse_recipe
from imgconv.errors import UsageError

LEAST: dict[str, Any] = {"suite": "bookworm", "hostname": "old", "disk": "hda", "names": "device",
                         "root": "device", "modules": ["ata_piix", "ext4"]}


def test_bundled_recipes_load() -> None:
    assert {"legacy-bookworm", "virtio-ready-bookworm"} <= set(recipe_names())
    assert all(load_recipe(name).name == name for name in recipe_names())


def test_the_legacy_guest_has_no_virtio_and_device_names() -> None:
    recipe = load_recipe("legacy-bookworm")
    assert not [module for module in recipe.modules if "virtio" in module]
    assert (recipe.disk, recipe.names, recipe.root) == ("sda", "device", "device")


def test_defaults_and_sizes() -> None:
    recipe = parse_recipe("old", {**LEAST, "disk_size": "3G", "swap_size": 0})
    assert (recipe.name, recipe.disk_size, recipe.swap_size) == ("old", 3072 * MIB, 0)
    assert recipe.modules == ("ata_piix", "ext4")
    assert recipe.filesystem == "ext4"


def test_a_file_is_named_by_its_stem(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('suite="bookworm"\nhostname="m"\ndisk="sda"\nnames="uuid"\nroot="uuid"\n'
                    'modules=[]\n')
    assert load_recipe(file).name == "mine"


@pytest.mark.parametrize(("change", "words"), [
    ({"colour": "blue"}, "unknown key colour"),
    ({"name": "other"}, "unknown key name"),
    ({"suite": "hamm"}, "suite cannot be 'hamm'"),
    ({"suite": 12}, "suite must be a string"),
    ({"disk": "sda1"}, "disk cannot be 'sda1'"),
    ({"disk": "sda\n"}, "disk cannot be"),
    ({"hostname": "a b"}, "hostname cannot be 'a b'"),
    ({"modules": "ext4"}, "modules must be a list"),
    ({"modules": ["ext4; reboot"]}, "modules cannot be"),
    ({"packages": ["-o"]}, "packages cannot be '-o'"),
    ({"cmdline": ['quiet"']}, "cmdline cannot be"),
    ({"resume": "yes"}, "resume must be true or false"),
    ({"disk_size": 2048}, "disk_size cannot be 2048"),
    ({"disk_size": "2T"}, "disk_size cannot be '2T'"),
    ({"swap_size": False}, "swap_size cannot be False"),
    ({"disk_size": "600M", "swap_size": "128M"}, "less than 512M"),
    ({"bootloader": "grub-efi"}, "grub-efi does not start from mbr"),
    ({"partition_table": "gpt"}, "grub-pc does not start from gpt"),
])
def test_errors_say_what_is_wrong(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        parse_recipe("old", {**LEAST, **change})


def test_missing_keys_are_named() -> None:
    with pytest.raises(UsageError, match="missing key hostname, disk"):
        parse_recipe("old", {key: LEAST[key] for key in ("suite", "names", "root", "modules")})


def test_an_unknown_recipe_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match="no recipe 'nothing'") as caught:
        load_recipe("nothing")
    assert "legacy-bookworm" in caught.value.hint


@pytest.mark.parametrize("content", [b"name = ", b"\xff\xfe"])
def test_unreadable_files(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="cannot read the recipe"):
        load_recipe(file)


@pytest.mark.parametrize("change", [
    {"name": "b"}, {"modules": ("ext4",)}, {"swap_size": 0}, {"root": "uuid"},
    {"cmdline": ("quiet",)}, {"resume": False},
])
def test_the_cache_key_changes_with_the_recipe(change: dict[str, Any]) -> None:
    recipe: Recipe = parse_recipe("old", LEAST)
    assert cache_key(recipe, b"x") == cache_key(parse_recipe("old", dict(LEAST)), b"x")
    assert cache_key(replace(recipe, **change), b"x") != cache_key(recipe, b"x")


def test_the_cache_key_changes_with_the_builder() -> None:
    recipe = parse_recipe("old", LEAST)
    assert cache_key(recipe, b"x") != cache_key(recipe, b"y")
    assert b"def builder_source" in builder_source()


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IMGCONV_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/someone")
    assert cache_folder() == Path("/home/someone/.cache/imgconv")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/imgconv")
    monkeypatch.setenv("IMGCONV_CACHE", "/mine")
    assert cache_folder() == Path("/mine")
