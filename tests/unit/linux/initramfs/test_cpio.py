from __future__ import annotations

import shutil
import stat
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.errors import HostileInput, ImgconvError
from imgconv.linux.initramfs import cpio
from tests.guests import COMPRESS, FILE, FOLDER, LINK, MICROCODE, Record, lz4_legacy, tree
from tests.guests import cpio as make

ARCHIVE = make(tree({"init": b"#!/bin/sh\n", "usr/lib/a.ko": b"module", "conf/modules": b"ext4\n"},
                    {"lib": "usr/lib"}))
needs_cpio = pytest.mark.skipif(shutil.which("cpio") is None, reason="cpio is not installed")


def names(content: bytes) -> set[str]:
    return set(cpio.read(content).entries)


@pytest.mark.parametrize("kind", COMPRESS)
def test_every_compression(kind: str) -> None:
    initramfs = cpio.read(COMPRESS[kind](ARCHIVE))
    assert [member.kind for member in initramfs.members] == [kind]
    assert initramfs.read("init") == b"#!/bin/sh\n"
    assert initramfs.read("lib/a.ko") == b"module"
    assert initramfs.read("/lib/../lib/./a.ko") == b"module"
    assert initramfs.read("lib") is None
    assert not initramfs.has("lib/b.ko")


@pytest.mark.parametrize("kind", COMPRESS)
@pytest.mark.parametrize("padding", [0, 4, 512, 100_000])
def test_microcode_first(kind: str, padding: int) -> None:
    initramfs = cpio.read(MICROCODE + bytes(padding) + COMPRESS[kind](ARCHIVE) + bytes(7))
    assert [member.kind for member in initramfs.members] == ["cpio", kind]
    assert initramfs.has("kernel/x86/microcode/GenuineIntel.bin")
    assert initramfs.read("init")


def test_several_archives_in_one_member() -> None:
    second = make([Record("init", b"later")])
    assert cpio.read(COMPRESS["gzip"](ARCHIVE + bytes(512) + second)).read("init") == b"later"


def test_a_later_entry_wins() -> None:
    assert cpio.read(ARCHIVE + make([Record("init", b"2")])).read("init") == b"2"
    assert cpio.read(make([Record("a", b"1"), Record("a", b"22")])).read("a") == b"22"


def test_a_file_replaces_a_link_and_is_put_behind_a_linked_folder() -> None:
    initramfs = cpio.read(ARCHIVE + make([Record("lib/a.ko", b"new"), Record("./lib/b.ko", b"b")]))
    assert initramfs.read("usr/lib/a.ko") == b"new"
    assert "lib/b.ko" not in initramfs.entries
    assert initramfs.read("lib/b.ko") == b"b"
    replaced = cpio.read(ARCHIVE + make([Record("lib", b"", FOLDER)]))
    assert not replaced.has("lib/a.ko")
    assert replaced.has("usr/lib/a.ko")


def test_what_the_kernel_would_not_create() -> None:
    found = names(make([Record("no/such/folder/file", b"x"), Record("file", b"x"),
                        Record("file/below", b"x"), Record("dir", b"", FOLDER),
                        Record("dir/full", b""), Record("dir", b"no folder"),
                        Record("link", b"l" * 5000, LINK), Record(".", b"", FOLDER),
                        Record("dir/..", b"")]))
    assert found == {"file", "dir", "dir/full"}


def test_names_outside_stay_inside() -> None:
    found = names(make([Record("../../etc", b"", FOLDER), Record("/etc/passwd", b"x"),
                        Record("//a", b""), Record("etc/../../b", b"")]))
    assert found == {"etc", "etc/passwd", "a", "b"}


def test_links_and_dots_are_followed_as_by_the_kernel() -> None:
    initramfs = cpio.read(make([
        Record("usr", b"", FOLDER), Record("usr/lib", b"", FOLDER), Record("lib", b"usr/lib", LINK),
        Record("lib/../share", b"", FOLDER), Record("abs", b"/usr/lib", LINK),
        Record("up", b"usr/lib/../../usr", LINK), Record("abs/x", b"x")]))
    assert "usr/share" in initramfs.entries
    assert initramfs.read("up/lib/x") == b"x"


def test_a_loop_of_links() -> None:
    initramfs = cpio.read(make([Record("a", b"b", LINK), Record("b", b"a", LINK)]))
    with pytest.raises(HostileInput, match="loop"):
        initramfs.has("a/x")


def test_hard_links() -> None:
    group = {"links": 3, "inode": 77}
    initramfs = cpio.read(make([Record("a", b"", **group), Record("b", b"", **group),
                                Record("c", b"shared", **group), Record("other", b"1")]))
    assert [initramfs.read(name) for name in "abc"] == [b"shared"] * 3
    # Written through one name, the file changes under all of them.
    later = cpio.read(make([Record("a", b"", **group), Record("c", b"shared", **group)])
                      + make([Record("a", b"new")]))
    assert later.read("c") == b"new"


