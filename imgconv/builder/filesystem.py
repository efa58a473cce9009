"""The root filesystem and the swap area, made in the raw disk file without mounting it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from imgconv.builder.layout import Partition
from imgconv.builder.recipe import Recipe
from imgconv.builder.tools import with_sbin
from imgconv.errors import ImgconvError
from imgconv.run import run

# Features are spelled out, so that the host's mke2fs.conf has no say: e2fsprogs 1.47 turns on
# metadata_csum_seed, which GRUB 2.06 cannot read.
_EXT2: Final = "ext_attr,resize_inode,dir_index,filetype,sparse_super,large_file"
_EXT3: Final = f"{_EXT2},has_journal"
_EXT4: Final = f"{_EXT3},extent,64bit,flex_bg,huge_file,dir_nlink,extra_isize,metadata_csum"
_EXT_FEATURES: Final = {"ext2": _EXT2, "ext3": _EXT3, "ext4": _EXT4}

_SWAP_HEADER: Final = 4096      # mkswap writes the first page, no more


def mkfs_argv(recipe: Recipe, root: Partition, tree: str, image: str) -> list[str]:
    """Return the command that makes the root filesystem inside `image` out of the folder `tree`.

    It writes at the partition's offset (mke2fs -E offset), so nothing is copied afterwards.
    """
    return ["mke2fs", "-q", "-F", "-t", recipe.filesystem,
            "-O", f"none,{_EXT_FEATURES[recipe.filesystem]}",
            "-b", "4096", "-I", "256", "-U", root.uuid,
            "-E", f"offset={root.start},lazy_itable_init=0,root_owner=0:0",
            "-d", tree, image, f"{root.size // 1024}k"]


def write_swap(image: Path, swap: Partition, scratch: Path) -> None:
    """Write a swap area into the raw disk `image`; `scratch` is a path for a temporary file."""
    with scratch.open("wb") as file:
        file.truncate(swap.size)
    scratch.chmod(0o600)
    run(["mkswap", "-U", swap.uuid, scratch], env=with_sbin())
    with scratch.open("rb") as file, image.open("r+b") as disk:
        header = file.read(_SWAP_HEADER)
        if header[-10:] != b"SWAPSPACE2":
            raise ImgconvError("mkswap wrote no swap signature", hint="is this host's page 4096?")
        disk.seek(swap.start)
        disk.write(header)
    scratch.unlink()
