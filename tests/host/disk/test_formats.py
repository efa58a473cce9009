"""Recognising images, and refusing what is odd, damaged or malicious with one clear error."""

from __future__ import annotations

import bz2
import os
import socket
import struct
from pathlib import Path

import pytest
from typer.testing import CliRunner

from imgconv.cli import app
from imgconv.disk.formats import detect, open_image
from imgconv.errors import ImgconvError, UsageError
from tests.host.disk.images import MIB, WRITABLE_FORMATS, make, qemu

BAD_IMAGES = Path(__file__).parents[4] / "shared" / "data" / "bad-images"
MAX_UNPACKED = 512 * MIB

VERDICTS = {  # the format it opens as, or a word of the refusal
    "afl5.img": "Max Table Entries too large",
    "afl9.vmdk": "L1 size too big",
    "d2v-zerofilled.vhd": "vpc",
    "empty.bochs": "Bochs",
    "grub_mbr.raw": "not complete",  # the first sector of a disk
    "hyperv2012r2-dynamic.vhd": "vpc",
    "iotest-dirtylog-10G-4M.vhdx": "not shut down cleanly",
    "iotest-dynamic-1G.vhdx": "vhdx",
    "iotest-version3.vmdk": "vmdk",
    "parallels-v1": "Parallels",
    "parallels-v2": "Parallels",
    "parallels-with-bitmap": "Parallels",
    "simple-dmg.dmg": "Apple",
    "simple-pattern.cloop": "cloop",
    "test-disk2vhd.vhdx": "vhdx",
    "virtualpc-dynamic.vhd": "vpc",
}


def unpack(packed: Path, target: Path) -> None:
    """Decompress into a sparse file, piece by piece."""
    decompressor, written, zeroes = bz2.BZ2Decompressor(), 0, bytes(MIB)
    with packed.open("rb") as source, target.open("wb") as file:
        while not decompressor.eof and written < MAX_UNPACKED:
            data = b"" if not decompressor.needs_input else source.read(1 << 16)
            piece = decompressor.decompress(data, MIB)
            if piece == (zeroes if len(piece) == MIB else bytes(len(piece))):
                file.seek(len(piece), os.SEEK_CUR)
            else:
                file.write(piece)
            written += len(piece)
        file.truncate(written)


