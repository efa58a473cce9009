from __future__ import annotations

import shutil
import struct
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.errors import HostileInput
from imgconv.linux import modindex
from imgconv.linux.modindex import Item
from tests.guests import OTHERS, RELEASE, VIRTIO, Legacy, closure, indexes

DEPMOD, MODPROBE = (shutil.which(name, path="/sbin:/usr/sbin:/usr/bin")
                    for name in ("depmod", "modprobe"))
needs_kmod = pytest.mark.skipif(not DEPMOD or not MODPROBE, reason="kmod is not installed")
MODULES = VIRTIO | OTHERS

KEYS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.builds(Item, KEYS, st.integers(0, 2**32 - 1), VALUES), max_size=40))
def test_round_trip(items: list[Item]) -> None:
    assert sorted(modindex.read(modindex.write(items))) == sorted(set(items))


def test_values_come_by_priority() -> None:
    items = [Item("a", 7, "late"), Item("a", 2, "early"), Item("ab", 1, "x")]
    values = [item.value for item in modindex.read(modindex.write(items)) if item.key == "a"]
    assert values == ["early", "late"]


def test_what_cannot_be_written_is_left_out() -> None:
    items = [Item("é", 0, "x"), Item("a\0b", 0, "x"), Item("a", 0, "x\0y"), Item("k" * 401, 0, "x")]
    assert modindex.read(modindex.write(items)) == []
    assert modindex.read(modindex.write([Item("a", 1 << 40, "x")]))[0].priority == 0xFFFF_FFFF
    strange = Item("a", 0, b"kernel/\xff.ko:".decode("utf-8", "surrogateescape"))
    assert modindex.read(modindex.write([strange])) == [strange]


def test_deep_keys_need_no_deep_recursion() -> None:
    items = [Item("a" * length, 0, "m") for length in range(1, 401)]
    assert sorted(modindex.read(modindex.write(items))) == sorted(items)


@pytest.mark.parametrize(("alias", "normal"), [
    ("scsi:t-0x00*", "scsi:t_0x00*"), ("char-major-10-[0-9]-*", "char_major_10_[0-9]_*"),
    ("virtio:d00000002v*", "virtio:d00000002v*"), ("a-[b-", "a_[b_"), ("", "")])
def test_normalise_alias(alias: str, normal: str) -> None:
    assert modindex.normalise_alias(alias) == normal


def test_text() -> None:
    assert modindex.parse_dep("kernel/a.ko: kernel/b.ko.xz kernel/c.ko\nkernel/b.ko.xz:\nnoise\n"
                              "/lib/modules/2.6.26/kernel/d.ko: \\\n  /lib/modules/2.6.26/kernel/"
                              "e.ko\n") == {
        "kernel/a.ko": ("kernel/b.ko.xz", "kernel/c.ko"), "kernel/b.ko.xz": (),
        "kernel/d.ko": ("kernel/e.ko",)}
    assert modindex.parse_alias("# c\nalias a b\nalias c d e\nalias\nalias symbol:x y\n") == (
        ("a", "b"), ("symbol:x", "y"))
    assert modindex.module_name("kernel/x.kox/virtio-blk.ko.zst") == "virtio_blk"


# --- damage ---------------------------------------------------------------------------------------

GOOD = modindex.write([Item(f"key{i % 7}{i}", i, f"value{i}") for i in range(50)])


def index(root: int, body: bytes) -> bytes:
    return struct.pack(">III", 0xB007F457, 0x00020001, root) + body


@pytest.mark.parametrize("data", [
    b"", b"\xb0\x07\xf4\x57", GOOD[:11], b"\0" * 40, index(0x20000FFF, b""),
    struct.pack(">III", 0xB007F457, 0x00030001, 12),
    index(0x2000000C, b"aa" + struct.pack(">I", 0x2000000C)),  # a node that is its own child
    index(0x2000000C, b"za"),  # the last child before the first
    index(0x4000000C, struct.pack(">I", 0xFFFFFFFF) + b"\0\0\0\1x\0"),  # four billion values
    index(0x8000000C, b"k" * 100_000 + b"\0"),  # a key that never ends
])
def test_damaged(data: bytes) -> None:
    with pytest.raises(HostileInput):
        modindex.read(data)


def test_nodes_that_share_their_values_are_no_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    # 256 children, whose nodes begin 4 bytes apart and each hold the next 4096 (empty) values.
    monkeypatch.setattr(modindex, "_MAX_BYTES", 1 << 20)
    table = 12 + 2 + 4 * 256
    nodes = b"".join(struct.pack(">I", 0x4000_0000 | table + 4 * i) for i in range(256))
    with pytest.raises(HostileInput, match="more than one can"):
        modindex.read(index(0x2000_000C, b"\0\xff" + nodes + b"\0\0\x10\0" * 9000))


