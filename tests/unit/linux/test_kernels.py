from __future__ import annotations

import pytest

from imgconv.linux import kernels, modules
from imgconv.linux.bootloader import BootEntry
from imgconv.linux.modules import ModuleTree
from imgconv.model import Bus
from tests.fake_guest import FakeGuest
from tests.guests import RELEASE, Legacy, vmlinuz


@pytest.mark.parametrize(("name", "content", "release"), [
    ("vmlinuz", vmlinuz("5.9.0-1-amd64"), "5.9.0-1-amd64"),
    ("vmlinuz-x", vmlinuz("2.6.32-696.el6.x86_64"), "2.6.32-696.el6.x86_64"),
    ("vmlinuz-6.1.0-13-arm64", b"MZ", "6.1.0-13-arm64"), ("vmlinux-6.1", b"", "6.1"),
    ("vmlinuz-6.1", vmlinuz("../../etc"), "6.1"), ("vmlinuz-6.1", vmlinuz(""), "6.1"),
    ("memtest86+.bin", b"\0" * 1024, None), ("vmlinuz", b"", None), ("xen.gz", b"\x1f\x8b", None),
    ("vmlinuz-6.1", vmlinuz("5.1")[:0x208], "6.1"), ("k", vmlinuz("5.1")[:0x20F], None),
    ("k", vmlinuz("5.1")[:0x220], None), ("vmlinuz-6.1/../x", b"", None)])
def test_release(name: str, content: bytes, release: str | None) -> None:
    guest = FakeGuest({f"/boot/{name}": content})
    assert kernels.release_of(guest, f"/boot/{name}") == release


@pytest.mark.parametrize(("content", "arch"), [
    (vmlinuz("6.1"), "x86_64"), (vmlinuz("6.1", bits=32), "i386"), (b"MZ", ""), (b"", ""),
    (vmlinuz("6.1")[:0x206] + b"\x09\x02" + vmlinuz("6.1")[0x208:], ""),
    (vmlinuz("6")[:0x220], "")])
def test_arch(content: bytes, arch: str) -> None:
    assert kernels.arch_of(FakeGuest({"/k": content}), "/k") == arch


def test_offered_groups_entries_and_leaves_out_what_is_no_kernel() -> None:
    guest, _ = Legacy().build()
    guest.files |= {"/boot/memtest86+.bin": bytes(600), "/boot/vmlinuz-9.9": vmlinuz("9.9")}

    def made(title: str, kernel: str, *initrds: str) -> BootEntry:
        return BootEntry(title, kernel, initrds, "root=/dev/sda1", "grub.cfg")
    image, initrd = f"/boot/vmlinuz-{RELEASE}", f"/boot/initrd.img-{RELEASE}"
    found = kernels.offered(guest, [
        made("memtest", "/boot/memtest86+.bin"), made("no modules", "/boot/vmlinuz-9.9"),
        made("gone", "/boot/vmlinuz-1"), made("a", image, initrd), made("bare", image),
        made("b", image, initrd), made("early", image, "/boot/ucode", initrd)])
    assert [[e.title for e in kernel.entries] for kernel in found] == [["a", "b"], ["bare"],
                                                                       ["early"]]
    assert [kernel.initramfs for kernel in found] == [initrd, None, initrd]
    assert [kernel.can_drive(Bus.VIRTIO_BLK) for kernel in found] == [True, False, True]
    assert {kernel.arch for kernel in found} == {"x86_64"}
    assert all(kernel.can_drive(Bus.IDE) for kernel in found)


@pytest.mark.parametrize(("virtio", "state"), [("module", "module"), ("builtin", "built in"),
                                               ("absent", "absent")])
@pytest.mark.parametrize("suffix", [".ko", ".ko.gz", ".ko.xz", ".ko.zst"])
def test_states(virtio: str, state: str, suffix: str) -> None:
    guest, _ = Legacy(virtio=virtio, suffix=suffix).build()
    tree = modules.read(guest, RELEASE)
    assert tree.state("virtio_blk") == tree.state("virtio_pci") == state
    assert tree.has("ext4", "virtio_blk") is (state != "absent")
    assert tree.state("binfmt") == ("absent" if virtio == "builtin" else "built in")


def test_config_alone_tells_what_is_built_in() -> None:
    guest = FakeGuest({"/boot/config-1": "CONFIG_VIRTIO_BLK=y\nCONFIG_VIRTIO_PCI=m\n"
                                         "# CONFIG_SCSI_VIRTIO=y\n"})
    tree = modules.read(guest, "1")
    assert tree.builtin == {"virtio_blk"}
    assert modules.read(FakeGuest({}), "1").paths == {}


def test_closure() -> None:
    depends = {"a.ko": ("b.ko", "c.ko"), "b.ko": ("c.ko", "d.ko"), "c.ko": ("d.ko",), "d.ko": (),
               "x.ko": ("y.ko",), "y.ko": ("x.ko",), "z.ko": ("gone.ko",)}
    tree = ModuleTree("1", "/m", depends, {path[0]: path for path in depends}, frozenset({"q"}))
    assert tree.closure(["a"]) == ("d.ko", "c.ko", "b.ko", "a.ko")
    assert tree.closure(["d", "a", "q", "nothing"])[0] == "d.ko"
    assert set(tree.closure(["x"])) == {"x.ko", "y.ko"}
    assert tree.closure(["z"]) == ("gone.ko", "z.ko")


def test_a_long_chain_needs_no_deep_recursion() -> None:
    depends = {f"m{i}.ko": (f"m{i + 1}.ko",) for i in range(30_000)}
    tree = ModuleTree("1", "/m", depends, {"m0": "m0.ko"}, frozenset())
    assert len(tree.closure(["m0"])) == 30_001
