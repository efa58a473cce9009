"""The boot loaders that a recipe can name."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

from imgconv.builder import grub_efi, grub_pc
from imgconv.builder.layout import Layout
from imgconv.builder.recipe import Recipe


class BootLoader(Protocol):
    """A module that makes a guest's disk start."""

    @property
    def PACKAGES(self) -> tuple[str, ...]:  # noqa: N802 - modules have constants
        """What the guest needs."""
        ...

    @property
    def ARTIFACTS(self) -> tuple[str, ...]:  # noqa: N802
        """Files in the guest that `install` gets."""
        ...

    def configure_script(self, recipe: Recipe, disk: Layout) -> str:
        """Shell lines that run inside the guest's tree as root."""
        ...

    def install(self, image: Path, artifacts: Path, disk: Layout) -> None:
        """Write what lies outside the root filesystem into the raw disk `image`."""
        ...


BOOTLOADERS: Final[dict[str, BootLoader]] = {"grub-pc": grub_pc, "grub-efi": grub_efi}
