"""Builds real legacy guests from Debian packages, for the demo and the boot tests.

    image = build(load_recipe("legacy-bookworm"), progress=print)
"""

from imgconv.builder.image import build
from imgconv.builder.recipe import Recipe, load_recipe, recipe_names

__all__ = ["Recipe", "build", "load_recipe", "recipe_names"]
