"""The command `scripts/build-guest`, which runs on the standard library alone."""

from __future__ import annotations

import argparse
import logging
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from imgconv.builder.cache import replacing
from imgconv.builder.image import build
from imgconv.builder.recipe import load_recipe, recipe_names
from imgconv.errors import ImgconvError


def main(argv: Sequence[str]) -> int:
    """Build the guest that `argv` names, print its path, return the exit status."""
    parser = argparse.ArgumentParser(
        prog="build-guest", description="Build a legacy Debian guest and print its image's path.")
    parser.add_argument("recipe", nargs="?", metavar="NAME|FILE.toml",
                        help="a recipe that comes with imgconv, or a file")
    parser.add_argument("-o", "--output", type=Path, metavar="OUT",
                        help="write a qcow2 copy of one's own here (default: the cached image)")
    parser.add_argument("--list", action="store_true", help="list the recipes and stop")
    parser.add_argument("-v", "--verbose", action="store_true", help="show the commands that run")
    options = parser.parse_args(argv)
    if options.list:
        print("\n".join(recipe_names()))
        return 0
    if options.recipe is None:
        parser.error("which guest? --list shows them")
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.WARNING,
                        format="%(message)s")
    signal.signal(signal.SIGTERM, _terminate)
    try:
        image = build(load_recipe(options.recipe), progress=_progress)
        if options.output:
            with replacing(options.output) as partial:
                shutil.copyfile(image, partial)
        print(options.output or image)
    except ImgconvError as error:
        _progress(f"error: {error.message}" + (f"\n{error.hint}" if error.hint else ""))
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def _progress(line: str) -> None:
    """Tell a person; stdout is for the path alone."""
    print(line, file=sys.stderr, flush=True)


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, so that temporary files are removed."""
    raise KeyboardInterrupt
