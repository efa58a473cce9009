from __future__ import annotations

import time
from pathlib import Path

import pytest

from imgconv.guest.protocols import read_text
from imgconv.linux import bootloader
from imgconv.linux.bootloader import grub2
from imgconv.linux.bootloader.entry import locate
from imgconv.linux.device_names import Renamer
from imgconv.model import Bus, Filesystem, Names, WriteFile
from tests.fake_guest import FakeGuest
from tests.guests import ROOT_UUID, SWAP_UUID, Legacy, entry, lines_that_differ

FILESYSTEMS = (Filesystem("/dev/sda1", "ext4", ROOT_UUID),
               Filesystem("/dev/sda2", "swap", SWAP_UUID))
BY_UUID = Renamer(FILESYSTEMS, Names.UUID, Bus.VIRTIO_BLK)
CONFIGS = Path(__file__).parents[5] / "shared/data/configs"

UGLY = """\
menuentry "Title with 'quotes'" --class x {
\tlinux16 ($root)/boot/vmlinuz-1 root="/dev/sda1" ro quiet
\tinitrd16 ($root)/boot/early.cpio ($root)/boot/initrd-1
}
menuentry bare {
  linuxefi /vmlinuz-2 root=/dev/sda1 resume=/dev/sda2
  initrdefi /initrd-2
}
menuentry 'no initrd' {
\tlinux (hd0,msdos1)/boot/vmlinuz-3 root=/dev/sda1
}
menuentry 'Xen' {
\tmultiboot /boot/xen.gz placeholder
\tmodule /boot/vmlinuz-4 placeholder root=/dev/sda1 ro
\tmodule /boot/initrd-4
\tinitrd /boot/not-of-the-entry-before
}
menuentry "Memory test (memtest86+)" { linux16 /boot/memtest86+.bin }
menuentry "Memory test" {
\tlinux16\t/boot/memtest86+.bin
}
#menuentry 'off' {
#\tlinux /boot/vmlinuz-5 root=/dev/sda1
menuentry 'unbalanced' {
\tlinux /boot/vmlinuz-6 root=/dev/sda1 x="
\tinitrd /boot/initrd-6
"""


def parsed(text: str, **files: bytes) -> list[tuple[str, str, tuple[str, ...], str]]:
    guest = FakeGuest({f"/boot/{name}": content for name, content in files.items()})
    return [(e.title, e.kernel, e.initrds, e.cmdline) for e in grub2.parse(guest, "s", text)]


def test_entries_of_an_ugly_config() -> None:
    assert parsed(UGLY) == [
        ("Title with 'quotes'", "/boot/vmlinuz-1", ("/boot/early.cpio", "/boot/initrd-1"),
         "root=/dev/sda1 ro quiet"),
        ("bare", "/vmlinuz-2", ("/initrd-2",), "root=/dev/sda1 resume=/dev/sda2"),
        ("no initrd", "/boot/vmlinuz-3", (), "root=/dev/sda1"),
        ("Memory test", "/boot/memtest86+.bin", (), ""),
        ("unbalanced", "/boot/vmlinuz-6", ("/boot/initrd-6",), 'root=/dev/sda1 x="')]


def test_rewriting_an_ugly_config() -> None:
    after = grub2.rewrite_config(UGLY, BY_UUID)
    before = UGLY.split("\n")
    assert lines_that_differ(before, after.split("\n")) == 4
    assert f'root="UUID={ROOT_UUID}" ro quiet' in after
    assert f"root=UUID={ROOT_UUID} resume=UUID={SWAP_UUID}" in after
    assert "vmlinuz-3 root=/dev/vda1\n" in after  # the kernel alone knows no UUID
    assert "placeholder root=/dev/sda1 ro" in after
    assert "#\tlinux /boot/vmlinuz-5 root=/dev/sda1" in after
    assert grub2.rewrite_config(after, BY_UUID) == after


def test_real_form() -> None:
    legacy = Legacy(releases=("5.10.0-9", "5.9.0-1"))
    guest, _ = legacy.build()
    found = grub2.entries(guest)
    assert [e.title for e in found][:2] == ["Debian GNU/Linux",
                                            "Debian GNU/Linux, with Linux 5.10.0-9"]
    assert len(found) == 5
    assert {e.initrds for e in found} == {("/boot/initrd.img-5.10.0-9",),
                                          ("/boot/initrd.img-5.9.0-1",)}
    before = legacy.grub_cfg()
    after = grub2.rewrite_config(before, BY_UUID)
    assert lines_that_differ(before.split("\n"), after.split("\n")) == 5
    assert after.replace(f"UUID={ROOT_UUID}", "/dev/sda1") == before.replace(
        f"UUID={ROOT_UUID}", "/dev/sda1")


@pytest.mark.parametrize("text", ["", "\n", "menuentry", "menuentry 'x' {", "linux", "initrd /x",
                                  "linux /x\n", "set default=0\n\x85linux /x root=/dev/sda1",
                                  entry("x", "/boot", "1", "/dev/sda1")[:-60]])
def test_fragments(text: str) -> None:
    parsed(text)
    grub2.rewrite_config(text, BY_UUID)


