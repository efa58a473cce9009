"""fstab, crypttab and kernel command lines: ugly inputs, changed where needed and nowhere else."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from imgconv.guest.protocols import to_bytes
from imgconv.linux import cmdline, crypttab, fstab
from imgconv.linux.device_names import Renamer
from imgconv.linux.edit import edit, lines
from imgconv.model import Bus, Filesystem, Names
from tests.fake_guest import FakeGuest
from tests.guests import lines_that_differ

ROOT, SWAP = "aaaaaaaa-0000-4000-8000-00000000000a", "bbbbbbbb-0000-4000-8000-00000000000b"
FILESYSTEMS = (Filesystem("/dev/sda1", "ext4", ROOT, "root fs"),
               Filesystem("/dev/sda2", "swap", SWAP),
               Filesystem("/dev/sda3", ""), Filesystem("/dev/sda5", "crypto_LUKS", "cccc"))
BY_UUID = Renamer(FILESYSTEMS, Names.UUID, Bus.VIRTIO_BLK)
BY_DEVICE = Renamer(FILESYSTEMS, Names.DEVICE, Bus.VIRTIO_BLK)
CONFIGS = Path(__file__).parents[4] / "shared/data/configs"

KEPT = [
    "", "\n", "# /dev/sda1 / ext4 defaults 0 1\n", "   # indented /dev/sda1\n", "#\n", "\t \n",
    "/dev/sda1\n", "/dev/sda1 /\n", f"UUID={ROOT} / ext4 defaults 0 1\n",
    f'UUID="{ROOT}"\t/\text4\tdefaults 0 1\n', r"LABEL=root\040fs / ext4 defaults 0 1" "\n",
    "/dev/hdc /media/cdrom0 udf,iso9660 user,noauto 0 0\n",
    "/dev/hdc /media/cdrom iso9660 ro 0 0\n", "/dev/sda1 /mnt/dvd udf,iso9660 ro,user 0 0\n",
    "/dev/fd0 /media/floppy0 auto rw,user,noauto 0 0\n", "/dev/sdb1 /media/usb auto noauto 0 0\n",
    "server:/export/sda1 /srv nfs defaults 0 0\n", "//host/dev/sda1 /smb cifs user=/dev/sda1 0 0\n",
    "/dev/sda /mnt none bind 0 0\n", "/home /srv/home none bind 0 0\n",
    "tmpfs /tmp tmpfs size=1G 0 0\n",
    "/dev/mapper/vg-root / ext4 defaults 0 1\n", "/dev/vg/root / xfs defaults 0 0\n",
    "/dev/md0 /data ext4 defaults 0 2\n", "proc /proc proc defaults 0 0\n",
    "/dev/sda9 /x ext4 ro 0 0\n",
    f"/dev/disk/by-uuid/{ROOT} / ext4 defaults\n", "none /sys sysfs\n",
    "a\x0b/dev/sda1 / ext4 ro\n",
    "# form feed\x0c/dev/sda1 / ext4 ro\n", "# next line\x85/dev/sda1 / ext4 ro\n",
]
CHANGED = [
    ("{} / ext4 errors=remount-ro 0 1\n", "/dev/sda1", ROOT),
    ("{}\t/\text4\tdefaults\t0\t1\n", "/dev/hda1", ROOT), ("  {} / ext4 ro\n", "/dev/sda1", ROOT),
    ("{} / ext4", "/dev/sda1", ROOT), ("{} / ext4 defaults 0 1\r\n", "/dev/sda1", ROOT),
    ("{}      swap    swap    defaults        0 0\n", "/dev/sda2", SWAP),
    ("{} none swap sw,pri=1 0 0 # /dev/sda2\n", "/dev/hda2", SWAP),
    ("{} /mnt/caf\udce9 ext4 ro 0 0\n", "/dev/sda1", ROOT),
    (r"{} /mnt/a\040b ext4 ro,x=/dev/sda1 0 0" "\n", "/dev/xvda1", ROOT),
    ("{} /data auto noauto 0 0\n", "/dev/sda1", ROOT),
    ("{} / ext4 defaults 0 1\n", "/dev/disk/by-id/ata-QEMU_HARDDISK_QM00001-part1", ROOT),
]


@pytest.mark.parametrize("line", KEPT)
def test_fstab_keeps(line: str) -> None:
    assert fstab.rewrite(line, BY_UUID) == line
    assert fstab.rewrite(line, BY_DEVICE) == line


@pytest.mark.parametrize(("line", "spec", "uuid"), CHANGED)
def test_fstab_changes_only_the_name(line: str, spec: str, uuid: str) -> None:
    number = spec[-1]
    assert fstab.rewrite(line.format(spec), BY_UUID) == line.format(f"UUID={uuid}")
    assert fstab.rewrite(line.format(spec), BY_DEVICE) == line.format(f"/dev/vda{number}")
    for renamer in (BY_UUID, BY_DEVICE):
        once = fstab.rewrite(line.format(spec), renamer)
        assert fstab.rewrite(once, renamer) == once


def test_fstab_swap_without_uuid_and_journal_elsewhere() -> None:
    assert fstab.rewrite("/dev/sda3 none swap sw 0 0\n", BY_UUID) == "/dev/vda3 none swap sw 0 0\n"
    text = "/dev/sda1 / xfs rw,logdev=/dev/sda3,x 0 0\n"
    assert fstab.rewrite(text, BY_UUID) == f"UUID={ROOT} / xfs rw,logdev=/dev/vda3,x 0 0\n"
    assert next(fstab.parse(text)).devices == ("/dev/sda3",)


def test_whole_fstab_survives_to_the_byte() -> None:
    guest = FakeGuest({fstab.PATH: b"\xef\xbb\xbf# caf\xe9\n/dev/sda1\t/ ext4 ro 0 1\n" + b"".join(
        line.encode("utf-8", "surrogateescape") for line in KEPT)})
    (change,) = fstab.plan(guest, BY_UUID)
    assert change.before == guest.files[fstab.PATH]
    assert change.content == change.before.replace(b"\n/dev/sda1\t/",
                                                   f"\nUUID={ROOT}\t/".encode(), 1)
    assert fstab.plan(FakeGuest({}), BY_UUID) == ()


@pytest.mark.parametrize("name", ["centos6-fstab", "fedora8-fstab"])
def test_real_fstab(name: str) -> None:
    if not CONFIGS.is_dir():
        pytest.skip("no shared data here")
    text = (CONFIGS / name).read_text()
    assert fstab.rewrite(text, BY_UUID) == text
    assert all(line.path and line.type for line in fstab.parse(text))
    first = next(fstab.parse(text)).spec
    legacy = text.replace(first, "/dev/hda1", 1)
    after = fstab.rewrite(legacy, BY_UUID)
    assert lines_that_differ(legacy.split("\n"), after.split("\n")) == 1


def test_lines() -> None:
    assert lines("a\r\nb\x0b\x85\u2028c\n\nd") == ["a\r\n", "b\x0b\x85\u2028c\n", "\n", "d"]
    assert lines("") == []


def test_edit() -> None:
    guest = FakeGuest({"/f": b"\xff1\n"})
    (change,) = edit(guest, "/f", lambda text: text.replace("1", "2"), "because")
    assert (change.content, change.before, change.why) == (b"\xff2\n", b"\xff1\n", "because")
    assert edit(guest, "/f", lambda text: text, "") == edit(guest, "/g", str.upper, "") == ()
    assert to_bytes("\udcff") == b"\xff"


# --- crypttab -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [
    ("root /dev/sda5 none luks\n", "root UUID=cccc none luks\n"),
    ("root\t/dev/hda5\n", "root\tUUID=cccc\n"), ("root /dev/sda5", "root UUID=cccc"),
    ("swap /dev/sda2 /dev/urandom swap,cipher=x\n", "swap /dev/vda2 /dev/urandom swap,cipher=x\n"),
    ("# swap /dev/sda2 none\n", None), ("root UUID=cccc none\n", None), ("root\n", None),
    ("root /dev/mapper/vg-x /dev/sda5\n", None), ("", None), (" \t\n", None)])
def test_crypttab(before: str, after: str | None) -> None:
    assert crypttab.rewrite(before, BY_UUID) == (before if after is None else after)


def test_crypttab_specs() -> None:
    guest = FakeGuest({crypttab.PATH: "# x /dev/sda1\na /dev/sda5 none\n\nb UUID=x"})
    assert list(crypttab.specs(guest)) == ["/dev/sda5", "UUID=x"]


# --- command lines --------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [
    ("root=/dev/sda1 ro", f"root=UUID={ROOT} ro"),
    ('root="/dev/sda1" resume=/dev/hda2', f'root="UUID={ROOT}" resume=UUID={SWAP}'),
    ('GRUB_CMDLINE_LINUX="root=/dev/sda1"', f'GRUB_CMDLINE_LINUX="root=UUID={ROOT}"'),
    ("X='quiet root=/dev/sda3 resume=/dev/sda2'", f"X='quiet root=/dev/vda3 resume=UUID={SWAP}'"),
    (r'X="root=\"/dev/sda1\" ro"', rf'X="root=\"UUID={ROOT}\" ro"'),
    ("cryptdevice=/dev/sda5:root root=/dev/mapper/root", "cryptdevice=UUID=cccc:root "
     "root=/dev/mapper/root"),
    ("cryptopts=target=x,source=/dev/sda5,key=none",
     "cryptopts=target=x,source=UUID=cccc,key=none"),
    ("journal=/dev/sda3 boot=/dev/sda1", "journal=/dev/vda3 boot=/dev/vda1"),
    ("root=/dev/disk/by-path/pci-0000:00:01.1-ata-1-part1 ro", f"root=UUID={ROOT} ro"),
    *((text, None) for text in (
        "root=/dev/sda9", f"root=UUID={ROOT}", "root=LABEL=x", "root=PARTUUID=x-01", "root=",
        "root", "nfsroot=10.0.0.1:/dev/sda1,x", "rootflags=subvol=@ rootfstype=btrfs",
        "overlayroot=tmpfs",
        "console=ttyS0,115200n8 init=/bin/sh", "root=/dev/mapper/vg-root", "set root='hd0,msdos1'",
        "search --set=root --hint-bios=hd0,msdos1", "my.root.x=1"))])
def test_cmdline(before: str, after: str | None) -> None:
    expected = before if after is None else after
    assert cmdline.rewrite(before, BY_UUID) == expected
    assert cmdline.rewrite(expected, BY_UUID) == expected


def test_cmdline_devices() -> None:
    assert cmdline.devices("ro root=/dev/sda1 resume=UUID=x foo=/dev/sdb2 console=tty0") == (
        ("root", "/dev/sda1"), ("resume", "UUID=x"), ("foo", "/dev/sdb2"))
    assert cmdline.rewrite("root=/dev/sda1", BY_UUID, by_uuid=False) == "root=/dev/vda1"


# --- hostile --------------------------------------------------------------------------------------

BIG = 1 << 20


@pytest.mark.parametrize("line", [
    "a" * BIG, "a " * (BIG // 8), "a b" + " " * BIG, "a=" * (BIG // 16), "root=" * (BIG // 16),
    "root=/dev/sda1 " * (BIG // 512), "=" * BIG, "/dev/disk/by-id/ata-" + "-part1" * (BIG // 8),
    "a b c " + "logdev=/dev/" * (BIG // 16), "root=" + '"' * BIG, "UUID=x" + "\\040" * (BIG // 16)],
    ids=lambda line: ascii(line[:12]))
def test_long_lines_take_linear_time(line: str) -> None:
    begin = time.process_time()
    fstab.rewrite(line, BY_UUID)
    crypttab.rewrite(line, BY_UUID)
    list(crypttab.parse(line))
    cmdline.rewrite(line, BY_UUID)
    cmdline.devices(line)
    BY_UUID.filesystem(line)
    assert time.process_time() - begin < 2


def test_very_many_lines() -> None:
    text = "# nothing\n" * 250_000 + "/dev/sda1 / ext4 ro 0 1\n"
    begin = time.process_time()
    assert fstab.rewrite(text, BY_UUID).endswith(f"UUID={ROOT} / ext4 ro 0 1\n")
    assert time.process_time() - begin < 4
