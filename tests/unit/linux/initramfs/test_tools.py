"""What is true of every initramfs tool: converted by splicing, proven, kept, and done once.

The guests are fixtures (tests/initramfs_guests.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from imgconv import pipeline
from imgconv.errors import CannotConvert
from imgconv.linux import initramfs
from imgconv.linux.initramfs import TOOLS, cpio
from imgconv.model import (
    AppendFile,
    Bus,
    Finding,
    InitramfsMode,
    Inspection,
    Level,
    LinuxOs,
    Names,
    Options,
    Plan,
)
from tests.fake_guest import FakeGuest
from tests.guests import FILE, RELEASE, Legacy, Record, module
from tests.guests import cpio as archive
from tests.initramfs_guests import FIXTURES

INITRD = f"/boot/initrd.img-{RELEASE}"
SPLICE = Options(initramfs=InitramfsMode.SPLICE)
REBUILD = Options(initramfs=InitramfsMode.REBUILD)
NAMES = {"dracut-systemd": "dracut", "mkinitcpio-systemd": "mkinitcpio",
         "suse-mkinitrd": "SUSE mkinitrd", "redhat-mkinitrd": "Red Hat mkinitrd"}
#: /init reads a list of its own, whatever else loads drivers.
LISTS = ("dracut", "dracut-systemd", "mkinitcpio", "mkinitcpio-systemd", "mkinitfs",
         "suse-mkinitrd", "redhat-mkinitrd", "tiny-initramfs", "booster")


def converted(legacy: Legacy, options: Options = SPLICE) -> tuple[
        FakeGuest, Inspection, Plan, tuple[Finding, ...]]:
    guest, inspection = legacy.build()
    plan = pipeline.planned(guest, inspection, options)
    pipeline.apply(guest, plan)
    return guest, inspection, plan, pipeline.verified(guest, inspection, options, plan)


def failed(findings: tuple[Finding, ...]) -> list[str]:
    return [f"{finding.subject}: {finding.message}" for finding in findings
            if finding.level is Level.FAILED]


def not_proven(findings: tuple[Finding, ...]) -> list[Finding]:
    return [finding for finding in findings if finding.level is not Level.PROVEN]


@pytest.mark.parametrize("tool", FIXTURES)
@pytest.mark.parametrize("legacy", [
    Legacy(), Legacy(disk="hda"), Legacy(compression="zstd", microcode=True),
    Legacy(suffix=".ko.xz"), Legacy(in_initramfs=("virtio", "virtio_ring", "ext4")),
    Legacy(compression="lz4", names="uuid")], ids=lambda legacy: legacy.label)
@pytest.mark.parametrize("block", [Bus.VIRTIO_BLK, Bus.VIRTIO_SCSI])
def test_converted_proven_and_done_once(tool: str, legacy: Legacy, block: Bus) -> None:
    options = replace(SPLICE, block=block)
    guest, inspection, plan, findings = converted(replace(legacy, tool=tool), options)
    assert not_proven(findings) == []
    assert [f.subject for f in findings if "keeps the drivers" in f.message] == [
        NAMES.get(tool, tool)]
    before = dict(guest.files)
    again = pipeline.planned(guest, inspection, options)
    assert again.changes == ()
    assert guest.files == before
    assert guest.ran == []
    assert any(isinstance(change, AppendFile) for change in plan.changes)


@pytest.mark.parametrize("tool", FIXTURES)
def test_by_device_name(tool: str) -> None:
    _, _, _, findings = converted(Legacy(tool=tool), replace(SPLICE, names=Names.DEVICE))
    assert not_proven(findings) == []


@pytest.mark.parametrize("tool", FIXTURES)
def test_without_udev_its_own_list_must_do(tool: str) -> None:
    guest, inspection = Legacy(tool=tool, udev=False).build()
    if tool not in LISTS:
        with pytest.raises(CannotConvert, match="nothing in the initramfs loads virtio_pci"):
            pipeline.planned(guest, inspection, SPLICE)
        return
    plan = pipeline.planned(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    assert not_proven(pipeline.verified(guest, inspection, SPLICE, plan)) == []


@pytest.mark.parametrize("tool", FIXTURES)
def test_the_image_tells_what_made_it(tool: str) -> None:
    """...and not what else is installed; nor does the name of the distribution count."""
    legacy = Legacy(tool=tool, extra={"/usr/sbin/mkinitramfs": "", "/usr/bin/dracut": ""})
    guest, inspection = legacy.build()
    inspection = replace(inspection, os=LinuxOs("unheard-of", "Unheard Of 1"))
    made = initramfs.tool_of(guest, initramfs.read(guest, (INITRD,)))
    assert made is not None
    assert NAMES.get(tool, tool) == made.NAME
    plan = pipeline.planned(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    findings = pipeline.verified(guest, inspection, SPLICE, plan)
    assert not_proven(findings) == []
    assert {"initramfs-tools", "dracut"} <= {f.subject for f in findings}


@pytest.mark.parametrize("tool", FIXTURES)
def test_a_tool_that_is_gone(tool: str) -> None:
    guest, inspection = Legacy(tool=tool).build()
    for path in FIXTURES[tool].guest:
        del guest.files[path]
    plan = pipeline.planned(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    assert failed(pipeline.verified(guest, inspection, SPLICE, plan)) == []
    guest, inspection = Legacy(tool=tool).build()
    for path in FIXTURES[tool].guest:
        del guest.files[path]
    with pytest.raises(CannotConvert, match="is not installed in the guest"):
        pipeline.planned(guest, inspection, REBUILD)


COMMANDS = {
    "dracut": ("dracut", "-f", "--no-hostonly", "--add-drivers", "virtio_pci virtio_blk", INITRD,
               RELEASE),
    "mkinitcpio": ("mkinitcpio", "-k", RELEASE, "-S", "autodetect", "-g", INITRD),
    "mkinitfs": ("mkinitfs", "-c", "/etc/mkinitfs/mkinitfs.conf", "-b", "/", "-o", INITRD, RELEASE),
    "suse-mkinitrd": ("mkinitrd", "-k", f"/boot/vmlinuz-{RELEASE}", "-i", INITRD, "-m",
                      "thermal ata_piix ext3 virtio_pci virtio_blk", "-B"),
    "redhat-mkinitrd": ("mkinitrd", "-f", "--with=virtio_pci", "--with=virtio_blk", INITRD,
                        RELEASE),
    "tiny-initramfs": ("mktirfs", "-o", INITRD, "-M", "generic", RELEASE),
    "make-initrd": ("make-initrd", "-k", RELEASE),
    "booster": ("booster", "build", "--force", "--universal", "--kernel-version", RELEASE, INITRD),
}


@pytest.mark.parametrize("tool", COMMANDS)
def test_rebuild(tool: str) -> None:
    guest, _, _, findings = converted(Legacy(tool=tool), REBUILD)
    assert guest.ran == [COMMANDS[tool]]
    assert failed(findings) != []  # nothing has run in a fake guest


# --- what must be noticed -------------------------------------------------------------------------


def with_appended(guest: FakeGuest, files: dict[str, bytes], mode: int = FILE) -> None:
    content = guest.files[INITRD]
    guest.files[INITRD] = content + bytes(-len(content) % 4) + archive(
        Record(name, data, mode) for name, data in files.items())


def edited(name: str, change: Callable[[str], str], mode: int = FILE) -> Callable[[FakeGuest],
                                                                                  None]:
    def edit(guest: FakeGuest) -> None:
        before = (cpio.read(guest.files[INITRD]).read(name) or b"").decode()
        after = change(before)
        assert after != before
        with_appended(guest, {name: after.encode()}, mode)
    return edit


def less(*words: str) -> Callable[[str], str]:
    def without(text: str) -> str:
        for word in words:
            text = text.replace(word, "")
        return text
    return without


EXECUTABLE = 0o100755
BLK = module("virtio_blk", ("virtio", "virtio_ring"))

MUTATIONS: list[tuple[str, Callable[[FakeGuest], None], str]] = [
    ("dracut", edited("etc/cmdline.d/20-imgconv.conf", less("rd.driver.pre=virtio_blk")),
     "nothing in the initramfs loads virtio_blk"),
    ("dracut", edited("usr/lib/dracut/hooks/cmdline/01-parse-kernel.sh", less("rd.driver.pre")),
     "nothing in the initramfs loads virtio_blk"),
    ("dracut", edited("etc/cmdline.d/95resume.conf", lambda text: "resume=/dev/sda2"),
     "names a disk as it was"),
    ("dracut-systemd", edited("etc/modules-load.d/imgconv.conf", less("virtio_blk")),
     "nothing in the initramfs loads virtio_blk"),
    ("dracut-systemd", lambda guest: with_appended(guest, {"init": b"#!/bin/sh\n"}, EXECUTABLE),
     "nothing in the initramfs loads virtio_blk"),
    ("mkinitcpio", edited("config", less("virtio_blk")),
     "nothing in the initramfs loads virtio_blk"),
    ("mkinitcpio", edited("config", lambda text: text + 'MODULES=""\n'),
     "nothing in the initramfs loads virtio_pci"),
    ("mkinitcpio", edited("init", less("MODULES"), EXECUTABLE),
     "nothing in the initramfs loads virtio_blk"),
    ("mkinitfs", edited("etc/modules", less("virtio_blk")),
     "nothing in the initramfs loads virtio_blk"),
    ("suse-mkinitrd", edited("run_all.sh", less(" virtio_blk")),
     "nothing in the initramfs loads virtio_blk"),
    ("suse-mkinitrd", edited("run_all.sh", lambda text: text + "resumedev='/dev/sda2'\n"),
     "names a disk as it was"),
    ("redhat-mkinitrd", edited("init", less("insmod /lib/virtio_blk.ko"), EXECUTABLE),
     "nash's /init does not know virtio_blk"),
    ("redhat-mkinitrd", edited("init", less("insmod /lib/virtio_ring.ko"), EXECUTABLE),
     "does not say that virtio_blk needs virtio_ring"),
    ("redhat-mkinitrd", edited("init", lambda text: text), "/init is not executable"),
    ("redhat-mkinitrd", edited("init", lambda text: text.replace(
        "insmod /lib/virtio_blk.ko", "").replace("switchroot", "insmod /lib/virtio_blk.ko"),
        EXECUTABLE), "nash's /init does not know virtio_blk"),
    ("tiny-initramfs", edited("modules", less("/virtio_ring.ko\n")),
     "does not say that virtio_pci needs virtio_ring"),
    ("tiny-initramfs", lambda guest: with_appended(guest, {"virtio_blk.ko": _xz(BLK)}),
     "virtio_blk is compressed"),
    ("tiny-initramfs", lambda guest: with_appended(
        guest, {"modules": b"/virtio_blk.ko\n/virtio.ko\n/virtio_ring.ko\n"
                           b"/virtio_pci_modern_dev.ko\n/virtio_pci.ko\n"}),
     "does not say that virtio_blk needs virtio"),
    ("booster", edited("etc/booster.init.yaml", less("    - virtio_blk\n")),
     "nothing in the initramfs loads virtio_blk"),
    ("booster", edited("etc/booster.init.yaml", less("        - virtio_ring\n")),
     "does not say that virtio_blk needs virtio_ring"),
]


def _xz(data: bytes) -> bytes:
    import lzma
    return lzma.compress(data)


@pytest.mark.parametrize(("tool", "mutate", "caught"), MUTATIONS[:])
def test_what_is_broken_is_noticed(tool: str, mutate: Callable[[FakeGuest], None],
                                   caught: str) -> None:
    guest, inspection, plan, findings = converted(Legacy(tool=tool, udev=False))
    assert failed(findings) == []
    if caught == "/init is not executable":
        init = cpio.read(guest.files[INITRD]).read("init") or b""
        with_appended(guest, {"init": init})
    else:
        mutate(guest)
    if tool == "booster" and "nothing" in caught:
        edited("usr/lib/modules/booster.alias", lambda text: "")(guest)
    found = failed(pipeline._verify(guest, inspection, plan))
    assert any(caught in text for text in found), found


def test_every_tool_has_a_fixture() -> None:
    assert {tool.NAME for tool in TOOLS} == {NAMES.get(name, name) for name in FIXTURES} | {
        "initramfs-tools"}