def test_deep_tree() -> None:
    nodes = b"".join(b"aa" + struct.pack(">I", 0x2000_0000 | 12 + 6 * (i + 1))
                     for i in range(5000))
    with pytest.raises(HostileInput):
        modindex.read(index(0x2000_000C, nodes + b"aa\0\0\0\0"))


@settings(max_examples=120, deadline=None)
@given(data=st.binary(max_size=200), at=st.floats(0, 0.999), value=st.integers(0, 255))
def test_noise(data: bytes, at: float, value: int) -> None:
    mutated = bytearray(GOOD)
    mutated[int(at * len(mutated))] = value
    for content in (data, GOOD[:8] + data, bytes(mutated)):
        with suppress(HostileInput):
            modindex.read(content)


# --- kmod -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kmod_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/lib/modules of a fake guest, indexed by the real depmod."""
    root = tmp_path_factory.mktemp("kmod")
    guest = Legacy()
    folder = root / "lib/modules" / RELEASE
    for name in guest.modules:
        path = folder / guest.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(guest.content(name, RELEASE))
    for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
        (folder / name).touch()
    subprocess.run([str(DEPMOD), "-b", root, RELEASE], check=True, capture_output=True)
    return root


@needs_kmod
def test_reads_what_depmod_writes(kmod_tree: Path) -> None:
    folder = kmod_tree / "lib/modules" / RELEASE
    dep = {item.key: item.value
           for item in modindex.read((folder / "modules.dep.bin").read_bytes())}
    text = modindex.parse_dep((folder / "modules.dep").read_text())
    assert {k: (p, *n) for k, v in dep.items() for p, n in modindex.parse_dep(v).items()} == {
        modindex.module_name(path): (path, *needs) for path, needs in text.items()}
    aliases = {(i.key, i.value)
               for i in modindex.read((folder / "modules.alias.bin").read_bytes())}
    assert aliases == {(modindex.normalise_alias(key), value) for key, value in
                       modindex.parse_alias((folder / "modules.alias").read_text())}
    assert ("scsi:t_0x00*", "sd_mod") in aliases
    for name in ("dep", "alias", "symbols"):
        items = modindex.read((folder / f"modules.{name}.bin").read_bytes())
        assert sorted(modindex.read(modindex.write(items))) == sorted(items)


def show_depends(root: Path, release: str, asked: str) -> list[str]:
    """The file names of the modules that modprobe would load, in order."""
    done = subprocess.run([str(MODPROBE), "-d", root, "-S", release, "--show-depends", asked],
                          capture_output=True, text=True, check=False)
    return [line.split()[1].rpartition("/")[2] for line in done.stdout.splitlines()]


@needs_kmod
@pytest.mark.parametrize(("asked", "loaded"), [
    ("virtio_blk", "virtio_blk"), ("virtio-pci", "virtio_pci"),
    ("virtio:d00000002v00001AF4", "virtio_blk"), ("scsi:t-0x00", "sd_mod"),
    ("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00", "virtio_pci"),
    ("symbol:virtio_register", "virtio")])
def test_modprobe_reads_what_we_write(kmod_tree: Path, tmp_path: Path, asked: str,
                                      loaded: str) -> None:
    folder = tmp_path / "lib/modules" / RELEASE
    shutil.copytree(kmod_tree / "lib/modules" / RELEASE, folder)
    for name, content in indexes(MODULES, ".ko", MODULES).items():
        (folder / name).unlink(missing_ok=True)
        if name.endswith(".bin"):
            (folder / name).write_bytes(content)
    order = show_depends(tmp_path, RELEASE, asked)
    assert set(order) == {f"{name}.ko" for name in [loaded, *closure(MODULES, loaded)]}
    assert order[-1] == f"{loaded}.ko"


@needs_kmod
def test_real_dependencies_survive_a_round_trip(tmp_path: Path) -> None:
    real = next(Path("/lib/modules").glob("*/modules.dep.bin"), None)
    if real is None:
        pytest.skip("this host has no modules")
    folder = tmp_path / "lib/modules" / real.parent.name
    folder.mkdir(parents=True)
    for name in real.parent.iterdir():
        if not name.name.startswith("modules.dep"):
            (folder / name.name).symlink_to(name)
    items = modindex.read(real.read_bytes())
    (folder / "modules.dep.bin").write_bytes(modindex.write(items))
    for asked in ("virtio_scsi", "ext4", "btrfs"):
        assert show_depends(tmp_path, real.parent.name, asked) == show_depends(
            Path("/"), real.parent.name, asked)


@needs_kmod
def test_modprobe_reads_an_empty_index(kmod_tree: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lib/modules" / RELEASE
    shutil.copytree(kmod_tree / "lib/modules" / RELEASE, folder)
    (folder / "modules.alias.bin").write_bytes(modindex.write([]))
    done = subprocess.run([str(MODPROBE), "-d", tmp_path, "-S", RELEASE, "-R", "virtio_blk"],
                          capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["virtio_blk"]
