"""Every promise broken on purpose: verification of the disk alone must notice.

A mutation breaks the planner (or the disk, after applying); `verify` then runs unbroken. That
planning again would also notice is not counted here.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace

import pytest

from imgconv import linux, pipeline
from imgconv.guest.protocols import Reader
from imgconv.linux import cmdline, crypttab, fstab, initramfs, modindex
from imgconv.linux.bootloader import grub2
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs import check, cpio, initramfs_tools, splice
from imgconv.linux.modules import ModuleTree
from imgconv.model import AppendFile, Inspection, Level, Names, Options, Plan, WriteFile
from imgconv.verify import linux as verify
from tests.fake_guest import FakeGuest
from tests.guests import RELEASE, ROOT_UUID, SWAP_UUID, Legacy, module

LEGACY = Legacy(releases=(RELEASE, "5.9.0-1"), extra={
    "/etc/crypttab": "data /dev/sda2 none luks\n"})
INITRD = f"/boot/initrd.img-{RELEASE}"
FOLDER = f"usr/lib/modules/{RELEASE}"
BLK = f"{FOLDER}/kernel/drivers/block/virtio_blk.ko"

Patch = pytest.MonkeyPatch
Files = dict[str, bytes]


@dataclass(frozen=True, slots=True)
class Mutation:
    """`planner` breaks the code that plans; `spliced` changes the files that are spliced in, None
    for none; `disk` breaks the guest after applying. `caught` is in the finding's message."""

    name: str
    caught: str
    planner: Callable[[Patch], None] = lambda patch: None
    spliced: Callable[[Files], Files] | None = None
    disk: Callable[[FakeGuest], None] = lambda guest: None
    legacy: Legacy = LEGACY
    names: Names = Names.UUID

    def __str__(self) -> str:
        return self.name


def without(*endings: str) -> Callable[[Files], Files]:
    return lambda files: {name: data for name, data in files.items() if not name.endswith(endings)}


def with_module(*, release: str = RELEASE, machine: int = 62) -> Callable[[Files], Files]:
    made = module("virtio_blk", ("virtio", "virtio_ring"), ("virtio:d00000002v*",),
                  release=release, machine=machine)
    return lambda files: {name: made if name.endswith("/virtio_blk.ko") else data
                          for name, data in files.items()}


def no_closure(patch: Patch) -> None:
    patch.setattr(ModuleTree, "closure", lambda tree, names: tuple(
        tree.paths[name] for name in names if name in tree.paths))


def index_without(key: str, index: str) -> Callable[[Files], Files]:
    def change(files: Files) -> Files:
        return {name: modindex.write(item for item in modindex.read(data) if item.key != key)
                if name.endswith(index) else data for name, data in files.items()}
    return change


def no_trigger(files: Files) -> Files:
    return without("conf/modules", "modules.alias.bin", "modules.alias")(files)


def no_edit(module: ModuleType, name: str = "rewrite") -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(module, name, lambda text, renamer, **_: text)


def one_line_left(rewrite: Callable[[str, Renamer], str], which: int) -> Callable[[str, Renamer],
                                                                                  str]:
    """`rewrite` that leaves the `which`th line it changes as it was."""
    def broken(text: str, renamer: Renamer) -> str:
        before, after = text.split("\n"), rewrite(text, renamer).split("\n")
        changed = [at for at, line in enumerate(before) if after[at] != line]
        after[changed[which]] = before[changed[which]]
        return "\n".join(after)
    return broken


def left(module: ModuleType, which: int, name: str = "rewrite") -> Callable[[Patch], None]:
    return lambda patch: patch.setattr(module, name, one_line_left(getattr(module, name), which))


def replaced(path: str, old: str, new: str) -> Callable[[FakeGuest], None]:
    def change(guest: FakeGuest) -> None:
        assert old.encode() in guest.files[path]
        guest.files[path] = guest.files[path].replace(old.encode(), new.encode())
    return change


def cut(size: int) -> Callable[[FakeGuest], None]:
    def change(guest: FakeGuest) -> None:
        guest.files[INITRD] = guest.files[INITRD][:size]
    return change


def set_file(path: str, content: bytes) -> Callable[[FakeGuest], None]:
    return lambda guest: guest.write(path, content, 0o644)


def remove(guest: FakeGuest, path: str) -> None:
    del guest.files[path]


