"""Guests that want to keep imgconv busy, fill its memory, or have it write what it should not."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from imgconv import linux, pipeline
from imgconv.cli import show
from imgconv.errors import HostileInput, ImgconvError
from imgconv.guest.cached import Cached
from imgconv.linux import crypttab, fstab, initramfs, kernels
from imgconv.linux.bootloader import grub2
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import cpio
from imgconv.model import (
    Bus,
    Filesystem,
    Image,
    InitramfsMode,
    Names,
    Options,
    Plan,
    Report,
    WriteFile,
)
from tests.fake_guest import FakeGuest
from tests.guests import (
    COMPRESS,
    FILE,
    FOLDER,
    LINK,
    RELEASE,
    Legacy,
    Record,
    tree,
    vmlinuz,
)
from tests.guests import (
    cpio as archive,
)

SECONDS = 10.0
MIB = 1 << 20
INITRD = f"/boot/initrd.img-{RELEASE}"
DEP = f"/lib/modules/{RELEASE}/modules.dep"
SPLICE = Options(initramfs=InitramfsMode.SPLICE)


@pytest.fixture(autouse=True)
def quick() -> Iterator[None]:
    """Whatever the guest holds, the answer comes soon."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < SECONDS


def planned(files: Mapping[str, bytes | str]) -> Plan:
    """The plan for a legacy guest with some files replaced."""
    guest, inspection = Legacy(extra=files).build()
    return pipeline.planned(Cached(guest), inspection, SPLICE)


# --- too much of everything -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["/etc/fstab", "/etc/crypttab", "/boot/grub/grub.cfg",
                                  "/etc/default/grub"])
def test_large_configurations_are_refused(name: str) -> None:
    with pytest.raises(HostileInput, match="larger than"):
        planned({name: b"/dev/sda1 /a ext4 x 0 0\n" * 100_000})


@pytest.mark.parametrize("text", [
    "set default=" + " " * 900_000 + "x'y", "set default=" + "'" * 900_000,
    "set " * 200_000, "menuentry " + "'a" * 400_000 + " {\n",
    ("menuentry '" + "''" * 2000 + " {\n") * 200, ("submenu 'x' {\n") * 60_000,
    "menuentry 'x' {\nlinux /boot/vmlinuz " + "a='" * 300_000 + "\n",
    "linux /boot/vmlinuz root=" + "/dev/sda1," * 90_000 + "\n",
    "linux " + "-a" * 400_000 + "\n", "linux /x " + "a.b-" * 200_000 + "\n",
    "initrd" + " " * 900_000, "}\n" * 400_000,
])
def test_grub_cfg_takes_no_time_that_grows_with_its_square(text: str) -> None:
    guest = FakeGuest({"/boot/grub/grub.cfg": text})
    with suppress(HostileInput):
        grub2.entries(guest)
    grub2.rewrite_config(text, Renamer((), Names.UUID, Bus.VIRTIO_BLK))


@pytest.mark.parametrize("line", ["/dev/sda1 " * 90_000, "a\t" * 400_000, "#" * 900_000,
                                  "/dev/sda1 / ext4 " + "journal_dev=/dev/sda1," * 40_000])
def test_long_lines(line: str) -> None:
    renamer = Renamer((), Names.UUID, Bus.VIRTIO_BLK)
    fstab.rewrite(line, renamer)
    crypttab.rewrite(line, renamer)


def test_more_entries_than_any_menu_has() -> None:
    entry = "menuentry 'x' {{\nlinux /boot/vmlinuz-{0} root=/dev/sda1\n}}\n"
    for text in (entry.format(1) * 10_000, "".join(map(entry.format, range(10_000)))):
        with pytest.raises(HostileInput, match="more than 1,000"):
            grub2.entries(FakeGuest({"/boot/grub/grub.cfg": text}))
    words = "linux /boot/vmlinuz\ninitrd " + " ".join(map(str, range(100_000)))
    with pytest.raises(HostileInput, match="more than 1,000 files"):
        grub2.entries(FakeGuest({"/boot/grub/grub.cfg": words}))


