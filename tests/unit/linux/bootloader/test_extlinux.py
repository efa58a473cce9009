from __future__ import annotations

import time

import pytest

from imgconv.errors import HostileInput
from imgconv.linux.bootloader import extlinux
from imgconv.linux.device_names import Renamer
from imgconv.model import Bus, Filesystem, Names, WriteFile
from tests.fake_guest import FakeGuest
from tests.guests import ROOT_UUID, SWAP_UUID, lines_that_differ

FILESYSTEMS = (Filesystem("/dev/sda1", "ext4", ROOT_UUID),
               Filesystem("/dev/sda2", "swap", SWAP_UUID))
BY_UUID = Renamer(FILESYSTEMS, Names.UUID, Bus.VIRTIO_BLK)

UGLY = """\
# append root=/dev/sda1
PROMPT 0
APPEND root=/dev/sda1 global
Default linux2
UI menu.c32
LABEL linux
  MENU LABEL ^Linux
  KERNEL ../vmlinuz-1
  APPEND initrd=../early,../initrd-1 root=/dev/sda1 ro
LABEL linux2
  LINUX /vmlinuz-2
  INITRD /initrd-2
  append root="/dev/sda1" resume=/dev/hda2
label inherits
  kernel vmlinuz-3
  initrd initrd-3
label none
  linux /vmlinuz-4
  append -
label bare
  linux /vmlinuz-5
  append root=/dev/sda1
label memtest
  kernel memtest.bin
label reboot
  com32 reboot.c32
label hdt
  kernel hdt.c32
label local
  localboot 0
"""


def guest(text: str = UGLY, **files: str) -> FakeGuest:
    return FakeGuest({"/boot/extlinux/extlinux.conf": text, **{
        f"/boot/extlinux/{name}": content for name, content in files.items()}})


def test_entries_of_an_ugly_config() -> None:
    assert [(e.title, e.kernel, e.initrds, e.cmdline) for e in extlinux.entries(guest())] == [
        ("linux2", "/vmlinuz-2", ("/initrd-2",), 'root="/dev/sda1" resume=/dev/hda2'),
        ("Linux", "/boot/vmlinuz-1", ("/boot/early", "/boot/initrd-1"), "root=/dev/sda1 ro"),
        ("inherits", "/boot/extlinux/vmlinuz-3", ("/boot/extlinux/initrd-3",),
         "root=/dev/sda1 global"),
        ("none", "/vmlinuz-4", (), ""), ("bare", "/vmlinuz-5", (), "root=/dev/sda1")]


def test_rewriting_an_ugly_config() -> None:
    after = extlinux.rewrite(UGLY, BY_UUID)
    assert lines_that_differ(UGLY.split("\n"), after.split("\n")) == 4
    assert after.startswith("# append root=/dev/sda1\n")
    assert f'append root="UUID={ROOT_UUID}" resume=UUID={SWAP_UUID}' in after
    assert "  append root=/dev/vda1\nlabel memtest" in after  # the kernel alone knows no UUID
    assert "APPEND root=/dev/vda1 global" in extlinux.rewrite(UGLY, BY_UUID, by_uuid=False)
    assert extlinux.rewrite(after, BY_UUID) == after


@pytest.mark.parametrize("mark", ["  menu default\n", "  MENU DEFAULT\n"])
def test_menu_default(mark: str) -> None:
    text = UGLY.replace("label bare\n", "label bare\n" + mark)
    assert extlinux.entries(guest(text))[0].title == "bare"


def test_included_files() -> None:
    files = {"linux.cfg": "label a\nlinux /k\ninitrd /i\nappend root=/dev/sda1\ninclude up.cfg\n",
             "up.cfg": "include linux.cfg\nmenu include linux.cfg x\n", "other.cfg": "label x\n"}
    there = guest("include linux.cfg\nINCLUDE gone.cfg\ninclude\n", **files)
    assert [e.source for e in extlinux.entries(there)] == ["/boot/extlinux/linux.cfg"]
    assert [c.path for c in extlinux.plan(there, BY_UUID) if isinstance(c, WriteFile)] == [
        "/boot/extlinux/linux.cfg"]
    absolute = guest("include /syslinux/x.cfg\n")
    absolute.files["/boot/syslinux/x.cfg"] = b"label a\nlinux /k\n"
    assert len(extlinux.entries(absolute)) == 1


def test_files_that_include_each_other_without_end() -> None:
    files = {f"f{n}": "".join(f"include f{m}\n" for m in range(40)) for n in range(40)}
    with pytest.raises(HostileInput, match="include each other"):
        extlinux.entries(guest("include f0\n", **files))


@pytest.mark.parametrize("path", [
    "/boot/extlinux.conf", "/extlinux.conf", "/boot/syslinux/syslinux.cfg", "/syslinux.cfg"])
def test_where_it_is_looked_for(path: str) -> None:
    there = FakeGuest({path: "DEFAULT x\nLABEL x\nLINUX vmlinuz\n"})
    folder = path.rpartition("/")[0]
    assert extlinux.detect(there)
    assert extlinux.entries(there)[0].kernel == f"{folder}/vmlinuz"


@pytest.mark.parametrize("text", ["", "\n", "label", "label\nlinux\n", "append root=/dev/sda1",
                                  "default", "menu", "menu default", "label x\nmenu label\n",
                                  "label x\nlinux ../../../../etc\n"])
def test_fragments(text: str) -> None:
    extlinux.entries(guest(text))
    after = extlinux.rewrite(text, BY_UUID)
    assert extlinux.rewrite(after, BY_UUID) == after


@pytest.mark.parametrize("line", ["append " + "a" * (1 << 20), " " * (1 << 20), "a" * (1 << 20),
                                  "append " + "initrd=" * (1 << 17), "menu" + " " * (1 << 20),
                                  "label x\nlinux " + "../" * (1 << 18)],
                         ids=lambda line: ascii(line[:12]))
def test_long_lines_take_linear_time(line: str) -> None:
    begin = time.process_time()
    extlinux.entries(guest("label x\n" + line[:1 << 19]))
    extlinux.rewrite(line, BY_UUID)
    assert time.process_time() - begin < 2


def test_too_many() -> None:
    with pytest.raises(HostileInput, match="menu entries"):
        extlinux.entries(guest("label x\nlinux /k\n" * 2000))
