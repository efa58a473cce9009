"""The whole plan on a whole fake guest: what it does, that it is proven, that it is done once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv import linux, pipeline
from imgconv.errors import CannotConvert, HostileInput
from imgconv.linux import survey
from imgconv.linux.initramfs import cpio
from imgconv.model import (
    AppendFile,
    Bus,
    Finding,
    InitramfsMode,
    Inspection,
    Level,
    Names,
    Options,
    Plan,
    RunInGuest,
    WriteFile,
)
from tests.fake_guest import FakeGuest
from tests.guests import (
    COMPRESS,
    RELEASE,
    ROOT_UUID,
    SWAP_UUID,
    Legacy,
    lines_that_differ,
    tree,
)
from tests.guests import cpio as archive

INITRD = f"/boot/initrd.img-{RELEASE}"
SPLICE = Options(initramfs=InitramfsMode.SPLICE)


def converted(legacy: Legacy, options: Options = SPLICE) -> tuple[
        FakeGuest, Inspection, Plan, tuple[Finding, ...]]:
    guest, inspection = legacy.build()
    plan = pipeline.planned(guest, inspection, options)
    pipeline.apply(guest, plan)
    return guest, inspection, plan, pipeline.verified(guest, inspection, options, plan)


def not_proven(findings: tuple[Finding, ...]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.PROVEN]


VARIANTS = [
    *(Legacy(compression=kind) for kind in COMPRESS), Legacy(disk="hda"), Legacy(names="uuid"),
    Legacy(virtio="builtin"), Legacy(virtio="builtin", initrd=False), Legacy(microcode=True),
    *(Legacy(suffix=suffix) for suffix in (".ko.gz", ".ko.xz", ".ko.zst")),
    Legacy(separate_boot=True), Legacy(usrmerge=False), Legacy(udev=False), Legacy(uuids=False),
    Legacy(releases=("5.10.0-9", "5.9.0-1", "4.19.0-27")), Legacy(second_disk=True, disk="hda"),
    Legacy(in_initramfs=()), Legacy(disk="xvda"), Legacy(disk="vda"),
    Legacy(arch="i386"),  # a 32-bit system with a 64-bit kernel
]


ASKED = [Options(names, block, InitramfsMode.SPLICE) for names in Names
         for block in (Bus.VIRTIO_BLK, Bus.VIRTIO_SCSI)]


@pytest.mark.parametrize(("legacy", "options"), [
    *((legacy, SPLICE) for legacy in VARIANTS),
    *((legacy, options) for legacy in (Legacy(), Legacy(disk="hda")) for options in ASKED)],
    ids=lambda value: value.label if isinstance(value, Legacy) else f"{value.names}-{value.block}")
def test_converted_proven_and_done_once(legacy: Legacy, options: Options) -> None:
    guest, inspection, plan, findings = converted(legacy, options)
    assert not_proven(findings) == []
    assert plan.capabilities.block is options.block
    before = dict(guest.files)
    again = pipeline.planned(guest, inspection, options)
    assert again.changes == ()
    pipeline.apply(guest, again)
    assert guest.files == before
    assert guest.ran == []


OPTIONS = st.builds(Options, names=st.sampled_from(Names), initramfs=st.just(InitramfsMode.SPLICE),
                    block=st.sampled_from([Bus.VIRTIO_BLK, Bus.VIRTIO_SCSI]))
GUESTS = st.builds(
    Legacy, disk=st.sampled_from(["sda", "hda", "xvda"]), names=st.sampled_from(["device", "uuid"]),
    compression=st.sampled_from(sorted(COMPRESS)), suffix=st.sampled_from([".ko", ".ko.gz"]),
    microcode=st.booleans(), separate_boot=st.booleans(), usrmerge=st.booleans(),
    udev=st.booleans(), second_disk=st.booleans(), uuids=st.booleans(),
    virtio=st.sampled_from(["module", "builtin"]),
    in_initramfs=st.lists(st.sampled_from(["virtio", "virtio_ring", "virtio_blk", "scsi_mod",
                                           "ext4"]), unique=True).map(tuple),
    releases=st.sampled_from([(RELEASE,), ("5.10.0-9", "5.9.0-1")])).filter(
        lambda legacy: legacy.uuids or legacy.names == "device")


@settings(max_examples=15, deadline=None)
@given(GUESTS, OPTIONS)
def test_any_combination(legacy: Legacy, options: Options) -> None:
    guest, inspection, _, findings = converted(legacy, options)
    assert [f for f in findings if f.level is Level.FAILED] == []
    assert pipeline.planned(guest, inspection, options).changes == ()


def test_what_changes() -> None:
    guest, _, plan, _ = converted(Legacy())
    assert [getattr(change, "path", "") for change in plan.changes] == [
        "/etc/fstab", "/boot/grub/grub.cfg", "/etc/default/grub", "/etc/initramfs-tools/modules",
        "/etc/initramfs-tools/conf.d/resume", INITRD]
    for change in plan.changes:
        assert change.why
        if isinstance(change, WriteFile) and not change.path.endswith("/modules"):
            assert change.before is not None
            old, new = (text.decode().split("\n") for text in (change.before, change.content))
            assert 1 <= lines_that_differ(old, new) <= 3
    last = plan.changes[-1]
    assert isinstance(last, AppendFile)
    assert f"usr/lib/modules/{RELEASE}/kernel/drivers/block/virtio_blk.ko" in last.summary
    initramfs = cpio.read(guest.files[INITRD])
    assert bytes(initramfs.entries["lib"].data) == b"usr/lib"
    assert initramfs.read("conf/conf.d/resume") == f"RESUME=UUID={SWAP_UUID}\n".encode()
    assert initramfs.read("conf/modules") == (b"# List of modules\next4\nvirtio_pci\nvirtio_blk\n")


def test_planning_writes_nothing() -> None:
    guest, inspection = Legacy().build()
    before = dict(guest.files)
    pipeline.planned(guest, inspection, SPLICE)
    assert guest.files == before


def test_a_guest_without_virtio_stays_where_it_is() -> None:
    for legacy in (Legacy(virtio="absent"), Legacy(virtio="absent", disk="hda"),
                   Legacy(initrd=False)):
        _, _, plan, findings = converted(legacy)
        assert plan.changes == ()
        assert plan.capabilities.block is Bus.IDE
        assert "cannot drive virtio-blk" in plan.capabilities.reason
        assert [f for f in findings if f.level is Level.FAILED] == []


def test_only_the_default_kernel_must_have_virtio() -> None:
    legacy = Legacy(releases=(RELEASE, "2.6.18-8"))
    guest, inspection = legacy.build()
    old = [path for path in guest.files if path.startswith("/lib/modules/2.6.18-8/")]
    for path in old:
        del guest.files[path]
    guest.files["/lib/modules/2.6.18-8/modules.dep"] = b"kernel/fs/ext3/ext3.ko:\n"
    guest.files["/boot/config-2.6.18-8"] = b""
    plan = pipeline.planned(guest, inspection, SPLICE)
    assert any("2.6.18-8 has no driver" in text for text in plan.warnings)
    pipeline.apply(guest, plan)
    findings = pipeline.verified(guest, inspection, SPLICE, plan)
    assert [f.subject for f in not_proven(findings)] == ["kernel 2.6.18-8"]


def test_rebuild_runs_the_guests_tool_last() -> None:
    guest, _, plan, _ = converted(Legacy(), replace(SPLICE, initramfs=InitramfsMode.REBUILD))
    assert guest.ran == [("update-initramfs", "-u", "-k", RELEASE)]
    assert isinstance(plan.changes[-1], RunInGuest)


def test_damaged_initramfs() -> None:
    legacy = Legacy(extra={INITRD: b"garbage"})
    guest, inspection = legacy.build()
    with pytest.raises(HostileInput, match=f"{INITRD}: data of unknown kind"):
        pipeline.planned(guest, inspection, SPLICE)
    plan = pipeline.planned(guest, inspection, Options())
    assert any(isinstance(change, RunInGuest) for change in plan.changes)


def test_an_entry_left_over_from_a_removed_kernel() -> None:
    guest, inspection = Legacy(releases=(RELEASE, "5.9.0-1")).build()
    del guest.files["/boot/initrd.img-5.9.0-1"]
    plan = pipeline.planned(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    left = not_proven(pipeline.verified(guest, inspection, SPLICE, plan))
    assert [(f.level, f.message) for f in left] == [(Level.WARNING, "does not exist")]


@pytest.mark.parametrize(("gone", "message"), [
    ("/boot/grub/grub.cfg", "boot loader"), (f"/boot/vmlinuz-{RELEASE}", "offers no kernel")])
def test_cannot_convert(gone: str, message: str) -> None:
    guest, inspection = Legacy().build()
    del guest.files[gone]
    with pytest.raises(CannotConvert, match=message):
        pipeline.planned(guest, inspection, SPLICE)


def test_an_initramfs_of_unknown_make() -> None:
    guest, inspection = Legacy(extra={INITRD: archive(tree({"init": b"#!/bin/sh\n"}))}).build()
    del guest.files["/usr/sbin/mkinitramfs"]
    with pytest.raises(CannotConvert, match="no initramfs tool that imgconv knows"):
        pipeline.planned(guest, inspection, Options())


@pytest.mark.parametrize("gone", ["/etc/fstab", "/etc/default/grub", "/etc/initramfs-tools/modules",
                                  "/etc/initramfs-tools/conf.d/resume",
                                  f"/boot/config-{RELEASE}",
                                  f"/lib/modules/{RELEASE}/modules.builtin",
                                  f"/lib/modules/{RELEASE}/modules.softdep"])
def test_missing_pieces_are_no_problem(gone: str) -> None:
    guest, inspection = Legacy().build()
    del guest.files[gone]
    plan = pipeline.planned(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    assert not_proven(pipeline.verified(guest, inspection, SPLICE, plan)) == []


def test_unknown_disks_are_named() -> None:
    fstab = (f"UUID={ROOT_UUID} / ext4 ro 0 1\n/dev/sdc1 /x ext4 nofail 0 0\n"
             "/dev/hdd /cd iso9660 ro\n")
    guest, inspection = Legacy(extra={"/etc/fstab": fstab}).build()
    plan = pipeline.planned(guest, inspection, SPLICE)
    assert plan.warnings == ("/etc/fstab names /dev/sdc1, which is on none of the given disks",)


def test_capabilities_and_survey() -> None:
    guest, inspection = Legacy().build()
    able = linux.capabilities(guest, Bus.VIRTIO_BLK)
    assert (able.block, able.net, able.rng, able.virtio_1_0) == (Bus.VIRTIO_BLK, True, False, True)
    facts = survey.survey(guest, inspection)
    assert facts.kernels[0].default
    assert facts.kernels[0].drivers["virtio_blk"] == "module"
    assert ("/etc/fstab", "/dev/sda2") in facts.names
    old, _ = Legacy(releases=("3.2.0-4-amd64",)).build()
    assert not linux.capabilities(old, Bus.VIRTIO_BLK).virtio_1_0
