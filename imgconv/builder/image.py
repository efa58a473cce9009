"""Build a guest's disk: table, files, filesystem, swap, boot loader, qcow2."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from imgconv.builder import filesystem, rootfs
from imgconv.builder.bootloaders import BOOTLOADERS
from imgconv.builder.cache import cache_folder, image_path, lock, replacing
from imgconv.builder.layout import Layout, layout, sfdisk_script
from imgconv.builder.recipe import Recipe
from imgconv.builder.tools import with_sbin
from imgconv.run import run

Progress = Callable[[str], None]


def build(recipe: Recipe, *, cache: Path | None = None, progress: Progress) -> Path:
    """Return a qcow2 of the guest, building it unless it is cached (one to two minutes).

    The image is shared and read-only: callers make a copy or an overlay. `cache` is the folder
    to use instead of the user's cache; `progress` gets a line for each step. Needs mmdebstrap,
    e2fsprogs, util-linux, fdisk and qemu-img on the host, for UEFI dosfstools and mtools too, and a
    Debian mirror. Two builds of one guest at a time make it once. Raises ImgconvError or
    CommandFailed; leaves no partial files.
    """
    image = image_path(recipe, cache or cache_folder())
    if image.exists():
        progress(f"{recipe.name}: cached")
        return image
    with lock(image.with_suffix(".lock")):
        if not image.exists():      # another process may have built it while we waited
            _build(recipe, image, progress)
    return image


def _build(recipe: Recipe, image: Path, progress: Progress) -> None:
    """Build `image`, which does not exist. The caller holds the lock."""
    disk = layout(recipe)
    with _work_folder(image.stem) as work:
        raw = work / "disk.raw"
        progress(f"{recipe.name}: partitioning")
        _partition(raw, disk)
        progress(f"{recipe.name}: installing {recipe.suite} (about a minute)")
        rootfs.make(recipe, disk, work)
        progress(f"{recipe.name}: installing the boot loader")
        if disk.swap:
            filesystem.write_swap(raw, disk.swap, work / "swap")
        BOOTLOADERS[recipe.bootloader].install(raw, work, disk)
        progress(f"{recipe.name}: writing the image")
        with replacing(image) as partial:
            run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, partial])
            partial.chmod(0o444)


def _partition(raw: Path, disk: Layout) -> None:
    """Create the sparse raw disk with its partition table."""
    with raw.open("wb") as file:
        file.truncate(disk.size)
    run(["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", raw],
        env=with_sbin(), stdin=sfdisk_script(disk))


@contextmanager
def _work_folder(stem: str) -> Iterator[Path]:
    """Give a folder for some GB of temporary files, and remove it.

    It is outside the cache because mmdebstrap's user namespace cannot enter a private home. What
    a killed build left is removed first: the caller's lock says nobody else uses it.
    """
    parent = Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108
    prefix = f"imgconv-{stem}."
    for stale in parent.glob(f"{prefix}*"):
        if stale.lstat().st_uid == os.getuid():
            _remove(stale)
    work = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    try:
        work.chmod(0o755)
        yield work
    finally:
        _remove(work)


def _remove(folder: Path) -> None:
    """Remove a work folder, but nothing that is mounted in it.

    After a failure without root, files in it belong to mmdebstrap's user namespace.
    """
    remove = ["rm", "-rf", "--one-file-system", str(folder)]
    if run(remove, check=False).status and os.geteuid() != 0:
        run(["mmdebstrap", "--unshare-helper", *remove], check=False)
        run(remove, check=False)
