"""The EFI system partition, made in the raw disk file without mounting it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from imgconv.builder.layout import Partition
from imgconv.builder.tools import with_sbin
from imgconv.run import run


def write(image: Path, part: Partition, files: Mapping[str, Path], scratch: Path) -> None:
    """Make a FAT filesystem in `part` of the raw disk `image` with `files`: path in it -> source.

    `scratch` is a path for a temporary file: mtools takes offsets, but no large disk behind them.
    """
    with scratch.open("wb") as file:
        file.truncate(part.size)
    run(["mkfs.vfat", "-F", "32", "-i", part.uuid.replace("-", ""), "-n", "ESP", scratch],
        env=with_sbin())
    folders = {str(folder) for path in files for folder in PurePosixPath(path).parents} - {"."}
    run(["mmd", "-i", scratch, *(f"::/{folder}" for folder in sorted(folders))])
    for path, source in files.items():
        run(["mcopy", "-i", scratch, source, f"::/{path}"])
    with image.open("r+b") as disk:
        disk.seek(part.start)
        disk.write(scratch.read_bytes())
    scratch.unlink()
