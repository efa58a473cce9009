"""The entry that GRUB starts by itself, by number, title and id, in submenus, and saved."""

from __future__ import annotations

import pytest

from imgconv.linux.bootloader import grub2
from imgconv.linux.bootloader.grub2_menu import default_line
from tests.fake_guest import FakeGuest

SOURCE = "/boot/grub/grub.cfg"

MENU = """\
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
else
   set default="@DEFAULT@"
fi
function gfxmode {
\tset gfxpayload="${1}"
}
menuentry 'Debian' --class debian $menuentry_id_option 'gnulinux-simple' {
\tlinux\t/boot/vmlinuz-6.2 root=/dev/sda1
\tinitrd\t/boot/initrd.img-6.2
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced' {
\tmenuentry 'Debian, with Linux 6.2' --class debian $menuentry_id_option 'gnulinux-6.2' {
\t\tlinux\t/boot/vmlinuz-6.2 root=/dev/sda1
\t}
\tmenuentry 'Debian, with Linux 6.1' --class debian $menuentry_id_option 'gnulinux-6.1' {
\t\tif [ x = y ]; then
\t\t\tinsmod gzio
\t\tfi
\t\tlinux\t/boot/vmlinuz-6.1 root=/dev/sda1 single
\t}
}
menuentry "Memory test" {
\tlinux16\t/boot/memtest86+.bin
}
"""


@pytest.mark.parametrize(("default", "title"), [
    ("0", "Debian"), ("2", "Memory test"), ("1>1", "Debian, with Linux 6.1"),
    ("1>0", "Debian, with Linux 6.2"), ("1", "Debian, with Linux 6.2"),
    ("Memory test", "Memory test"), ("gnulinux-simple", "Debian"),
    ("Advanced options>Debian, with Linux 6.1", "Debian, with Linux 6.1"),
    ("gnulinux-advanced>gnulinux-6.1", "Debian, with Linux 6.1"),
    ("", "Debian"), ("9", "Debian"), ("nothing of the kind", "Debian"),
])
def test_default_comes_first(default: str, title: str) -> None:
    text = MENU.replace("@DEFAULT@", default)
    entries = grub2.parse(FakeGuest({}), SOURCE, text)
    assert entries[0].title == title
    assert len(entries) == 4


@pytest.mark.parametrize(("environment", "title"), [
    ("# GRUB Environment Block\nsaved_entry=gnulinux-advanced>gnulinux-6.1\n####", "Debian, with "
     "Linux 6.1"),
    ("# GRUB Environment Block\n####", "Debian"), (None, "Debian")])
def test_saved_default(environment: str | None, title: str) -> None:
    guest = FakeGuest({} if environment is None else {"/boot/grub/grubenv": environment})
    text = MENU.replace("@DEFAULT@", "${saved_entry}")
    assert grub2.parse(guest, SOURCE, text)[0].title == title


@pytest.mark.parametrize("text", ["", "}\n}\n}\n", "submenu 'a' {\n" * 50, "menuentry 'x' {\n}"])
def test_odd_menus(text: str) -> None:
    assert default_line(FakeGuest({}), SOURCE, text) in (None, 0)
