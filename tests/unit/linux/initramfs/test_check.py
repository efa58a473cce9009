"""What makes an initramfs complete, and splicing one until it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from imgconv.errors import ImgconvError
from imgconv.linux import modindex, modules
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import check, cpio, detect, dracut, initramfs_tools, splice
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import KMOD
from imgconv.linux.kernels import Kernel
from imgconv.linux.modindex import Item
from imgconv.linux.modules import ModuleTree
from imgconv.model import Bus, Names
from tests.fake_guest import FakeGuest
from tests.guests import RELEASE, Legacy, module

DRIVERS = ("virtio_pci", "virtio_blk")
FOLDER = f"usr/lib/modules/{RELEASE}"
BLK = f"{FOLDER}/kernel/drivers/block/virtio_blk.ko"
PATH = f"/boot/initrd.img-{RELEASE}"


def opened(legacy: Legacy) -> tuple[FakeGuest, Initramfs, ModuleTree, Renamer]:
    guest, inspection = legacy.build()
    return (guest, cpio.read(guest.files[PATH]), modules.read(guest, RELEASE),
            Renamer.of(inspection, Names.UUID, Bus.VIRTIO_BLK))


def spliced(legacy: Legacy, drivers: tuple[str, ...] = DRIVERS) -> tuple[Initramfs, ModuleTree]:
    guest, initramfs, tree, renamer = opened(legacy)
    change = splice.plan(guest, PATH, initramfs, tree, "x86_64", renamer, drivers, initramfs_tools)
    return cpio.read(guest.files[PATH] + change.content), tree


def problems(initramfs: Initramfs, tree: ModuleTree, drivers: tuple[str, ...] = DRIVERS,
             arch: str = "x86_64") -> list[str]:
    return check.drivers(initramfs, tree, arch, drivers, initramfs_tools).problems


def changed(initramfs: Initramfs, files: Mapping[str, bytes | None]) -> Initramfs:
    """`initramfs` with files replaced, or gone for None."""
    kept = {name: entry for name, entry in initramfs.entries.items()
            if files.get(name, b"") is not None}
    return cpio.with_files(replace(initramfs, entries=kept),
                           {name: data for name, data in files.items() if data is not None})


def test_a_legacy_initramfs_lacks_everything() -> None:
    _, initramfs, tree, _ = opened(Legacy())
    found = problems(initramfs, tree)
    assert any("module virtio_blk is missing" in text for text in found)
    assert any("does not know virtio_pci" in text for text in found)


@pytest.mark.parametrize("legacy", [
    Legacy(), Legacy(usrmerge=False), Legacy(suffix=".ko.xz"), Legacy(compression="lz4"),
    Legacy(udev=False), Legacy(in_initramfs=()),
    Legacy(in_initramfs=("virtio", "virtio_ring", "virtio_blk")), Legacy(microcode=True)])
@pytest.mark.parametrize("drivers", [DRIVERS, ("virtio_pci", "virtio_scsi", "sd_mod")])
def test_splicing_makes_it_complete(legacy: Legacy, drivers: tuple[str, ...]) -> None:
    initramfs, tree = spliced(legacy, drivers)
    result = check.drivers(initramfs, tree, "x86_64", drivers, initramfs_tools)
    assert result.problems == []
    assert any("is loaded by conf/modules" in text for text in result.evidence)
    before = cpio.read(legacy.build()[0].files[PATH])
    for name in before.below(KMOD.folder(before, RELEASE)):
        if name.endswith((".ko", ".xz")):
            assert initramfs.read(name) == before.read(name)
    folder = KMOD.folder(initramfs, RELEASE)
    text = modindex.parse_dep((initramfs.read(f"{folder}/modules.dep") or b"").decode())
    binary = modindex.read(initramfs.read(f"{folder}/modules.dep.bin") or b"")
    assert {item.key for item in binary} == {modindex.module_name(path) for path in text}


def test_a_folder_named_like_a_module_is_no_module() -> None:
    # kernel/drivers/virtio is a folder; the module virtio.ko in it is missing.
    initramfs, tree = spliced(Legacy(in_initramfs=("virtio_ring",)))
    assert initramfs.read(f"{FOLDER}/kernel/drivers/virtio/virtio.ko")
    assert problems(initramfs, tree) == []


def test_text_indexes_without_binary_ones_are_not_lost() -> None:
    guest, initramfs, tree, _ = opened(Legacy())
    bare = changed(initramfs, {f"{FOLDER}/modules.{name}.bin": None
                               for name in ("dep", "alias", "symbols")})
    assert not bare.has(f"{FOLDER}/modules.dep.bin")
    files = KMOD.files(guest, bare, tree, tree.closure(DRIVERS))
    keys = {item.key for item in modindex.read(files[f"{FOLDER}/modules.dep.bin"])}
    assert {"ext4", "ata_piix", "virtio_blk"} <= keys


def test_aliases_are_written_as_kmod_looks_them_up() -> None:
    initramfs, _ = spliced(Legacy(in_initramfs=()), ("virtio_pci", "virtio_scsi", "sd_mod"))
    keys = {item.key for item in modindex.read(
        initramfs.read(f"{FOLDER}/modules.alias.bin") or b"")}
    assert "scsi:t_0x00*" in keys
    assert "scsi:t-0x00*" not in keys


GOOD, TREE = spliced(Legacy())
DEP = GOOD.read(f"{FOLDER}/modules.dep.bin") or b""
ALIAS = GOOD.read(f"{FOLDER}/modules.alias.bin") or b""


def without(data: bytes, key: str) -> bytes:
    return modindex.write(item for item in modindex.read(data) if item.key != key)


@pytest.mark.parametrize(("files", "problem"), [
    ({BLK: None}, "virtio_blk is missing"),
    ({f"{FOLDER}/kernel/drivers/virtio/virtio_ring.ko": None}, "virtio_ring, which virtio_"),
    ({BLK: b"\x7fELF\2\1"}, "damaged"), ({BLK: b""}, "no ELF"),
    ({BLK: module("virtio_blk", ("virtio",), release="6.1.0-12-amd64")}, "is for kernel 6.1.0-12"),
    ({BLK: module("virtio_blk", ("virtio",), machine=183)}, "is for aarch64, not x86_64"),
    ({BLK: module("loop")}, "should be virtio_blk is loop"),
    ({BLK: module("virtio_blk", ("virtio", "virtio_ring", "unheard"))},
     "unheard, which virtio_blk"),
    ({f"{FOLDER}/modules.dep.bin": without(DEP, "virtio_blk")}, "does not know virtio_blk"),
    ({f"{FOLDER}/modules.dep.bin": modindex.write(
        [*modindex.read(without(DEP, "virtio_blk")),
         Item("virtio_blk", 1, "kernel/drivers/block/virtio_blk.ko:")])},
     "does not say that virtio_"),
    ({f"{FOLDER}/modules.dep.bin": DEP[:-9]}, "damaged"),
    ({f"{FOLDER}/modules.dep.bin": modindex.write(
        [*modindex.read(without(DEP, "virtio_blk")),
         Item("virtio_blk", 1, "updates/virtio_blk.ko:")])},
     "updates/virtio_blk.ko, which is not there"),
    ({"etc/modprobe.d/x.conf": b"blacklist virtio-blk\n"}, "kept from being loaded"),
    ({"usr/lib/modprobe.d/x.conf": b"install virtio_blk /bin/false\n"}, "kept from being loaded"),
])
def test_problems(files: Mapping[str, bytes | None], problem: str) -> None:
    found = problems(changed(GOOD, files), TREE)
    assert any(problem in text for text in found), found


NO_LIST = {"conf/modules": b"# nothing\n"}
NO_ALIAS = {f"{FOLDER}/modules.alias.bin": without(ALIAS, "virtio:d00000002v*")}
NO_UDEV = {"usr/lib/systemd/systemd-udevd": None}
NO_RULES = {"usr/lib/udev/rules.d/80-drivers.rules": None}


@pytest.mark.parametrize(("files", "loaded"), [
    ({}, True), (NO_LIST, True), (NO_ALIAS, True), (NO_UDEV, True), (NO_LIST | NO_ALIAS, False),
    (NO_LIST | NO_UDEV, False), (NO_LIST | NO_RULES, False)])
def test_something_must_load_the_driver(files: Mapping[str, bytes | None], loaded: bool) -> None:
    found = problems(changed(GOOD, files), TREE, ("virtio_blk",))
    assert found == ([] if loaded else ["nothing in the initramfs loads virtio_blk"])


def test_built_in_drivers_need_nothing() -> None:
    _, initramfs, tree, _ = opened(Legacy(virtio="builtin"))
    assert problems(initramfs, tree) == []


def test_the_kernel_goes_by_the_index_and_not_by_a_file_of_that_name() -> None:
    other = f"{FOLDER}/updates/virtio_blk.ko"
    wrong = module("virtio_blk", ("virtio", "virtio_ring"), release="1.0")
    moved = modindex.write([*modindex.read(without(DEP, "virtio_blk")), Item(
        "virtio_blk", 1, "updates/virtio_blk.ko: kernel/drivers/virtio/virtio_ring.ko "
        "kernel/drivers/virtio/virtio.ko")])
    found = problems(changed(GOOD, {other: wrong, f"{FOLDER}/modules.dep.bin": moved}), TREE)
    assert found == [f"virtio_blk is for kernel 1.0, not {RELEASE}"]


@pytest.mark.parametrize("files", [
    {BLK: module("virtio_blk", ("virtio", "virtio_ring"), release="1.0")},
    {f"{FOLDER}/modules.dep.bin": b"garbage"}, {"usr/lib/modprobe.d/x": b"blacklist virtio_blk"}])
def test_splicing_that_would_not_help_is_refused(files: Mapping[str, bytes]) -> None:
    guest, initramfs, tree, renamer = opened(Legacy())
    with pytest.raises(ImgconvError):
        splice.plan(guest, PATH, changed(initramfs, files), tree, "x86_64", renamer, DRIVERS,
                    initramfs_tools)


def test_splicing_needs_the_modules() -> None:
    guest, initramfs, tree, renamer = opened(Legacy(virtio="absent"))
    with pytest.raises(ImgconvError, match="no module"):
        splice.plan(guest, PATH, initramfs, tree, "x86_64", renamer, DRIVERS, initramfs_tools)


def test_hostile_priorities() -> None:
    guest, initramfs, tree, renamer = opened(Legacy())
    high = modindex.write([Item("x", 0xFFFF_FFFF, "kernel/x.ko:")])
    change = splice.plan(guest, PATH, changed(initramfs, {f"{FOLDER}/modules.dep.bin": high}), tree,
                         "x86_64", renamer, DRIVERS, initramfs_tools)
    assert change.content


# --- initramfs-tools ------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "text", "after"), [
    ("conf/conf.d/resume", "RESUME=/dev/sda2\n", "RESUME=UUID={swap}\n"),
    ("conf/conf.d/x", 'export RESUME="/dev/hda2"', 'export RESUME="UUID={swap}"'),
    ("conf/param.conf", "ROOT=/dev/sda1\n", "ROOT=UUID={root}\n"),
    ("conf/conf.d/cryptroot", "target=root,source=/dev/sda1,key=none\n",
     "target=root,source=UUID={root},key=none\n"),
    ("cryptroot/crypttab", "x /dev/sda2 none luks\n", "x UUID={swap} none luks\n"),
    ("conf/conf.d/x", "# RESUME=/dev/sda2\nRESUME=none\nRESUME=auto\n", None),
    ("conf/other", "RESUME=/dev/sda2\n", None)])
def test_names_inside(path: str, text: str, after: str | None) -> None:
    _, initramfs, _, renamer = opened(Legacy())
    there = changed(initramfs, {"conf/conf.d/resume": b"", path: text.encode()})
    found = initramfs_tools.additions(there, renamer, ())
    filesystems = renamer.filesystems
    wanted = {} if after is None else {path: after.format(
        root=filesystems[0].uuid, swap=filesystems[1].uuid).encode()}
    assert found == wanted
    assert bool(check.names(there, renamer, initramfs_tools).problems) is bool(wanted)


def test_modules_file() -> None:
    def persisted(text: str | None, policy: str = "list") -> bytes | None:
        guest = FakeGuest({"/etc/initramfs-tools/conf.d/policy": f"MODULES={policy}\n"}
                          | ({} if text is None else {"/etc/initramfs-tools/modules": text}))
        renamer = Renamer((), Names.UUID, Bus.VIRTIO_BLK)
        changes = initramfs_tools.persist(guest, renamer, DRIVERS)
        return changes[0].content if changes else None
    assert persisted(None) == persisted("") == b"virtio_pci\nvirtio_blk\n"
    assert persisted("# virtio_blk\next4") == b"# virtio_blk\next4\nvirtio_pci\nvirtio_blk\n"
    assert persisted("virtio-blk arg=1 # why\n\tvirtio_pci") is None
    assert persisted("", "dep") == persisted("")
    assert persisted("", "most") is None  # which brings them along


@pytest.mark.parametrize(("setting", "overridden"), [("most", False), ("dep", True),
                                                     ("list", False)])
def test_rebuild(setting: str, overridden: bool) -> None:
    guest, _, tree, _ = opened(Legacy(extra={
        "/etc/initramfs-tools/conf.d/driver-policy": f'MODULES="{setting}"\n'}))
    kernel = Kernel(RELEASE, "/k", (PATH,), tree, ())
    edits, command = initramfs_tools.rebuild(guest, kernel, DRIVERS)
    assert bool(edits) is overridden
    assert command.argv == ("update-initramfs", "-u", "-k", RELEASE)


def test_detect() -> None:
    assert detect(FakeGuest({"/usr/sbin/mkinitramfs": ""})) is initramfs_tools
    assert detect(FakeGuest({"/usr/sbin/update-initramfs": "", "/usr/bin/dracut": ""})) is dracut