def test_bytes_survive() -> None:
    content = b"# caf\xe9\r\n\tlinux /k root=/dev/sda1 \xff ro\r\n\tinitrd /i\r\nend"
    guest = FakeGuest({"/boot/grub/grub.cfg": content})
    (change,) = grub2.plan(guest, BY_UUID)
    assert isinstance(change, WriteFile)
    assert change.content == content.replace(b"/dev/sda1", f"UUID={ROOT_UUID}".encode())


@pytest.mark.parametrize(("before", "after"), [
    ("GRUB_CMDLINE_LINUX='quiet root=/dev/sda1 resume=/dev/sda2'\n",
     f"GRUB_CMDLINE_LINUX='quiet root=UUID={ROOT_UUID} resume=UUID={SWAP_UUID}'\n"),
    ('  export GRUB_CMDLINE_LINUX_DEFAULT="resume=/dev/hda2"',
     f'  export GRUB_CMDLINE_LINUX_DEFAULT="resume=UUID={SWAP_UUID}"'),
    ('GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX \\\n  resume=/dev/sda2"\n',
     f'GRUB_CMDLINE_LINUX="$GRUB_CMDLINE_LINUX \\\n  resume=UUID={SWAP_UUID}"\n'),
    ("GRUB_DISABLE_LINUX_UUID=true\n", "#GRUB_DISABLE_LINUX_UUID=true\n"),
    ('GRUB_DISABLE_LINUX_UUID="true" # why\n', '#GRUB_DISABLE_LINUX_UUID="true" # why\n'),
    ("GRUB_DISABLE_LINUX_UUID=false\n", None), ("#GRUB_DISABLE_LINUX_UUID=true\n", None),
    ("# root=/dev/sda1\nGRUB_TIMEOUT=5\n", None), ("", None)])
def test_defaults(before: str, after: str | None) -> None:
    expected = before if after is None else after
    assert grub2.rewrite_defaults(before, BY_UUID) == expected
    assert grub2.rewrite_defaults(expected, BY_UUID) == expected


def test_device_names_keep_the_setting() -> None:
    renamer = Renamer(FILESYSTEMS, Names.DEVICE, Bus.VIRTIO_BLK)
    text = 'GRUB_DISABLE_LINUX_UUID=true\nGRUB_CMDLINE_LINUX="resume=/dev/sda2"\n'
    assert grub2.rewrite_defaults(text, renamer) == text.replace("sda2", "vda2")


def test_every_config_is_planned() -> None:
    line = "\tlinux /k root=/dev/sda1\n\tinitrd /i\n"
    files = {"/boot/grub/grub.cfg": line, "/boot/grub2/grub.cfg": line,
             "/boot/efi/EFI/debian/grub.cfg": line, "/etc/default/grub": "X='root=/dev/sda1'\n",
             "/etc/default/grub.d/50-cloud.cfg": "X='resume=/dev/sda2'\n",
             "/etc/default/grub.d/README": "X='resume=/dev/sda2'\n"}
    guest = FakeGuest(files)
    paths = {change.path for change in grub2.plan(guest, BY_UUID) if isinstance(change, WriteFile)}
    assert paths == set(files) - {"/etc/default/grub.d/README"}
    assert bootloader.detect(guest) is grub2
    assert bootloader.detect(FakeGuest({"/boot/grub/menu.lst": ""})) is None


@pytest.mark.parametrize(("path", "there", "found"), [
    ("/vmlinuz", "/boot/vmlinuz", "/boot/vmlinuz"), ("/boot/vmlinuz", "/boot/vmlinuz",
                                                     "/boot/vmlinuz"),
    ("/@/boot/vmlinuz", "/boot/vmlinuz", "/boot/vmlinuz"), ("/@boot/vmlinuz", "/boot/vmlinuz",
                                                            "/boot/vmlinuz"),
    ("vmlinuz", "/vmlinuz", "/vmlinuz"), ("/gone", "/x", "/gone"), ("", "/x", "/")])
def test_locate(path: str, there: str, found: str) -> None:
    assert locate(FakeGuest({there: b""}), path) == found


@pytest.mark.parametrize("name", ["centos6-grub.conf", "fedora8-grub.conf"])
def test_grub_legacy_is_not_mistaken(name: str) -> None:
    if not CONFIGS.is_dir():
        pytest.skip("no shared data here")
    text = (CONFIGS / name).read_text()
    assert parsed(text) == []
    assert grub2.rewrite_config(text, BY_UUID) == text


@pytest.mark.parametrize("line", ["\tlinux " + "a" * (1 << 20), "menuentry '" + "x" * (1 << 20),
                                  "\tlinux /k " + "root=/dev/sda1 " * (1 << 12),
                                  " " * (1 << 20), "\tlinux /k " + "'\\" * (1 << 17)],
                         ids=lambda line: ascii(line[:12]))
def test_long_lines_take_linear_time(line: str) -> None:
    begin = time.process_time()
    parsed(line)
    grub2.rewrite_config(line, BY_UUID)
    grub2.rewrite_defaults(line, BY_UUID)
    assert time.process_time() - begin < 2


def test_very_many_entries_take_linear_time() -> None:
    text = "\tlinux /k root=/dev/sda1\n" * 20_000
    begin = time.process_time()
    assert grub2.rewrite_config(text, BY_UUID).count("/dev/vda1") == 20_000
    assert time.process_time() - begin < 2


def test_missing_config_is_no_text() -> None:
    assert read_text(FakeGuest({}), "/boot/grub/grub.cfg") is None
