from __future__ import annotations

import time
from pathlib import Path

import pytest

from imgconv.errors import CannotConvert, HostileInput
from imgconv.linux import bootloader, next_cmdlines
from imgconv.linux.bootloader import grub2, grub_legacy
from imgconv.linux.device_names import Renamer
from imgconv.model import Bus, Filesystem, Names, WriteFile
from tests.fake_guest import FakeGuest
from tests.guests import ROOT_UUID, SWAP_UUID, lines_that_differ

FILESYSTEMS = (Filesystem("/dev/sda1", "ext3", ROOT_UUID),
               Filesystem("/dev/sda2", "swap", SWAP_UUID))
BY_UUID = Renamer(FILESYSTEMS, Names.UUID, Bus.VIRTIO_BLK)
CONFIGS = Path(__file__).parents[5] / "shared/data/configs"

UGLY = """\
default=1
fallback 0
password --md5 $1$x$y
#boot=/dev/hda
# kernel /vmlinuz root=/dev/hda1
# kopt=root=/dev/hda1 ro
# kopt_2_6=root=/dev/hda1 ro
# xenkopt=console=tty0
# defoptions=quiet resume=/dev/hda2
title  Old
  root=(hd0,0)
  kernel --no-mem-option (hd0,0)/vmlinuz-1 root=/dev/hda1 ro vga=791
  initrd (hd0,0)/initrd-1
title New
\tuuid 1234
\tkernel\t/vmlinuz-2 root=/dev/hda1 resume=/dev/hda2
\tinitrd\t/initrd-2
title no initrd
kernel /vmlinuz-3 root=/dev/hda1
title Xen
kernel /xen-4.gz dom0_mem=512M
module /vmlinuz-4xen root=/dev/hda1 ro
module /initrd-4xen.img
title Memtest
kernel /memtest86+.bin
title Windows
rootnoverify (hd0,1)
chainloader +1
"""


def parsed(text: str, saved: str = "0\n") -> list[tuple[str, str, tuple[str, ...], str]]:
    guest = FakeGuest({"/boot/grub/default": saved, "/boot/vmlinuz-1": b"", "/boot/initrd-1": b""})
    return [(e.title, e.kernel, e.initrds, e.cmdline)
            for e in grub_legacy.parse(guest, "menu.lst", text)]


def test_entries_of_an_ugly_menu() -> None:
    assert parsed(UGLY) == [
        ("New", "/vmlinuz-2", ("/initrd-2",), "root=/dev/hda1 resume=/dev/hda2"),
        ("Old", "/boot/vmlinuz-1", ("/boot/initrd-1",), "root=/dev/hda1 ro vga=791"),
        ("no initrd", "/vmlinuz-3", (), "root=/dev/hda1"),
        ("Memtest", "/memtest86+.bin", (), "")]


@pytest.mark.parametrize(("default", "saved", "first"), [
    ("default 0", "", "Old"), ("default=saved", "1\n#\n#\n", "New"), ("default saved", "", "Old"),
    ("default=99", "", "Old"), ("default 2", "", "no initrd"), ("", "", "Old"),
    ("default 99999999999999999999", "", "Old"), ("default ²", "", "Old")])
def test_default(default: str, saved: str, first: str) -> None:
    assert parsed(UGLY.replace("default=1", default), saved)[0][0] == first


def test_xen_by_default_is_refused() -> None:
    with pytest.raises(CannotConvert, match="'Xen' starts the Xen hypervisor") as error:
        parsed(UGLY.replace("default=1", "default 3"))
    assert "default" in error.value.hint


def test_xen_by_default_in_grub_2() -> None:
    plain = "menuentry 'Linux' {\n\tlinux /vmlinuz-1 root=/dev/sda1\n\tinitrd /initrd-1\n}\n"
    for word in ("multiboot /boot/xen-4.17-amd64.gz placeholder", "xen_hypervisor /xen.efi",
                 "multiboot2\t/xen.gz"):
        xen = f"menuentry 'Xen' {{\n\t{word}\n\tmodule /vmlinuz-1 root=/dev/sda1\n}}\n"
        guest = FakeGuest({})
        with pytest.raises(CannotConvert, match="Xen hypervisor"):
            grub2.parse(guest, "grub.cfg", xen + plain)
        assert len(grub2.parse(guest, "grub.cfg", plain + xen)) == 1


def test_rewriting_an_ugly_menu() -> None:
    after = grub_legacy.rewrite(UGLY, BY_UUID)
    assert lines_that_differ(UGLY.split("\n"), after.split("\n")) == 8
    assert "#boot=/dev/vda\n" in after
    assert "# kernel /vmlinuz root=/dev/hda1\n" in after  # only a comment
    assert f"# kopt=root=UUID={ROOT_UUID} ro\n# kopt_2_6=root=UUID={ROOT_UUID} ro\n" in after
    assert f"# defoptions=quiet resume=UUID={SWAP_UUID}\n" in after
    assert "/vmlinuz-3 root=/dev/vda1\n" in after  # the kernel alone knows no UUID
    assert f"module /vmlinuz-4xen root=UUID={ROOT_UUID} ro\n" in after
    assert grub_legacy.rewrite(after, BY_UUID) == after


