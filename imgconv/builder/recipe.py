"""Recipes: what a guest is made of, declared in a small TOML file."""

from __future__ import annotations

import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Final

from imgconv.errors import UsageError

RECIPES: Final = Path(__file__).parent / "recipes"
MIB: Final = 1 << 20

# What a word in a recipe may be. A new suite, filesystem or tool is a new word here and its
# entry in the module named on the right.
CHOICES: Final[dict[str, tuple[str, ...]]] = {
    "suite": ("bullseye", "bookworm", "trixie"),
    "arch": ("amd64",),
    "partition_table": ("mbr", "gpt"),               # layout.py
    "filesystem": ("ext4", "ext3", "ext2"),     # filesystem.py
    "names": ("device", "uuid"),                # files.py
    "root": ("device", "uuid"),                 # grub.py
    "initramfs": ("initramfs-tools",),          # files.py, configure.py
    "bootloader": ("grub-pc", "grub-efi"),      # bootloaders.py
}
# What a boot loader starts from.
TABLES: Final = {"grub-pc": "mbr", "grub-efi": "gpt"}

_NAME: Final = r"[a-z0-9][a-z0-9.+-]*"
_PATTERNS: Final[dict[str, str]] = {
    "name": _NAME,
    "hostname": r"[a-z0-9][a-z0-9-]*",
    "kernel": _NAME,
    "packages": _NAME,
    "modules": r"[A-Za-z0-9_-]+",
    "disk": r"(?:[hsv]d[a-z]|xvd[a-z]|nvme\d+n\d+)",
    "interface": r"[a-z][a-z0-9*]{0,14}",
    "cmdline": r"[A-Za-z0-9_.,:=/-]+",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """One guest. Sizes are bytes, whole MiB; names are Debian's and the kernel's own."""

    name: str
    suite: str
    hostname: str
    disk: str                   # what the guest calls its disk: "sda", "hda"
    names: str                  # how fstab and conf.d/resume name partitions: "device", "uuid"
    root: str                   # how the kernel command line names the root: "device", "uuid"
    modules: tuple[str, ...]    # the initramfs holds these and their dependencies, no others
    arch: str = "amd64"
    kernel: str = "linux-image-amd64"
    packages: tuple[str, ...] = ()          # installed besides what makes the guest boot
    partition_table: str = "mbr"
    disk_size: int = 2048 * MIB
    swap_size: int = 128 * MIB              # 0: no swap partition
    filesystem: str = "ext4"
    initramfs: str = "initramfs-tools"
    resume: bool = True                     # write conf.d/resume (when there is swap)
    bootloader: str = "grub-pc"
    cmdline: tuple[str, ...] = ("console=ttyS0",)
    interface: str = "en*"                  # the NICs that get an address by DHCP


def recipe_names() -> tuple[str, ...]:
    """Return the names of the recipes that come with imgconv, sorted."""
    return tuple(sorted(path.stem for path in RECIPES.glob("*.toml")))


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by the name of a bundled one, or from a TOML file (`*.toml` or a path).

    The recipe's name is the file's stem. Raises UsageError for a recipe that does not exist, is
    not TOML, or holds an unknown key or an impossible value.
    """
    given = str(name_or_path)
    path = Path(given) if given.endswith(".toml") or "/" in given else RECIPES / f"{given}.toml"
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"there is no recipe {given!r}",
                         hint="the recipes are: " + ", ".join(recipe_names())) from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"cannot read the recipe {path}: {error}") from error
    return parse_recipe(path.stem, table)


def parse_recipe(name: str, table: dict[str, Any]) -> Recipe:
    """Make a Recipe from a TOML file's content; see `load_recipe` for the errors."""
    known = {field.name: field for field in fields(Recipe) if field.name != "name"}
    if unknown := sorted(table.keys() - known.keys()):
        raise UsageError(f"recipe {name}: unknown key {', '.join(unknown)}",
                         hint="the keys are: " + ", ".join(known))
    required = [key for key, field in known.items() if field.default is MISSING]
    if missing := [key for key in required if key not in table]:
        raise UsageError(f"recipe {name}: missing key {', '.join(missing)}")
    values: dict[str, Any] = {
        key: _value(name, key, str(known[key].type), value) for key, value in table.items()}
    recipe = Recipe(name=_matching(name, "name", name), **values)
    if recipe.partition_table != TABLES[recipe.bootloader]:
        raise UsageError(f"recipe {name}: {recipe.bootloader} does not start from "
                         f"{recipe.partition_table}",
                         hint=f'it needs partition_table = "{TABLES[recipe.bootloader]}"')
    if recipe.disk_size < recipe.swap_size + 512 * MIB:
        raise UsageError(f"recipe {name}: disk_size leaves less than 512M beside swap_size")
    return recipe


def _value(recipe: str, key: str, annotation: str, value: object) -> str | int | tuple[str, ...]:
    """Check one value against its field's annotation, CHOICES and patterns."""
    if key.endswith("_size"):
        return _size(recipe, key, value)
    if annotation == "bool":
        if not isinstance(value, bool):
            raise UsageError(f"recipe {recipe}: {key} must be true or false")
        return value
    if annotation.startswith("tuple"):
        if not isinstance(value, list):
            raise UsageError(f"recipe {recipe}: {key} must be a list of strings")
        return tuple(_matching(recipe, key, item) for item in value)
    return _matching(recipe, key, value)


def _matching(recipe: str, key: str, value: object) -> str:
    """Return `value` if it is a string that `key` allows; these words reach shell scripts."""
    if not isinstance(value, str):
        raise UsageError(f"recipe {recipe}: {key} must be a string, not {value!r}")
    if key in CHOICES and value not in CHOICES[key]:
        raise UsageError(f"recipe {recipe}: {key} cannot be {value!r}",
                         hint=f"{key} is one of: {', '.join(CHOICES[key])}")
    if key in _PATTERNS and not re.fullmatch(_PATTERNS[key], value):
        raise UsageError(f"recipe {recipe}: {key} cannot be {value!r}")
    return value


def _size(recipe: str, key: str, value: object) -> int:
    """Return bytes for `"512M"`, `"2G"` or 0."""
    if value == 0 and not isinstance(value, bool):
        return 0
    match = re.fullmatch(r"([1-9]\d{0,6})([MG])", value) if isinstance(value, str) else None
    if not match:
        raise UsageError(f"recipe {recipe}: {key} cannot be {value!r}",
                         hint='sizes are written like "512M" or "2G"')
    return int(match[1]) * MIB * (1024 if match[2] == "G" else 1)
