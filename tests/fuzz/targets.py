"""What is fuzzed: each target takes any bytes, and only ImgconvError may come out of it.

To add one: write a function, add it to TARGETS, put a few small valid inputs into seeds/NAME/.
"""

from __future__ import annotations

import io
import struct
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from imgconv.disk import headers, truncation
from imgconv.errors import ImgconvError
from imgconv.guest import quick
from imgconv.linux import (
    cmdline,
    configs,
    crypttab,
    fstab,
    kernels,
    lvm_devices,
    lvm_filter,
    mdadm,
    modindex,
    modinfo,
    modules,
    next_cmdlines,
    places,
)
from imgconv.linux.bootloader import (
    bls,
    extlinux,
    grub2,
    grub_legacy,
    grubenv,
    systemd_boot,
)
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import TOOLS, check, compression, cpio, old_image, uki
from imgconv.linux.modules import ModuleTree
from imgconv.model import Bus, Filesystem, Hardware, Names
from imgconv.source import libvirt_xml as libvirt_source
from imgconv.source import ova as ova_source
from imgconv.source import ovf as ovf_source
from imgconv.source import read as read_source
from imgconv.source import values
from imgconv.source import vmx as vmx_source
from imgconv.windows import (
    bcd,
    boot_start,
    clock,
    devices,
    driver_database_values,
    foreign,
    hive_check,
    hive_logs,
    network,
    ntfs,
    package_name,
    registry,
)
from imgconv.windows import catalog as windows_catalog
from imgconv.windows import inf as inf_files
from imgconv.windows import pe as windows_pe
from imgconv.windows.edits import Edits
from imgconv.windows.versions import WindowsVersion
from tests.fake_guest import FakeGuest
from tests.hives import signed, with_checksum

#: Less than a real guest may have, so that an input takes no more than a fraction of a second.
LIMIT = 4 << 20

_FILESYSTEMS = (Filesystem("/dev/sda1", "ext4", "11111111-1111-4111-8111-111111111111", "root"),
                Filesystem("/dev/sda2", "swap", "2222-2222"), Filesystem("/dev/sdb", "ext4"),
                Filesystem("/dev/sda3", "LVM2_member", "abcdef-1234-5678"),
                Filesystem("/dev/sda5", "linux_raid_member", "r"))
_RENAMERS = [Renamer(_FILESYSTEMS, names, bus) for names in Names
             for bus in (Bus.VIRTIO_BLK, Bus.VIRTIO_SCSI)]
_TREE = ModuleTree("6.1.0", "/lib/modules/6.1.0", {}, {}, frozenset())


def initramfs(data: bytes) -> None:
    tree = cpio.read(data, LIMIT)
    for tool in TOOLS:
        with suppress(ImgconvError):
            tool.built(tree)
        check.drivers(tree, _TREE, "x86_64", ("virtio_blk", "virtio_pci"), tool)
        check.names(tree, _RENAMERS[0], tool)
        with suppress(ImgconvError):
            files = tool.additions(tree, _RENAMERS[0], ("virtio_pci", "virtio_blk"))
            again = cpio.with_files(tree, files)
            assert not tool.additions(again, _RENAMERS[0], ("virtio_pci", "virtio_blk"))
    with suppress(ImgconvError):
        again = cpio.read(data + cpio.appendix(tree, {"lib/a/b": b"new"}), LIMIT)
        assert again.read("lib/a/b") == b"new"


#: What the tools read in a guest; each gets the fuzzed text.
_CONFIGS = ("/etc/initramfs-tools/modules", "/etc/initramfs-tools/initramfs.conf",
            "/etc/dracut.conf", "/etc/dracut.conf.d/x.conf", "/etc/mkinitcpio.conf",
            "/etc/mkinitcpio.conf.d/x.conf", "/etc/mkinitcpio.d/x.preset",
            "/etc/mkinitfs/mkinitfs.conf", "/etc/sysconfig/kernel", "/etc/modprobe.conf",
            "/etc/tiny-initramfs/tiny-initramfs.conf", "/etc/initrd.mk", "/etc/booster.yaml")


def initramfs_config(data: bytes) -> None:
    for tool in TOOLS:
        guest = FakeGuest(dict.fromkeys(_CONFIGS, data))
        for change in tool.persist(guest, _RENAMERS[0], ("virtio_pci", "virtio_blk")):
            guest.write(change.path, change.content, change.mode)
        left = tool.persist(guest, _RENAMERS[0], ("virtio_pci", "virtio_blk"))
        assert not left, (tool.NAME, left)


def refused_image(data: bytes) -> None:
    uki.sections(data)
    old_image.kind(data, LIMIT)


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


def _steady(rewrite: Callable[[str, Renamer], str], data: bytes) -> None:
    """What was rewritten stays as it is."""
    text = data.decode("utf-8", "surrogateescape")
    for renamer in _RENAMERS:
        after = rewrite(text, renamer)
        assert rewrite(after, renamer) == after


def grub_menu(data: bytes) -> None:
    guest = FakeGuest({"/boot/grub/menu.lst": data, "/boot/grub/default": data,
                       "/boot/grub/device.map": data, "/etc/grub.conf": data})
    list(grub_legacy.next_names(guest))
    _steady(grub_legacy.rewrite, data)
    _steady(grub_legacy.rewrite_map, data)
    kernels.offered(guest, grub_legacy.entries(guest))