def test_splicing_breaks_hard_links() -> None:
    group = {"links": 2, "inode": 77}
    content = make([Record("a", b"", **group), Record("b", b"shared", **group)])
    initramfs = cpio.read(content)
    result = cpio.read(content + cpio.appendix(initramfs, {"a": b"new"}))
    assert (result.read("a"), result.read("b")) == (b"new", b"shared")


@pytest.mark.parametrize("pad", [1, 2, 3])
def test_alignment(pad: int) -> None:
    with pytest.raises(HostileInput, match="aligned"):
        cpio.read(ARCHIVE + bytes(pad) + ARCHIVE)
    with pytest.raises(HostileInput, match="aligned"):
        cpio.read(ARCHIVE + bytes(pad) + COMPRESS["gzip"](ARCHIVE))
    with pytest.raises(HostileInput, match="aligned"):
        cpio.read(COMPRESS["gzip"](ARCHIVE + bytes(pad) + ARCHIVE))
    packed = COMPRESS["xz"](ARCHIVE)
    assert cpio.read(packed + bytes(pad) + COMPRESS["gzip"](ARCHIVE)).has("init")


def header(**fields: bytes) -> bytes:
    names = ("ino", "mode", "uid", "gid", "nlink", "mtime", "filesize", "maj", "min", "rmaj",
             "rmin", "namesize", "check")
    values = {"mode": b"%08X" % FILE, "namesize": b"00000002", **fields}
    return b"070701" + b"".join(values.get(name, b"00000000") for name in names) + b"a\0"


@pytest.mark.parametrize("fields", [
    {"filesize": b"-0000070"}, {"filesize": b"0x000001"}, {"filesize": b"    0001"},
    {"filesize": b"FFFFFFFF"}, {"namesize": b"00000000"}, {"namesize": b"FFFFFFFF"},
    {"mode": b"zzzzzzzz"}, {"mode": b"1_000000"}, {"namesize": b"-0000006"}])
def test_damaged_header(fields: dict[str, bytes]) -> None:
    with pytest.raises(HostileInput):
        cpio.read(header(**fields) * 3 + ARCHIVE)


@pytest.mark.parametrize("content", [b"", bytes(4096), b"\x7fELF", b"0707", ARCHIVE[:-1],
                                     ARCHIVE[:50], make([Record("a", b"x")], trailer=False),
                                     ARCHIVE + b"junk", COMPRESS["gzip"](b"no cpio"),
                                     b"070707" + bytes(200)], ids=range(10))
def test_damaged(content: bytes) -> None:
    if content == ARCHIVE[:-1]:
        content = ARCHIVE[:-124]  # without the end of the last file
    with pytest.raises(HostileInput):
        cpio.read(content)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpio, "MAX_ENTRIES", 50)
    with pytest.raises(HostileInput, match="more than 50 entries"):
        cpio.read(make([Record("a", b"")] * 60))  # the same name counts each time
    monkeypatch.setattr(cpio, "MAX_MEMBERS", 5)
    with pytest.raises(HostileInput, match="members"):
        cpio.read(COMPRESS["gzip"](b"") * 10)
    with pytest.raises(HostileInput, match="deeper"):
        cpio.read(make([Record("/".join("a" * 300), b"")]))
    with pytest.raises(HostileInput, match="more than 0 MiB"):
        cpio.read(COMPRESS["gzip"](make([Record("a", bytes(5000))])), 1000)


def test_many_hard_links_take_linear_time() -> None:
    group = {"links": 9, "inode": 7}
    assert len(names(make([Record(f"f{i}", b"x", **group) for i in range(4_000)]))) == 4_000


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_noise(data: bytes) -> None:
    for content in (data, b"070701" + data, ARCHIVE + data):
        with suppress(HostileInput):
            cpio.read(content)


CHAINS = [MICROCODE + COMPRESS[kind](ARCHIVE) for kind in sorted(COMPRESS)]


@settings(max_examples=150, deadline=None)
@given(chain=st.sampled_from(CHAINS), at=st.floats(0, 0.9999), value=st.integers(0, 255),
       cut=st.floats(0, 1))
def test_mutated(chain: bytes, at: float, value: int, cut: float) -> None:
    content = bytearray(chain)
    content[int(at * len(content))] = value
    with suppress(HostileInput):
        cpio.read(bytes(content[:int(cut * len(content)) + 1]), 1 << 22)


# --- writing --------------------------------------------------------------------------------------

FILES = {"lib/modules/6.1/kernel/virtio.ko": b"virtio", "conf/modules": b"virtio_blk\n",
         "lib/a.ko": b"changed", "new": b""}