def unaligned(guest: FakeGuest) -> None:
    content = guest.files[INITRD]
    appended = content.index(b"070701")  # all before is compressed
    guest.files[INITRD] = content[:appended] + b"\0" + content[appended:]


def swapped_uuids(patch: Patch) -> None:
    real = Renamer.rename

    def rename(renamer: Renamer, spec: str, *, by_uuid: bool = True) -> str:
        name = real(renamer, spec, by_uuid=by_uuid)
        wrong = {f"UUID={ROOT_UUID}": f"UUID={SWAP_UUID}", f"UUID={SWAP_UUID}": f"UUID={ROOT_UUID}"}
        return wrong.get(name, name)
    patch.setattr(Renamer, "rename", rename)


def only_in(module: ModuleType) -> Callable[[Patch], None]:
    """The wrong UUIDs, but only in what `module` rewrites."""
    def change(patch: Patch) -> None:
        real = module.rewrite

        def rewrite(text: str, renamer: Renamer, **options: bool) -> str:
            with pytest.MonkeyPatch.context() as inner:
                swapped_uuids(inner)
                return str(real(text, renamer, **options))
        patch.setattr(module, "rewrite", rewrite)
    return change


def no_folders(patch: Patch) -> None:
    """An archive of files without the folders they are in: the kernel drops them silently."""
    real = cpio._record
    patch.setattr(cpio, "_record", lambda inode, name, mode, data: b"" if stat.S_ISDIR(mode)
                  else real(inode, name, mode, data))


def folder_over_link(guest: FakeGuest) -> None:
    """A folder entry `lib` in place of the symbolic link: nothing is found below it any more."""
    guest.files[INITRD] += b"\0" * (-len(guest.files[INITRD]) % 4) + cpio._record(
        1, "lib", 0o040755, b"") + cpio._record(0, "TRAILER!!!", 0, b"")


