"""Images that are recognised to be refused: unified kernels, and filesystems in a file."""

from __future__ import annotations

import struct

import pytest

from imgconv.errors import CannotConvert
from imgconv.linux.initramfs import old_image, uki
from tests.fake_guest import FakeGuest
from tests.guests import COMPRESS, tree, vmlinuz
from tests.guests import cpio as archive


def pe(*names: bytes) -> bytes:
    head = bytearray(0x80)
    head[:2] = b"MZ"
    struct.pack_into("<I", head, 0x3C, 0x80)
    coff = struct.pack("<HHIIIHH", 0x8664, len(names), 0, 0, 0, 112, 0x22)
    return bytes(head) + b"PE\0\0" + coff + bytes(112) + b"".join(
        name.ljust(8, b"\0") + bytes(32) for name in names)


def test_a_unified_kernel_image_is_refused() -> None:
    image = pe(b".text", b".osrel", b".cmdline", b".linux", b".initrd")
    guest = FakeGuest({"/efi/EFI/Linux/arch.efi": image, "/efi/grubx64.efi": pe(b".text", b"mods"),
                       "/boot/vmlinuz": vmlinuz("6.1.0")})
    assert uki.sections(image) == (".text", ".osrel", ".cmdline", ".linux", ".initrd")
    with pytest.raises(CannotConvert, match="unified kernel image") as caught:
        uki.refuse(guest, "/efi/EFI/Linux/arch.efi")
    assert "virtio_blk" in caught.value.hint
    for path in ("/efi/grubx64.efi", "/boot/vmlinuz", "/nothing"):
        assert not uki.is_uki(guest, path)
        uki.refuse(guest, path)


@pytest.mark.parametrize("size", [0, 2, 0x40, 0x84, 0x90, 0x100, 0x110])
def test_a_cut_off_program(size: int) -> None:
    assert ".linux" not in uki.sections(pe(b".text", b".linux")[:size])


@pytest.mark.parametrize(("at", "magic", "name"), [
    (1080, b"\x53\xef", "ext2"), (0, b"\x45\x3d\xcd\x28", "cramfs"), (0, b"-rom1fs-", "romfs")])
@pytest.mark.parametrize("kind", ["cpio", "gzip", "bzip2"])
def test_a_filesystem_in_a_file(at: int, magic: bytes, name: str, kind: str) -> None:
    content = COMPRESS[kind](bytes(at) + magic + bytes(4096))
    assert old_image.kind(content) == name
    with pytest.raises(CannotConvert, match=name):
        old_image.refuse("/boot/initrd-2.4.21.img", content)


@pytest.mark.parametrize("content", [b"", b"garbage", archive(tree({"init": b"x"})),
                                     COMPRESS["gzip"](archive(tree({"init": b"x"})))])
def test_everything_else_is_none(content: bytes) -> None:
    assert old_image.kind(content) == ""
    old_image.refuse("/boot/initrd.img", content)
