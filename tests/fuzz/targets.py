"""What is fuzzed: each target takes any bytes, and only ImgconvError may come out of it.

To add one: write a function, add it to TARGETS, put a few small valid inputs into seeds/NAME/.
"""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from imgconv.disk import headers, truncation
from imgconv.errors import ImgconvError
from imgconv.guest import quick
from imgconv.linux import cmdline, crypttab, fstab, kernels, modindex, modinfo, modules
from imgconv.linux.bootloader import grub2
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import check, compression, cpio, initramfs_tools
from imgconv.linux.modules import ModuleTree
from imgconv.model import Bus, Filesystem, Hardware, Names
from imgconv.source import libvirt_xml as libvirt_source
from imgconv.source import ova as ova_source
from imgconv.source import ovf as ovf_source
from imgconv.source import read as read_source
from imgconv.source import values
from imgconv.source import vmx as vmx_source
from tests.fake_guest import FakeGuest

#: Less than a real guest may have, so that an input takes no more than a fraction of a second.
LIMIT = 4 << 20

_FILESYSTEMS = (Filesystem("/dev/sda1", "ext4", "11111111-1111-4111-8111-111111111111", "root"),
                Filesystem("/dev/sda2", "swap", "2222-2222"), Filesystem("/dev/sdb", "ext4"))
_RENAMERS = [Renamer(_FILESYSTEMS, names, bus) for names in Names
             for bus in (Bus.VIRTIO_BLK, Bus.VIRTIO_SCSI)]
_TREE = ModuleTree("6.1.0", "/lib/modules/6.1.0", {}, {}, frozenset())


def initramfs(data: bytes) -> None:
    tree = cpio.read(data, LIMIT)
    for driver in ("virtio_blk", "virtio_pci"):
        check.drivers(tree, _TREE, "x86_64", (driver,), initramfs_tools)
    check.names(tree, _RENAMERS[0], initramfs_tools)
    with suppress(ImgconvError):
        again = cpio.read(data + cpio.appendix(tree, {"lib/a/b": b"new"}), LIMIT)
        assert again.read("lib/a/b") == b"new"


def decompress(data: bytes) -> None:
    name, out, used = compression.decompress(memoryview(data), LIMIT)
    assert len(out) <= LIMIT
    assert used <= len(data)
    assert name


def module_index(data: bytes) -> None:
    items = modindex.read(data)
    with suppress(ImgconvError):
        modindex.read(modindex.write(items))


def module_text(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    modindex.parse_alias(text)
    tree = modules.read(FakeGuest({"/lib/modules/6.1.0/modules.dep": data,
                                   "/lib/modules/6.1.0/modules.builtin": data,
                                   "/boot/config-6.1.0": data}), "6.1.0")
    tree.closure(list(tree.paths)[:10])


def module(data: bytes) -> None:
    modinfo.architecture(data)
    modinfo.read(data)


def mounts(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for renamer in _RENAMERS:
        before, after = list(fstab.parse(text)), fstab.rewrite(text, renamer)
        assert [line.path for line in fstab.parse(after)] == [line.path for line in before]
        assert fstab.rewrite(after, renamer) == after


def crypt(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for renamer in _RENAMERS:
        after = crypttab.rewrite(text, renamer)
        assert len(list(crypttab.parse(after))) == len(list(crypttab.parse(text)))
        assert crypttab.rewrite(after, renamer) == after


def command_line(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    cmdline.devices(text)
    for renamer in _RENAMERS:
        after = cmdline.rewrite(text, renamer)
        assert cmdline.rewrite(after, renamer) == after


def grub(data: bytes) -> None:
    guest = FakeGuest({"/boot/grub/grub.cfg": data, "/boot/grub/grubenv": data,
                       "/etc/default/grub": data, "/boot/vmlinuz-6.1.0": data})
    entries = grub2.entries(guest)
    kernels.offered(guest, entries)
    text = data.decode("utf-8", "surrogateescape")
    for renamer in _RENAMERS:
        after = grub2.rewrite_config(text, renamer)
        assert grub2.rewrite_config(after, renamer) == after
        after = grub2.rewrite_defaults(text, renamer)
        assert grub2.rewrite_defaults(after, renamer) == after


def kernel_image(data: bytes) -> None:
    release = kernels.release_of(FakeGuest({"/boot/x": data}), "/boot/x")
    assert release is None or not set(release) & set("/ \n\"'`$;")
    kernels.arch_of(FakeGuest({"/boot/x": data}), "/boot/x")


def os_release(data: bytes) -> None:
    quick._system(FakeGuest({"/etc/os-release": data}))


def image(data: bytes) -> None:
    head, tail = data[:headers.HEAD_SIZE], data[-headers.SECTOR:]
    headers.format_of(head, tail)
    headers.names_further_extents(head)
    headers.vmdk_version(head)
    with suppress(ImgconvError):
        headers.qcow2(head)
    with suppress(ImgconvError):
        headers.vmdk(head)
    with suppress(ImgconvError):
        headers.vpc(head, tail)


def tables(data: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        # What QEMU has not refused before: a magic, a version and sizes that it takes.
        for fmt in ("raw", "qcow2") if _plausible(data) else ("raw",):
            truncation.is_truncated(Path(file.name), fmt)


def vmx(data: bytes) -> None:
    _sane(vmx_source.parse(io.BytesIO(data)))


def libvirt_xml(data: bytes) -> None:
    _sane(libvirt_source.parse(io.BytesIO(data)))


def ovf(data: bytes) -> None:
    _sane(ovf_source.parse(io.BytesIO(data)))


def ova(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        archive, out = Path(folder) / "a.ova", Path(folder) / "out"
        archive.write_bytes(data)
        out.mkdir()
        with suppress(ImgconvError):
            _sane(read_source(archive))
        try:
            written = ova_source.unpack(archive, out, lambda fraction: None)
        finally:
            assert {path.name for path in Path(folder).iterdir()} == {"a.ova", "out"}
            assert all(path.name.startswith("a-disk") for path in out.iterdir())
        assert sum(path.stat().st_size for path in written) <= len(data)


def _sane(hardware: Hardware) -> None:
    """What a machine is made of must be harmless in any output."""
    assert 0 <= hardware.memory <= values.MAX_MEMORY
    assert 0 <= hardware.cpus <= values.MAX_CPUS
    for nic in hardware.nics:
        assert set(nic.mac) <= set("0123456789abcdef:")
        assert nic.model in ("", *values._CARDS.values())
    for text in (hardware.name, hardware.os, *hardware.notes):
        assert text.isprintable()


def _plausible(data: bytes) -> bool:
    return len(data) >= 104 and struct.unpack_from(">I", data, 36)[0] * 8 <= 32 << 20


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (
        initramfs, decompress, module_index, module_text, module, mounts, crypt, command_line, grub,
        kernel_image, os_release, image, tables, vmx, libvirt_xml, ovf, ova)}


def run(name: str, data: bytes) -> None:
    """Give `data` to a target. Whatever comes out is a fault."""
    with suppress(ImgconvError):
        TARGETS[name](data)