MUTATIONS = [
    Mutation("no dependency closure", "which virtio_", planner=no_closure),
    Mutation("dependency left out", "which virtio_", spliced=without("/virtio_ring.ko")),
    Mutation("no module", "virtio_blk is missing", spliced=without("/virtio_blk.ko")),
    Mutation("nothing loads it", "nothing in the initramfs loads", spliced=no_trigger),
    Mutation("nothing loads it without udev", "nothing in the initramfs loads",
             spliced=without("conf/modules"), legacy=replace(LEGACY, udev=False)),
    Mutation("dep index not merged", "does not know virtio_", spliced=without("modules.dep.bin")),
    Mutation("dep index without the driver", "does not know virtio_blk",
             spliced=index_without("virtio_blk", "modules.dep.bin")),
    Mutation("dep index garbage", "module index", spliced=lambda files: {
        name: b"\xb0\x07" if name.endswith("dep.bin") else data for name, data in files.items()}),
    Mutation("module of another release", "is for kernel 6.1.0-12",
             spliced=with_module(release="6.1.0-12-amd64")),
    Mutation("module of another architecture", "is for aarch64", spliced=with_module(machine=183)),
    Mutation("module cut off", "cut off", spliced=lambda files: {
        name: data[:-1] if name.endswith("virtio_blk.ko") else data
        for name, data in files.items()}),
    Mutation("module empty", "no ELF", spliced=lambda files: {
        name: b"" if name.endswith("virtio_blk.ko") else data for name, data in files.items()}),
    Mutation("another module under that name", "should be virtio_blk", spliced=lambda files: {
        name: module("loop") if name.endswith("virtio_blk.ko") else data
        for name, data in files.items()}),
    Mutation("archive without folders", "is missing", planner=no_folders),
    Mutation("folder in place of lib", "is missing", disk=folder_over_link),
    Mutation("resume inside the initramfs left", "inside the initramfs",
             spliced=without("conf.d/resume")),
    Mutation("splice not applied", "virtio_blk is missing",
             planner=lambda patch: patch.setattr(initramfs, "plan", lambda *_: ())),
    Mutation("splice of one of two kernels", "virtio_blk is missing", disk=lambda guest: set_file(
        "/boot/initrd.img-5.9.0-1", LEGACY.initramfs("5.9.0-1"))(guest)),
    Mutation("appended data cut off", "cpio archive", disk=cut(-200)),
    Mutation("appended data cut off in a module", "cpio archive", disk=cut(-6000)),
    Mutation("original data cut off", "data", disk=cut(2000)),
    Mutation("appended data not aligned", "aligned", disk=unaligned),
    Mutation("initramfs is garbage", "unknown kind", disk=set_file(INITRD, b"\xde\xad" * 5000)),
    Mutation("initramfs is empty", "is empty", disk=set_file(INITRD, b"")),
    Mutation("initramfs of zeros", "is empty", disk=set_file(INITRD, bytes(100_000))),
    Mutation("initramfs gone", "does not exist", disk=lambda guest: remove(guest, INITRD)),
    Mutation("raw archive behind lz4", "lz4", legacy=replace(LEGACY, compression="lz4"),
             planner=lambda patch: patch.setattr(
                 cpio, "appendix", lambda tree, files: b"\0" * (-tree.size % 4)
                 + cpio.archive(tree, files))),
    Mutation("fstab left", "/dev/sda1 is on none", planner=no_edit(fstab)),
    Mutation("root line of fstab left", "/dev/sda1 is on none", planner=left(fstab, 0)),
    Mutation("swap line of fstab left", "/dev/sda2 is on none", planner=left(fstab, 1)),
    Mutation("swap line left, by device", "/dev/sda2 is on none", planner=left(fstab, 1),
             names=Names.DEVICE),
    Mutation("wrong UUIDs in fstab", "and not what /dev/sda1 was", planner=only_in(fstab)),
    Mutation("UUID of nothing in fstab", "on none of the given disks", disk=replaced(
        "/etc/fstab", ROOT_UUID, "99999999-9999-4999-8999-999999999999")),
    Mutation("wrong disk in fstab", "/dev/vdb1 is on none", names=Names.DEVICE,
             disk=replaced("/etc/fstab", "/dev/vda1", "/dev/vdb1")),
    Mutation("line of fstab lost", "more than the names", disk=replaced(
        "/etc/fstab", "none            swap", "#")),
    Mutation("type in fstab changed", "more than the names", disk=replaced(
        "/etc/fstab", " ext4 ", " xfs ")),
    Mutation("crypttab left", "/dev/sda2 is on none", planner=no_edit(crypttab)),
    Mutation("wrong UUID in crypttab", "and not what /dev/sda2 was", planner=only_in(crypttab)),
    Mutation("line of crypttab lost", "more than the names", disk=set_file("/etc/crypttab", b"\n")),
    Mutation("grub.cfg left", "root=/dev/sda1 does not lead", planner=no_edit(
        grub2, "rewrite_config")),
    *(Mutation(f"boot entry {which} left", "root=/dev/sda1 does not lead",
               planner=left(grub2, which, "rewrite_config")) for which in range(5)),
    Mutation("wrong UUID in grub.cfg", f"root=UUID={SWAP_UUID} does not lead", planner=only_in(
        cmdline)),
    Mutation("wrong resume in grub.cfg", "is no swap", legacy=replace(LEGACY, extra={
        "/boot/grub/grub.cfg": LEGACY.grub_cfg().replace(" quiet", " quiet resume=/dev/sda2")}),
        disk=replaced("/boot/grub/grub.cfg", f"resume=UUID={SWAP_UUID}",
                      f"resume=UUID={ROOT_UUID}")),
    Mutation("resume in grub.cfg left", "resume=/dev/sda2 does not lead", disk=replaced(
        "/boot/grub/grub.cfg", " quiet", " quiet resume=/dev/sda2")),
    Mutation("root= lost", "no root=", disk=replaced(
        "/boot/grub/grub.cfg", f" root=UUID={ROOT_UUID}", "")),
    Mutation("UUID for a kernel without initramfs", "means nothing",
             legacy=Legacy(virtio="builtin", initrd=False),
             disk=replaced("/boot/grub/grub.cfg", "root=/dev/vda1", f"root=UUID={ROOT_UUID}")),
    Mutation("by-id names left", "ata-X-part1 does not lead", legacy=replace(LEGACY, extra={
        "/boot/grub/grub.cfg": LEGACY.grub_cfg().replace(
            "/dev/sda1", "/dev/disk/by-id/ata-X-part1")}), planner=no_edit(cmdline)),
    Mutation("by-path in fstab left", "ata-1-part2 is on none", legacy=replace(LEGACY, extra={
        "/etc/fstab": "/dev/disk/by-path/pci-0000:00:01.1-ata-1-part2 none swap sw 0 0\n"}),
        planner=no_edit(fstab)),
    Mutation("external log left", "/dev/sda2 is on none", legacy=replace(LEGACY, extra={
        "/etc/fstab": "/dev/sda1 / ext4 rw,journal_path=/dev/sda2 0 1\n"}),
        disk=replaced("/etc/fstab", "journal_path=/dev/vda2", "journal_path=/dev/sda2")),
    Mutation("/etc/default/grub left", "next boot entries", planner=no_edit(
        grub2, "rewrite_defaults")),
    Mutation("modules file not written", "would lose the drivers",
             planner=lambda patch: patch.setattr(initramfs_tools, "_with_modules",
                                                 lambda text, drivers: text)),
    Mutation("conf.d/resume left", "would lose the drivers",
             disk=set_file("/etc/initramfs-tools/conf.d/resume", b"RESUME=/dev/sda2\n")),
    Mutation("the kernel's modules gone", "has no driver", disk=lambda guest: set_file(
        f"/lib/modules/{RELEASE}/modules.dep", b"kernel/fs/ext4/ext4.ko:\n")(guest)),
]


