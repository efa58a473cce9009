"""The cache of built guests: where it is, how images are named, who may build."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from imgconv.builder.recipe import Recipe


def cache_folder() -> Path:
    """Return imgconv's cache: $IMGCONV_CACHE, $XDG_CACHE_HOME/imgconv or ~/.cache/imgconv."""
    if chosen := os.environ.get("IMGCONV_CACHE"):
        return Path(chosen)
    xdg = os.environ.get("XDG_CACHE_HOME")
    return (Path(xdg) if xdg else Path.home() / ".cache") / "imgconv"


def builder_source() -> bytes:
    """Return the text of the builder's own modules: other code makes other guests."""
    return b"\0".join(path.name.encode() + b"\0" + path.read_bytes()
                      for path in sorted(Path(__file__).parent.glob("*.py")))


def cache_key(recipe: Recipe, source: bytes) -> str:
    """Return 64 hex digits that name what `source` builds from `recipe`."""
    meaning = json.dumps(asdict(recipe), sort_keys=True).encode()
    return hashlib.sha256(meaning + b"\0" + source).hexdigest()


def image_path(recipe: Recipe, cache: Path) -> Path:
    """Return where the guest's qcow2 is, or will be once built."""
    return cache / "guests" / f"{recipe.name}-{cache_key(recipe, builder_source())[:16]}.qcow2"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path` to write to; it becomes `path` only if all goes well."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path`; waits for other processes and threads that hold it.

    The kernel drops it when its holder dies. The file stays: unlinking it would let two in.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