def test_more_kernels_than_anybody_installs() -> None:
    legacy = Legacy(releases=tuple(f"6.1.{number}" for number in range(40)), initrd=False,
                    virtio="builtin")
    guest, inspection = legacy.build()
    with pytest.raises(HostileInput, match="more than 32 kernels"):
        linux.plan(guest, inspection, SPLICE)


def test_more_lines_than_any_fstab_has() -> None:
    with pytest.raises(HostileInput, match="10,000 mounts"):
        list(fstab.parse("a b c\n" * 20_000))
    with pytest.raises(HostileInput, match="10,000 devices"):
        list(crypttab.parse("a b c\n" * 20_000))


def test_modules_dep_of_junk() -> None:
    with pytest.raises(HostileInput):
        planned({DEP: b"a.ko: b.ko\n" * (16 * MIB // 11)})


def test_a_driver_that_needs_everything() -> None:
    """Each module that it is said to need would be read, and packed into the initramfs."""
    paths = [f"kernel/m{number}.ko" for number in range(5000)]
    chain = "".join(f"{one}: {other}\n" for one, other in pairwise(paths))
    dep = f"kernel/virtio_pci.ko: {paths[0]}\nkernel/virtio_blk.ko: {paths[0]}\n{chain}"
    with pytest.raises(ImgconvError, match="need 5002 modules"):
        planned({DEP: dep})


# --- initramfs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in COMPRESS if kind != "cpio"])
def test_bombs(kind: str) -> None:
    bomb = COMPRESS[kind](bytes(70 * MIB))
    tracemalloc.start()
    try:
        with pytest.raises(HostileInput) as caught:
            planned({INITRD: bomb})
        assert "unpacks to more than 64 MiB" in caught.value.message
        assert tracemalloc.get_traced_memory()[1] < 200 * MIB
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["/etc/passwd", "../../etc/passwd", "a/../../../b", "..", ".", "/",
                                  "//x//y", "x" * 4095, "a\nb", "\udcff"])
def test_names_stay_inside(name: str) -> None:
    content = cpio.read(archive([Record("etc", b"", FOLDER), Record("x", b"", FOLDER),
                                 Record("a", b"", FOLDER), Record(name, b"1", FILE)]))
    assert not any(entry.startswith(("/", "..")) for entry in content.entries)


def test_paths_that_take_long_to_follow() -> None:
    dots = "./" * 2000
    records = [Record("d", b"", FOLDER), Record("l", (dots + "d").encode(), LINK),
               *(Record(f"{dots}l/{number}", b"") for number in range(8000))]
    with pytest.raises(HostileInput, match="more than 200000 entries"):
        cpio.read(archive(records))


def test_large_files_inside_are_not_read_over_and_over() -> None:
    """One file of 3 MiB under many names, in a folder of which every file is looked into."""
    data, count = b"blacklist a\n" * (3 * MIB // 12), 200
    records = [*tree({"etc/modprobe.d/0": b"", "conf/conf.d/0": b""}),
               *(Record(f"{folder}/{number}.conf", data if number == 1 else b"", FILE, count, 7)
                 for folder in ("etc/modprobe.d", "conf/conf.d") for number in range(1, count))]
    content = cpio.read(archive([*records, *tree(
        {f"lib/modules/{RELEASE}/kernel/virtio_blk.ko": b""})]))
    guest, inspection = Legacy().build()
    kernel = linux.boot_chain(guest)[1][0]
    result = initramfs.check.names(content, Renamer.of(inspection, Names.UUID, Bus.VIRTIO_BLK),
                                   initramfs.initramfs_tools)
    assert result.problems == ["the configuration inside an initramfs is too large"]
    with pytest.raises(HostileInput, match="too large"):
        initramfs.check._forbidden(content, "virtio_blk")
    assert kernel.release == RELEASE


# --- what is written and shown --------------------------------------------------------------------


@pytest.mark.parametrize("uuid", ["a b", "a\nb", 'a"b', "a'b", "a;reboot", "$(x)", "a#", "é", "a,b",
                                  "a=b", "x" * 65, "../x", "a\x1b[31m", "a\\040"])
def test_odd_uuids_are_never_written(uuid: str) -> None:
    guest, inspection = Legacy().build()
    inspection = replace(inspection, filesystems=tuple(
        replace(filesystem, uuid=uuid) for filesystem in inspection.filesystems))
    plan = pipeline.planned(guest, inspection, SPLICE)
    written = b"".join(change.content for change in plan.changes if isinstance(change, WriteFile))
    assert uuid.encode() not in written
    assert b"root=/dev/vda1" in written


@pytest.mark.parametrize("release", ["../../x", "6.1/../../x", "6.1 x", "6.1;reboot", "-k", "6.1\n",
                                     "6.1$(x)", "6.é", "٦.1", ".6.1", "6.1" + "x" * 200, ""])
def test_odd_releases_are_no_kernels(release: str) -> None:
    image = FakeGuest({"/boot/vmlinuz": vmlinuz("6.1.0").replace(
        b"6.1.0 ", release.encode("utf-8", "replace")[:60].ljust(6) + b" "),
        f"/boot/vmlinuz-{release}": b"x"})
    found = kernels.release_of(image, "/boot/vmlinuz")
    assert found is None or not set(found) & set("/ \n;$(é")
    assert kernels.release_of(image, f"/boot/vmlinuz-{release}") is None


EVIL = "Evil\x1b]0;x\x07\u202e [bold]"


def test_nothing_of_the_guest_drives_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    grub_cfg = Legacy().grub_cfg().replace("Debian GNU/Linux", EVIL).replace("quiet", f"q={EVIL}")
    guest, inspection = Legacy(extra={
        "/boot/grub/grub.cfg": grub_cfg,
        "/etc/fstab": f"LABEL={EVIL.replace(' ', '')} /x ext4 x 0 0\n/dev/sda9\x1b[2J /y ext4\n"
                      "/dev/sda1 / ext4 x\n"}).build()
    inspection = replace(inspection, os=replace(inspection.os, product=f"{EVIL}\nfake line"),
                         filesystems=(*inspection.filesystems,
                                      Filesystem("/dev/sdb1", "ext4", "u-1", EVIL)))
    plan = pipeline.planned(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    report = Report((Image(Path("/x.img"), "raw", 1),), inspection, plan,
                    pipeline.verified(guest, inspection, SPLICE, plan))
    show.plan(report)
    show.summary(report)
    shown = "".join(capsys.readouterr())
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\nfake line" not in shown


def test_diffs_of_large_files_take_no_time() -> None:
    lines = [f"/dev/sda{number % 9} /x{number} ext4" for number in range(20_000)]
    before = "\n".join(lines).encode()
    change = WriteFile("/etc/fstab\n+x", before.replace(b"/dev/sda1", b"UUID=1"), before, "")
    found = show.diff(change)
    assert found[:5] == ["--- a/etc/fstab\\n+x", "+++ b/etc/fstab\\n+x", "@@ -2 +2 @@",
                         "-/dev/sda1 /x1 ext4", "+UUID=1 /x1 ext4"]


# --- the reader that has limits -------------------------------------------------------------------


def test_what_is_remembered_is_limited() -> None:
    reader = Cached(FakeGuest({f"/{number}": bytes(100) for number in range(50)}), kept=1000)
    for number in range(50):
        reader.read(f"/{number}")
    assert sum(map(len, reader._contents.values())) <= 1000
    assert reader.read("/0") == bytes(100)


def test_what_is_asked_is_limited() -> None:
    reader = Cached(FakeGuest({"/a": bytes(100)}), questions=10)
    for number in range(9):
        reader.size(f"/{number}")
    reader.size("/0")
    reader.size("/a")
    with pytest.raises(HostileInput, match="too many files"):
        reader.names("/b")
    reader = Cached(FakeGuest({"/a": bytes(100), "/b": bytes(100)}), total=150)
    reader.read("/a")
    with pytest.raises(HostileInput, match="too many bytes"):
        reader.read("/b")