@pytest.mark.parametrize("size", range(4))
@pytest.mark.parametrize("kind", COMPRESS)
def test_appendix(kind: str, size: int) -> None:
    archive = make([Record("pad", b"x" * size), *tree({"usr/lib/a.ko": b"m"}, {"lib": "usr/lib"})])
    content = COMPRESS[kind](archive)
    before = cpio.read(content)
    added = cpio.appendix(before, FILES)
    after = cpio.read(content + added)
    for name, data in FILES.items():
        assert after.read(name) == data
    assert stat.S_ISLNK(after.entries["lib"].mode)
    assert after.read("pad") == b"x" * size
    assert {**cpio.with_files(before, FILES).entries}.keys() <= set(after.entries)
    if kind != "lz4":
        start = len(added) - len(added.lstrip(b"\0"))
        assert (len(content) + start) % 4 == 0
        assert start < 4
    # and once more
    again = cpio.read(content + added + cpio.appendix(after, {"new": b"2"}))
    assert again.read("new") == b"2"


def test_appendix_makes_only_missing_folders() -> None:
    before = cpio.read(ARCHIVE)
    archive = cpio.archive(before, {"lib/modules/x": b"", "usr/lib/b/c": b"", "conf/d": b""})
    # Read on its own nothing can be placed, because the folders that were there are missing.
    assert set(cpio.read(archive).entries) == set()
    assert set(cpio.read(ARCHIVE + archive).entries) - set(before.entries) == {
        "usr/lib/modules", "usr/lib/modules/x", "usr/lib/b", "usr/lib/b/c", "conf/d"}


@pytest.mark.parametrize("files", [{"init/below": b""}, {"usr/lib": b""}])
def test_appendix_in_the_way(files: dict[str, bytes]) -> None:
    with pytest.raises(HostileInput):
        cpio.appendix(cpio.read(ARCHIVE), files)


def test_nothing_goes_behind_padded_lz4() -> None:
    with pytest.raises(ImgconvError, match="padding"):
        cpio.appendix(cpio.read(lz4_legacy(ARCHIVE) + bytes(4)), FILES)


def test_lz4_alignment_counts_all_frames() -> None:
    # One byte short of alignment, in a stream of two frames.
    first = lz4_legacy(ARCHIVE + bytes(1))
    content = first + lz4_legacy(bytes(3) + make([Record("z", b"1")]) + bytes(1))
    result = cpio.read(content + cpio.appendix(cpio.read(content), {"new": b"2"}))
    assert result.read("new") == b"2"


# --- real tools -----------------------------------------------------------------------------------


@needs_cpio
def test_what_cpio_writes(tmp_path: Path) -> None:
    (tmp_path / "usr/lib/modules").mkdir(parents=True)
    (tmp_path / "lib").symlink_to("usr/lib")
    (tmp_path / "one").write_bytes(b"shared")
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    (tmp_path / "bl ank-é").write_bytes(b"x" * 1001)
    done = subprocess.run("find . -print0 | LC_ALL=C sort -z | cpio -0 -o -H newc --quiet",
                          shell=True, cwd=tmp_path, capture_output=True, check=True)
    initramfs = cpio.read(done.stdout)
    assert initramfs.read("one") == initramfs.read("two") == b"shared"
    assert initramfs.read("bl ank-é") == b"x" * 1001
    assert initramfs.resolve("lib/modules") == "usr/lib/modules"
    crc = subprocess.run("find . -print0 | cpio -0 -o -H crc --quiet", shell=True, cwd=tmp_path,
                         capture_output=True, check=True)
    assert cpio.read(crc.stdout).read("one") == b"shared"


@needs_cpio
def test_cpio_reads_what_we_write(tmp_path: Path) -> None:
    added = cpio.archive(cpio.read(ARCHIVE), FILES)
    subprocess.run(["cpio", "-i", "--quiet"], input=ARCHIVE, cwd=tmp_path, check=True)
    subprocess.run(["cpio", "-i", "-u", "--quiet"], input=added, cwd=tmp_path, check=True)
    assert (tmp_path / "lib").is_symlink()
    for name, content in FILES.items():
        assert (tmp_path / name).read_bytes() == content


@needs_cpio
@pytest.mark.skipif(shutil.which("unlz4") is None, reason="unlz4 is not installed")
def test_unlz4_reads_what_we_append(tmp_path: Path) -> None:
    content = lz4_legacy(ARCHIVE)
    content += cpio.appendix(cpio.read(content), FILES)
    done = subprocess.run(["unlz4", "-c"], input=content, capture_output=True, check=True)
    (tmp_path / "whole").write_bytes(done.stdout)
    assert cpio.read(done.stdout).read("conf/modules") == b"virtio_blk\n"


def test_struct_of_a_record() -> None:
    # The kernel's rule: name and content both end at a multiple of four.
    archive = cpio.archive(cpio.read(ARCHIVE), {"new": b"abc"})
    assert len(archive) % 4 == 0
    assert archive[110:114] == b"new\0"
    assert struct.unpack_from("8s", archive, 54)[0] == b"00000003"