def refused(path: Path, **options: object) -> ImgconvError:
    arguments: dict[str, object] = {"writable": False, **options}
    with pytest.raises(ImgconvError) as caught:
        open_image(path, **arguments)  # type: ignore[arg-type]
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.skipif(not BAD_IMAGES.is_dir(), reason="the shared test data is not here")
@pytest.mark.parametrize("name", VERDICTS)
def test_images_from_qemus_own_tests(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    unpack(BAD_IMAGES / f"{name}.bz2", path)
    verdict = VERDICTS[name]
    if verdict in WRITABLE_FORMATS:
        assert open_image(path, writable=False).format == verdict
    else:
        error = refused(path)
        assert verdict in error.message
        assert error.hint


@pytest.mark.skipif(not BAD_IMAGES.is_dir(), reason="the shared test data is not here")
def test_the_command_line_refuses_them(tmp_path: Path) -> None:
    """Those that do not open, and in several ways of asking, without an appliance: no traceback."""
    for name, verdict in VERDICTS.items():
        path = tmp_path / name
        unpack(BAD_IMAGES / f"{name}.bz2", path)
        before = path.stat()
        formats = ("raw", "qcow2", "vmdk", "vhdx") if verdict in WRITABLE_FORMATS else ("",)
        for fmt in formats:
            if fmt in ("raw", verdict):
                continue  # those open
            arguments = ["virtio-ize", str(path), *(["--input-format", fmt] if fmt else [])]
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 1, (name, fmt, result.output)
            assert result.stderr.startswith("error: "), (name, fmt)
            assert "internal error" not in result.stderr, (name, fmt)
        after = path.stat()
        assert (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def test_no_bad_image_is_forgotten() -> None:
    names = {path.stem for path in BAD_IMAGES.glob("*.bz2")}
    assert names <= set(VERDICTS)


@pytest.mark.parametrize("fmt", WRITABLE_FORMATS)
def test_every_format_opens(fmt: str, tmp_path: Path) -> None:
    image = open_image(make(tmp_path / "disk", fmt), writable=True)
    assert (image.format, image.virtual_size, image.references) == (fmt, 2 * MIB, ())


@pytest.mark.parametrize(("fmt", "options"), [
    ("qcow2", "compat=0.10"), ("qcow2", "compression_type=zstd"), ("qcow2", "extended_l2=on"),
    ("vpc", "subformat=fixed"), ("vhdx", "subformat=fixed"), ("vdi", "static=on"),
])
def test_subformats(fmt: str, options: str, tmp_path: Path) -> None:
    assert open_image(make(tmp_path / "disk", fmt, options=options), writable=True).format == fmt


def test_qcow2_with_internal_snapshots(tmp_path: Path) -> None:
    path = make(tmp_path / "disk", pattern=3)
    qemu("qemu-img", "snapshot", "-c", "before", path)
    assert open_image(path, writable=True).format == "qcow2"


def test_raw_of_odd_size_is_rounded_up_as_qemu_does(tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(b"x" * 1000)
    assert open_image(tmp_path / "disk", writable=True).virtual_size == 1024


def test_the_users_word_beats_the_magic(tmp_path: Path) -> None:
    path = make(tmp_path / "disk")
    assert open_image(path, input_format="raw", writable=False).format == "raw"
    assert "not a qcow2" in refused(make(tmp_path / "d", "raw"), input_format="qcow2").message
    assert "vdi" in refused(path, input_format="vdi").message
    with pytest.raises(UsageError):
        open_image(path, input_format="qed", writable=False)


# --- what is not a disk image -------------------------------------------------------------------


def test_files_that_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    (tmp_path / "loop").symlink_to("loop")
    for name, word in [("absent", "does not exist"), (".", "directory"), ("empty", "empty"),
                       ("fifo", "neither"), ("socket", "neither"), ("/dev/zero", "neither"),
                       ("loop", "symbolic links"), ("n" * 300, "too long"),
                       ("empty/x", "Not a directory")]:
        assert word in refused(tmp_path / name, writable=True).message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write anything")
def test_permissions(tmp_path: Path) -> None:
    path = make(tmp_path / "disk")
    path.chmod(0o400)
    assert open_image(path, writable=False)
    error = refused(path, writable=True)
    assert "cannot be written" in error.message
    assert "-o" in error.hint
    path.chmod(0)
    assert "cannot be read" in refused(path).message


@pytest.mark.parametrize(("offset", "magic", "word"), [
    (0, b"\x1f\x8b\x08", "gzip"), (0, b"\xfd7zXZ\0", "xz"), (0, b"BZh9", "bzip2"),
    (0, b"PK\3\4", "zip"), (257, b"ustar", "OVA"), (32769, b"CD001", "ISO 9660"),
    (0, b"<?xml", "OVF"), (0, b"COWD", "COWD"), (0, b"QFI\xfb\0\0\0\1", "version 1"),
    (0, b"QED\0", "QED"),
])
def test_other_files_are_recognised(offset: int, magic: bytes, word: str, tmp_path: Path) -> None:
    path = tmp_path / "it's a disk"
    path.write_bytes(bytes(offset) + magic + bytes(65536))
    error = refused(path)
    assert word in error.message
    assert error.hint
    assert open_image(path, input_format="raw", writable=False).format == "raw"


# --- damaged, encrypted, absurd -----------------------------------------------------------------


def patch(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@pytest.mark.parametrize(("offset", "data", "word"), [
    (24, bytes(8), "has no size"),
    (24, struct.pack(">Q", 1 << 62), "QEMU cannot open"),
    (32, struct.pack(">I", 2), "encrypted"),
    (72, struct.pack(">Q", 2), "corrupt"),
    (72, struct.pack(">Q", 1 << 40), "QEMU cannot open"),
    (4, struct.pack(">I", 9), "version 9"),
    (20, struct.pack(">I", 60), "cluster size"),
    (8, struct.pack(">QI", 1 << 40, 10), "out of bounds"),
    (36, struct.pack(">I", 0xFFFFFFFF), "QEMU cannot open"),
])
def test_qcow2_headers(offset: int, data: bytes, word: str, tmp_path: Path) -> None:
    path = make(tmp_path / "disk")
    patch(path, offset, data)
    error = refused(path)
    assert word in error.message
    assert error.hint or "version" in word


def test_truncated_qcow2(tmp_path: Path) -> None:
    path = make(tmp_path / "disk")
    os.truncate(path, 40)
    assert "truncated" in refused(path).message


def test_absurd_size(tmp_path: Path) -> None:
    path = make(tmp_path / "disk", options="cluster_size=2M", size=(1 << 50) + 512)
    assert "over 1 PiB" in refused(path).message


def test_differencing_vhd(tmp_path: Path) -> None:
    """Without its parent it is no disk; the footer says so."""
    path = make(tmp_path / "disk", "vpc")
    footer = bytearray(path.read_bytes()[:512])
    footer[60:64] = struct.pack(">I", 4)
    footer[64:68] = bytes(4)
    footer[64:68] = struct.pack(">I", ~sum(footer) & 0xFFFFFFFF)
    patch(path, 0, bytes(footer))
    assert "differencing" in refused(path).message


def test_a_guest_cannot_turn_its_raw_disk_into_a_vhd_by_accident(tmp_path: Path) -> None:
    path = make(tmp_path / "disk", "raw")
    patch(path, 2 * MIB - 512, b"conectix")
    assert detect(path) == "raw"


# --- images made of several files ---------------------------------------------------------------


def test_backing_chain(tmp_path: Path) -> None:
    base = make(tmp_path / "base.raw", "raw")
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.raw", "-F", "raw", "middle",
         cwd=tmp_path)
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-b", tmp_path / "middle", "-F", "qcow2",
         tmp_path / "top")
    image = open_image(tmp_path / "top", writable=True)
    assert image.references == (tmp_path / "middle", base)
    base.unlink()
    assert "needs the file base.raw" in refused(tmp_path / "top").message


def test_backing_file_beside_the_link_to_an_image(tmp_path: Path) -> None:
    """As QEMU does: the link's directory counts, for relative names."""
    (tmp_path / "store").mkdir()
    make(tmp_path / "base", "raw")
    overlay(tmp_path / "store" / "top", "base", "raw")
    (tmp_path / "link").symlink_to("store/top")
    assert open_image(tmp_path / "link", writable=True).references == (tmp_path / "base",)
    assert "needs the file" in refused(tmp_path / "store" / "top").message


def overlay(path: Path, backing: str, fmt: str) -> Path:
    qemu("qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", backing, "-F", fmt, path, "2M")
    return path


def without_format(path: Path, backing: str) -> Path:
    """A qcow2 as old qemu-img made them: the extension's type is made an unknown one."""
    data = bytearray(overlay(path, backing, "raw").read_bytes())
    at = data.index(struct.pack(">I", 0xE2792ACA))
    data[at:at + 4] = b"\x12\x34\x56\x78"
    path.write_bytes(data)
    return path


def test_backing_file_without_recorded_format(tmp_path: Path) -> None:
    make(tmp_path / "base", "vmdk")
    error = refused(without_format(tmp_path / "top", "base"))
    assert "does not record the format" in error.message
    assert "qemu-img rebase -u -f qcow2 -F vmdk -b base" in error.hint


@pytest.mark.parametrize("backing", [
    "/etc/passwd", "../outside", "link-out", "sub/../../outside", "nbd:localhost:1",
    'json:{"driver":"file","filename":"/etc/passwd"}', "https://example.org/x", "file:base",
    "link-loop",
])
def test_references_are_confined(backing: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    make(tmp_path / "outside", "raw")
    make(home / "base", "raw")
    (home / "link-out").symlink_to(tmp_path / "outside")
    (home / "link-loop").symlink_to("link-loop")
    path = overlay(home / "disk", backing, "raw")
    assert backing in refused(path).message
    if "outside" in backing or backing == "link-out":
        image = open_image(path, writable=False, allow_external_files=True)
        assert image.references[0].samefile(tmp_path / "outside")
    elif ":" in backing:
        assert "plain file name" in refused(path, allow_external_files=True).message


def test_the_confinement_holds_below_the_first_backing_file(tmp_path: Path) -> None:
    overlay(tmp_path / "middle", "/etc/passwd", "raw")
    assert "/etc/passwd" in refused(overlay(tmp_path / "top", "middle", "qcow2")).message


@pytest.mark.parametrize(("backing", "fmt", "word"), [
    ("disk", "qcow2", "loop"), ("base", "qed", "unsupported format"), ("base", "qcow2", "base"),
    ("", "raw", "disk"),
])
def test_broken_chains(backing: str, fmt: str, word: str, tmp_path: Path) -> None:
    make(tmp_path / "base", "raw")
    path = overlay(tmp_path / "disk", "base", "qcow2" if fmt == "qed" else fmt)
    if backing == "disk":
        overlay(path, "disk", fmt)
    if fmt == "qed":
        path.write_bytes(path.read_bytes().replace(b"\xe2\x79\x2a\xca\0\0\0\5qcow2",
                                                   b"\xe2\x79\x2a\xca\0\0\0\3qed\0\0"))
    if backing == "":
        (tmp_path / "base").unlink()
        (tmp_path / "base").mkdir()
    assert word in refused(path).message


def test_external_data_file(tmp_path: Path) -> None:
    data = tmp_path / "data.raw"
    path = make(tmp_path / "disk", options=f"data_file={data}")
    assert open_image(path, writable=True).references == (data,)
    away = tmp_path / "away"
    away.mkdir()
    path = path.rename(away / "disk")
    assert "outside" in refused(path).message
    assert open_image(path, writable=True, allow_external_files=True).references == (data,)


def test_relative_data_file_would_depend_on_qemus_working_directory(tmp_path: Path) -> None:
    qemu("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file=data.raw", "disk", "1M",
         cwd=tmp_path)
    error = refused(tmp_path / "disk")
    assert "no absolute name" in error.message
    command = error.hint.partition(": ")[2].replace('"$PWD"', str(tmp_path)).split()
    qemu(*command, cwd=tmp_path)
    assert open_image(tmp_path / "disk", writable=True).references == (tmp_path / "data.raw",)


# --- vmdk ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"])
def test_vmdk_extents(kind: str, tmp_path: Path) -> None:
    path = make(tmp_path / "disk.vmdk", "vmdk", options=f"subformat={kind}")
    image = open_image(path, writable=True)
    assert image.format == "vmdk"
    assert {*image.references, path} == set(tmp_path.iterdir())


def descriptor(path: Path, extents: str, extra: str = "") -> Path:
    path.write_text("# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\n"
                    f'createType="monolithicFlat"\n{extra}\n{extents}\n')
    return path


@pytest.mark.parametrize("extents", [
    'RW 8 FLAT "/etc/passwd" 0', 'RW\n8\nFLAT\n"/etc/passwd" 0', 'RW 8 FLAT "../outside" 0',
    'RW 8 VMFS "/etc/passwd"', '  RW +8SPARSE "/etc/passwd"', 'RW 8 FLAT "a:/../../x" 0',
    'RW 8 FLAT "ok" 0\nRW 8 FLAT "link" 0',
])
def test_vmdk_extents_are_confined(extents: str, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    make(tmp_path / "outside", "raw")
    make(home / "ok", "raw")
    (home / "link").symlink_to("/etc/passwd")
    assert "outside its own" in refused(descriptor(home / "disk.vmdk", extents)).message


def sparse_with_descriptor_inside(path: Path) -> Path:
    """A sparse header without capacity: QEMU then reads extents from the text at sector 1."""
    header = struct.pack("<4sIIQQQQ", b"KDMV", 1, 3, 0, 128, 1, 20).ljust(512, b"\0")
    text = descriptor(path, 'RW 8 FLAT "/etc/passwd" 0').read_bytes()
    path.write_bytes(header + text.ljust(20 * 512, b"\0"))
    return path


def test_vmdk_whose_sparse_header_names_extents(tmp_path: Path) -> None:
    inner = sparse_with_descriptor_inside(tmp_path / "inner.vmdk")
    assert "in other files" in refused(inner).message
    outer = descriptor(tmp_path / "outer.vmdk", 'RW 8 SPARSE "inner.vmdk"')
    assert "further extents" in refused(outer).message


def test_vmdk_parent(tmp_path: Path) -> None:
    base = make(tmp_path / "base.vmdk", "vmdk")
    child = tmp_path / "child.vmdk"
    qemu("qemu-img", "create", "-q", "-f", "vmdk", "-b", base, "-F", "vmdk", child)
    assert open_image(child, writable=True).references == (base,)
    make(base, "qcow2")
    assert "no vmdk" in refused(child).message
    base.unlink()
    base.symlink_to("/etc/passwd")
    assert "outside" in refused(child).message


def test_stream_optimised_vmdk_is_read_only(tmp_path: Path) -> None:
    path = make(tmp_path / "disk.vmdk", "vmdk", options="subformat=streamOptimized")
    assert open_image(path, writable=False).format == "vmdk"
    error = refused(path, writable=True)
    assert "streamOptimized" in error.message
    assert "-o" in error.hint