def plan_with(mutation: Mutation, reader: Reader, inspection: Inspection) -> Plan:
    """The plan of the broken planner."""
    with pytest.MonkeyPatch.context() as patch:
        # Splicing proves its own result; a broken one must get as far as the disk.
        patch.setattr(splice, "check", SimpleNamespace(drivers=lambda *_: check.Result()))
        mutation.planner(patch)
        if mutation.spliced is not None:
            real, change = cpio.appendix, mutation.spliced
            patch.setattr(cpio, "appendix", lambda tree, files: real(tree, change(dict(files))))
        return linux.plan(reader, inspection, Options(names=mutation.names))


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_verification_notices(mutation: Mutation) -> None:
    guest, inspection = mutation.legacy.build()
    plan = plan_with(mutation, guest, inspection)
    pipeline.apply(guest, plan)
    mutation.disk(guest)
    findings = verify.verify(guest, inspection, plan)
    failed = [finding.message for finding in findings if finding.level is Level.FAILED]
    assert any(mutation.caught in message for message in failed), failed


@pytest.mark.parametrize("names", Names)
@pytest.mark.parametrize("legacy", {id(m.legacy): m.legacy for m in MUTATIONS}.values(),
                         ids=lambda legacy: legacy.label[:60])
def test_without_mutation_all_is_proven(legacy: Legacy, names: Names) -> None:
    guest, inspection = legacy.build()
    mutation = Mutation("none", "", names=names)
    plan = plan_with(mutation, guest, inspection)
    pipeline.apply(guest, plan)
    assert {f.level for f in verify.verify(guest, inspection, plan)} == {Level.PROVEN}
    assert {f.level for f in verify.verify(guest, inspection, Plan((), plan.capabilities))} == {
        Level.PROVEN}


def test_the_legacy_guest_itself_is_not_proven() -> None:
    guest, inspection = LEGACY.build()
    plan = linux.plan(guest, inspection, Options())
    failed = [f for f in verify.verify(guest, inspection, plan) if f.level is Level.FAILED]
    assert len(failed) > 10


def test_planning_again_is_a_finding() -> None:
    guest, inspection = LEGACY.build()
    finding = pipeline.planned_again(guest, inspection, Options())
    assert finding.level is Level.FAILED
    assert "/etc/fstab" in finding.evidence
    pipeline.apply(guest, linux.plan(guest, inspection, Options()))
    assert pipeline.planned_again(guest, inspection, Options()).level is Level.PROVEN


def test_what_was_wrong_before_is_a_warning() -> None:
    strange = "99999999-9999-4999-8999-999999999999"
    fstab_text = (f"/dev/sda1 / ext4 ro 0 1\nUUID={strange} /x ext4 ro 0 0\n"
                  f"UUID={ROOT_UUID} none swap sw 0 0\n/dev/sdz1 /y ext4 nofail 0 0\n")
    guest, inspection = Legacy(extra={"/etc/fstab": fstab_text}).build()
    plan = linux.plan(guest, inspection, Options())
    pipeline.apply(guest, plan)
    findings = [f for f in verify.verify(guest, inspection, plan) if f.level is not Level.PROVEN]
    assert {f.level for f in findings} == {Level.WARNING}
    assert len(findings) == 3


def test_changes_are_of_known_kinds() -> None:
    guest, inspection = LEGACY.build()
    assert {type(change) for change in linux.plan(guest, inspection, Options()).changes} == {
        WriteFile, AppendFile}
