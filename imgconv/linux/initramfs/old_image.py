"""Images from before the cpio archives of Linux 2.6: a filesystem in a file, mostly compressed.

They are recognised so that they can be refused with a word on what to do: nothing can be added to
one, and nothing proven of one that the guest has built anew.
"""

from __future__ import annotations

from imgconv.errors import CannotConvert, ImgconvError
from imgconv.linux.initramfs import compression

#: The magic numbers of filesystems: name -> (offset, bytes). RHEL 3 and older used ext2, Debian 3.1
#: cramfs, others romfs and squashfs.
_MAGICS = {"ext2": (1080, b"\x53\xef"), "cramfs": (0, b"\x45\x3d\xcd\x28"),
           "romfs": (0, b"-rom1fs-"), "squashfs": (0, b"hsqs"), "minix": (1040, b"\x8f\x13")}


def kind(content: bytes, limit: int = compression.LIMIT) -> str:
    """The filesystem that the image `content`, compressed or not, is; "" when it is none."""
    if found := _magic(content):
        return found
    try:
        _, data, _ = compression.decompress(memoryview(content), limit)
    except ImgconvError:
        return ""
    return _magic(data)


def _magic(data: bytes | bytearray) -> str:
    return next((name for name, (at, magic) in _MAGICS.items()
                 if data[at:at + len(magic)] == magic), "")


def refuse(path: str, content: bytes) -> None:
    """Raises CannotConvert when `content` is such an image."""
    if found := kind(content):
        raise CannotConvert(
            f"{path} is an initrd of the old kind (a filesystem of type {found})",
            hint="imgconv cannot add drivers to one, nor prove what is in it: leave this guest's "
                 "disk on IDE, or have the guest build it anew with --with=virtio_pci "
                 "--with=virtio_blk and move it by hand")