def boot_files(data: bytes) -> None:
    name = f"/boot/loader/entries/{data[:8].hex()}-1.conf"
    guest = FakeGuest({name: data, "/boot/grub2/grubenv": data, "/boot/loader/loader.conf": data,
                       "/boot/grub2/grub.cfg": b"blscfg\n" + data})
    _steady(bls.rewrite, data)
    systemd_boot.entries(guest)
    grub2.entries(guest)
    _steady(grubenv.rewrite, data)
    text = data.decode("utf-8", "surrogateescape")
    after = grubenv.rewrite(text, _RENAMERS[0])
    assert len(after.encode("utf-8", "surrogateescape")) == len(data)


def syslinux(data: bytes) -> None:
    guest = FakeGuest({"/boot/extlinux/extlinux.conf": data, "/boot/extlinux/x": data})
    _steady(extlinux.rewrite, data)
    for renamer in _RENAMERS:
        extlinux.plan(guest, renamer)
    kernels.offered(guest, extlinux.entries(guest))


def config(data: bytes) -> None:
    """Every file of `configs`, and what an fstab tells of the places of disks."""
    guest = FakeGuest(dict.fromkeys((
        "/etc/lvm/lvm.conf", "/etc/lvm/devices/system.devices", "/etc/mdadm.conf",
        "/etc/blkid.tab", "/etc/hdparm.conf", "/etc/sysconfig/grub", "/etc/kernel/cmdline"), data))
    for renamer in _RENAMERS:
        list(configs.checks(guest, renamer))
        configs.plan(guest, renamer)
    _steady(lvm_devices.rewrite, data)
    _steady(mdadm.rewrite, data)
    _steady(next_cmdlines.rewrite, data)
    places.of(data.decode("utf-8", "surrogateescape"), _FILESYSTEMS)
    _steady(lvm_filter.rewrite, data)


def kernel_image(data: bytes) -> None:
    release = kernels.release_of(FakeGuest({"/boot/x": data}), "/boot/x")
    assert release is None or not set(release) & set("/ \n\"'`$;")
    kernels.arch_of(FakeGuest({"/boot/x": data}), "/boot/x")


def os_release(data: bytes) -> None:
    quick._system(FakeGuest({"/etc/os-release": data}))


def inf(data: bytes) -> None:
    package = inf_files.parse(data, "fuzzed.inf")
    for windows in (WindowsVersion(6, 1, 7601, "x86"),
                    WindowsVersion(10, 0, 20348, "amd64", server=True)):
        with suppress(ImgconvError):
            package.version(windows)
        with suppress(ImgconvError):
            package.sources(windows)
        for model in package.models(windows)[:10]:
            with suppress(ImgconvError):
                done = package.installation(model.install, windows)
                assert not any(".." in file.target.split("/") for file in done.files)


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


def pe(data: bytes) -> None:
    found = windows_pe.parse(data)
    assert len(found.sha1) == 20
    assert len(found.sha256) == 32
    for certificate in found.certificates:
        with suppress(ImgconvError):
            windows_catalog.embedded(certificate)


def catalog(data: bytes) -> None:
    assert windows_catalog.parse(data).members is not None


def hive(data: bytes) -> None:
    hive_check.check(data)
    opened = registry.Hive(data)
    opened.key("Select\\Current")
    for path, key in opened.root.walk():
        assert len(path) < 1 << 20
        for value in key.values():
            registry.string(value.data)
            registry.multi_string(value.data)
            registry.integer(value.data)


def hive_log(data: bytes) -> None:
    """A dirty hive of two pages, and a log that says it is complete; the hashes are put right."""
    before, log = data[:8192], with_checksum(data[8192:].ljust(512, b"\0"))
    for content in (log, _with_hashes(log)):
        replayed = hive_logs.replay(before, [content, content])
        assert replayed is None or not registry.Hive(replayed.data).dirty


def _with_hashes(log: bytes) -> bytes:
    position = 512
    while log[position:position + 4] == b"HvLE" and position + 40 <= len(log):
        end = position + max(512, struct.unpack_from("<I", log, position + 4)[0])
        log = log[:position] + signed(log[position:end]) + log[end:]
        position = end
    return log


def windows_registry(data: bytes) -> None:
    """What is looked up in a SYSTEM hive, or in a BCD."""
    opened = registry.Hive(data)
    for version in ((5, 1, 2600), (6, 1, 7601), (10, 0, 19045)):
        windows = WindowsVersion(*version, "amd64")
        for ask in (partial(boot_start.explain, opened, None, "/c/Windows", windows,
                            devices.controller(Bus.VIRTIO_BLK)),
                    partial(boot_start.stack, opened, None, "/c/Windows", windows),
                    partial(foreign.plan, Edits(opened, "SYSTEM"), windows)):
            with suppress(ImgconvError):
                ask()
    for look in (network.static_addresses, network.ipv6_addresses, clock.localtime, bcd.default,
                 boot_start.installed_controllers):
        with suppress(ImgconvError):
            look(opened)


def driver_database(data: bytes) -> None:
    for decode in (driver_database_values.decode_version, driver_database_values.decode_id_match):
        with suppress(ImgconvError):
            decode(data)
    package_name.decode_oem_map(data)


def ntfs_volume(data: bytes) -> None:
    ntfs.hibernated(data[:4096])
    ntfs.state(lambda offset, size: data[offset:offset + size])


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (
        initramfs, initramfs_config, refused_image, decompress, module_index, module_text, module,
        mounts, crypt, command_line, grub, grub_menu, boot_files, syslinux, config,
        kernel_image, os_release, image, tables, inf, pe, catalog, hive, hive_log,
        windows_registry, driver_database, ntfs_volume, vmx, libvirt_xml, ovf, ova)}


def run(name: str, data: bytes) -> None:
    """Give `data` to a target. Whatever comes out is a fault."""
    with suppress(ImgconvError):
        TARGETS[name](data)