@pytest.mark.parametrize(("name", "count", "first"), [
    ("centos6-grub.conf", 2, "CentOS (2.6.32-696.1.1.el6.x86_64)"),
    ("fedora8-grub.conf", 3, "Fedora (2.6.24.4-64.fc8)")])
def test_real_menus(name: str, count: int, first: str) -> None:
    if not CONFIGS.is_dir():
        pytest.skip("no shared data here")
    text = (CONFIGS / name).read_text()
    guest = FakeGuest({"/boot/grub/grub.conf": text, "/boot/grub/menu.lst": text,
                       "/boot/vmlinuz-2.6.24.4-64.fc8": b""})
    assert bootloader.detect(guest) is grub_legacy
    found = grub_legacy.entries(guest)
    assert [e.title for e in found][:1] == [first]
    assert len(found) == count  # Xen's is not among them
    assert all(e.initrds for e in found)
    if "fedora" in name:
        assert found[0].kernel == "/boot/vmlinuz-2.6.24.4-64.fc8"
    # As the guest was before it moved: everything by name.
    legacy = text.replace("UUID=978d3837-dbff-4db5-be73-ed7e8d3f3f2a", "/dev/hda1").replace(
        "root=/dev/vg00/lv00", "root=/dev/sda1").replace("#boot=/dev/vda", "#boot=/dev/sda")
    after = grub_legacy.rewrite(legacy, BY_UUID)
    assert after.count(f"root=UUID={ROOT_UUID}") == count + ("fedora" in name)
    assert "\n#boot=/dev/vda\n" in after
    if "centos" in name:
        assert grub_legacy.rewrite(text, BY_UUID) == text


DEVICE_MAP = "(fd0)\t/dev/fd0\n(hd0)\t/dev/hda\n(hd1) /dev/disk/by-id/ata-X\n# (hd0) /dev/hda\n"


def test_device_map() -> None:
    assert grub_legacy.rewrite_map(DEVICE_MAP, BY_UUID) == DEVICE_MAP.replace(
        "\t/dev/hda", "\t/dev/vda").replace("/dev/disk/by-id/ata-X", "/dev/vda")
    menu = "title x\nkernel /k root=/dev/hda1\n"
    for commands, written in (("", True), ("title x\n", True),
                              ("setup --stage2=/boot/grub/stage2 (hd0) (hd0,0)\nquit\n", False)):
        guest = FakeGuest({"/boot/grub/menu.lst": menu, "/boot/grub/device.map": DEVICE_MAP,
                           "/etc/grub.conf": f"root (hd0,0)\n{commands}"})
        paths = [c.path for c in grub_legacy.plan(guest, BY_UUID) if isinstance(c, WriteFile)]
        assert ("/boot/grub/device.map" in paths) is written
        checked = [check.path for check in next_cmdlines.checks(guest, BY_UUID)]
        assert ("/boot/grub/device.map" in checked) is written


def test_uefi_of_enterprise_linux_6() -> None:
    guest = FakeGuest({"/boot/efi/EFI/redhat/grub.conf": "title x\nkernel /k root=/dev/sda1\n",
                       "/boot/efi/EFI/redhat/grub.efi": b"MZ"})
    assert grub_legacy.detect(guest)
    assert grub_legacy.installed(guest)
    assert not grub2.installed(guest)
    assert len(grub_legacy.plan(guest, BY_UUID)) == 1


@pytest.mark.parametrize("text", ["", "\n", "title", "kernel", "title x\nkernel\n", "title\nkernel "
                                  "--a", "title x\ninitrd\n", "default", "kernel /k root=/dev/sda1",
                                  "title x\nkernel (hd0,0", "title x\nkernel ((((/k\n", "module"])
def test_fragments(text: str) -> None:
    parsed(text)
    after = grub_legacy.rewrite(text, BY_UUID)
    assert grub_legacy.rewrite(after, BY_UUID) == after


@pytest.mark.parametrize("line", [
    "kernel " + "a" * (1 << 20), "kernel " + "(" * (1 << 18), " " * (1 << 20),
    "#" + " " * (1 << 20), "# kopt" + "k" * (1 << 20), "#boot=/dev/" + "x" * (1 << 20),
    "(hd0) " + "/" * (1 << 20), "title " + "x" * (1 << 20), "default" + "=" * (1 << 20)],
    ids=lambda line: ascii(line[:12]))
def test_long_lines_take_linear_time(line: str) -> None:
    begin = time.process_time()
    parsed("title x\n" + line)
    grub_legacy.rewrite(line, BY_UUID)
    grub_legacy.rewrite_map(line, BY_UUID)
    assert time.process_time() - begin < 2


def test_too_many() -> None:
    with pytest.raises(HostileInput, match="menu entries"):
        parsed("title x\nkernel /k\n" * 2000)
