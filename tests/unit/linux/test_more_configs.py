"""Files that name disks, beside fstab and crypttab: LVM's, mdadm's, caches, next command lines."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgconv import linux, pipeline
from imgconv.errors import HostileInput
from imgconv.linux import (
    caches,
    cmdline,
    configs,
    disk_tools,
    fstab,
    lvm_devices,
    lvm_filter,
    lvm_regex,
    mdadm,
    next_cmdlines,
)
from imgconv.linux.config import Verdict
from imgconv.linux.device_names import Renamer
from imgconv.model import (
    Bus,
    Capabilities,
    Change,
    Filesystem,
    InitramfsMode,
    Inspection,
    Level,
    Names,
    Options,
    Plan,
    WriteFile,
)
from imgconv.verify import linux as verify
from tests.fake_guest import FakeGuest
from tests.guests import ROOT_UUID, SWAP_UUID, Legacy, cpio, tree

PV = "iQ6abc-Wxyz-1234-5678-9abc-DEFG-hijk7x"
FILESYSTEMS = (Filesystem("/dev/sda1", "ext4", ROOT_UUID), Filesystem("/dev/sda2", "swap",
                                                                      SWAP_UUID),
               Filesystem("/dev/sda3", "LVM2_member", PV, partuuid="c0ffee-03"),
               Filesystem("/dev/sda5", "linux_raid_member", "r1"),
               Filesystem("/dev/vg/root", "ext4", "lv"))
BY_UUID = Renamer(FILESYSTEMS, Names.UUID, Bus.VIRTIO_BLK)
ON_SCSI = Renamer(FILESYSTEMS, Names.DEVICE, Bus.VIRTIO_SCSI)
SPLICE = Options(initramfs=InitramfsMode.SPLICE)


def verdicts(files: dict[str, str], renamer: Renamer = BY_UUID) -> list[Verdict]:
    return [check.verdict for check in configs.checks(FakeGuest(files), renamer)]


# --- LVM's filters --------------------------------------------------------------------------------

NEW = '"a|^/dev/vda3$|"'


@pytest.mark.parametrize(("value", "after"), [
    ('[ "a|/dev/sda.*|", "r|.*|" ]', f'[ {NEW}, "a|/dev/sda.*|", "r|.*|" ]'),
    ('["a|^/dev/hda3$|","r|.*|"]', f'[ {NEW},"a|^/dev/hda3$|","r|.*|"]'),
    ('[ "a/sd[a-z]/", "r/.*/", ]', f'[ {NEW}, "a/sd[a-z]/", "r/.*/", ]'),
    ('[\n  # local disks\n  "a|^/dev/sd[a-c][0-9]+$|", # x\n  "r|.*|"\n]',
     f'[ {NEW},\n  # local disks\n  "a|^/dev/sd[a-c][0-9]+$|", # x\n  "r|.*|"\n]'),
    ('[ "a|/dev/cciss/|", "r|.*|" ]', f'[ {NEW}, "a|/dev/cciss/|", "r|.*|" ]'),
    ('[ "a|^/dev/disk/by-id/ata-.*|", "r|.*|" ]',
     f'[ {NEW}, "a|^/dev/disk/by-id/ata-.*|", "r|.*|" ]'),
    ('[ "a|/dev/(sd|hd)a|", "r(.*)" ]', f'[ {NEW}, "a|/dev/(sd|hd)a|", "r(.*)" ]'),
    ('"r|/dev/vd|"', f'[ {NEW}, "r|/dev/vd|" ]'), ('[ "a|.*|" ]', None),
    ('[ "r|/dev/cdrom|" ]', None), ('[ "r|.*|" ]', None), ('[ ]', None),
    ('[ "a|/dev/mapper/|", "r|.*|" ]', None),
    ('[ "a|/dev/disk/by-id/lvm-pv-uuid-.*|", "r|.*|" ]', None), ('[ "r|/dev/sda3|" ]', None),
    ('[ "a|[|" ]', None), ('[ "x|.*|" ]', None), ('[ "a', None), ("[ 1 ]", None), ("", None)])
@pytest.mark.parametrize("name", ["filter", "global_filter"])
def test_filters(value: str, after: str | None, name: str) -> None:
    text = "# filter = [ \"r|.*|\" ]\ndevices {{\n    {} = {}\n    x = 1\n}}\n"
    before, expected = text.format(name, value), text.format(name, after or value)
    guest = FakeGuest({"/etc/lvm/lvm.conf": before})
    if after is not None:
        assert Verdict.WRONG in [c.verdict for c in lvm_filter.checks(guest, BY_UUID)]
    pipeline.apply(guest, plan_of(lvm_filter.plan, guest))
    assert guest.files["/etc/lvm/lvm.conf"].decode() == expected
    assert Verdict.WRONG not in [c.verdict for c in lvm_filter.checks(guest, BY_UUID)]
    assert lvm_filter.plan(guest, BY_UUID) == ()


def plan_of(planner: Callable[[FakeGuest, Renamer], tuple[Change, ...]], guest: FakeGuest,
            renamer: Renamer = BY_UUID) -> Plan:
    return Plan(planner(guest, renamer), Capabilities(renamer.bus))


def test_filters_on_virtio_scsi_and_on_the_old_bus() -> None:
    text = 'devices/filter = [ "a|/dev/hda|", "r|.*|" ]\n'
    assert '"a|^/dev/sda3$|"' in lvm_filter.rewrite(text, ON_SCSI)
    old = Renamer(FILESYSTEMS, Names.UUID, Bus.IDE)
    assert list(lvm_filter.checks(FakeGuest({"/etc/lvm/lvm.conf": text}), old)) == []


@pytest.mark.parametrize(("pattern", "matching", "other"), [
    ("/dev/sda", ("/dev/sda", "x/dev/sda9"), ("/dev/sdb", "")),
    ("^/dev/sd[ab][0-9]*$", ("/dev/sda", "/dev/sdb12"), ("/dev/sdc", "/dev/sda1x", "x/dev/sda")),
    ("sd[^a]", ("sdb",), ("sda", "sd")), ("a+b?", ("a", "ab", "xaab"), ("b",)),
    ("(sd|hd)a", ("sda", "hda"), ("vda",)), ("", ("", "x"), ()), ("a|", ("", "b"), ()),
    (r"a\.b", ("a.b",), ("axb",)), ("a**", ("", "aa"), ()), ("()*x", ("x",), ("y",)),
    ("[]a]", ("]", "a"), ("b",)), ("[a-]", ("-", "a"), ("b",)), ("$", ("", "a"), ()),
    ("^$", ("",), ("a",)), (".*", ("", "abc"), ()), ("((a)|(b)|c)d", ("ad", "bd", "cd"), ("d",))])
def test_patterns(pattern: str, matching: tuple[str, ...], other: tuple[str, ...]) -> None:
    parsed = lvm_regex.parse(pattern)
    assert [text for text in matching if not parsed.search(text)] == []
    assert [text for text in other if parsed.search(text)] == []


@pytest.mark.parametrize("pattern", ["(", ")", "[", "[^", "a)", "(" * 99, "x" * 9999, "[]"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(HostileInput):
        lvm_regex.parse(pattern)


@pytest.mark.parametrize("pattern", ["(a*)*b", "(a|a)*b", "((a+)+)+b", "(.*)" * 100 + "b",
                                     "a?" * 200 + "a" * 100])
def test_patterns_take_linear_time(pattern: str) -> None:
    begin = time.process_time()
    lvm_regex.parse(pattern).search("a" * 64)
    assert time.process_time() - begin < 1


@given(st.text("ab.*+?|()[]^$\\", max_size=30), st.text("ab", max_size=9))
def test_any_pattern(pattern: str, text: str) -> None:
    with suppress(HostileInput):
        lvm_regex.parse(pattern).search(text)


# --- LVM's devices file ---------------------------------------------------------------------------

BARE = PV.replace("-", "")


@pytest.mark.parametrize(("line", "after"), [
    (f"IDTYPE=sys_wwid IDNAME=t10.ATA_QEMU DEVNAME=/dev/sda3 PVID={BARE} PART=3",
     f"IDTYPE=devname IDNAME=/dev/vda3 DEVNAME=/dev/vda3 PVID={BARE} PART=3"),
    (f"IDTYPE=sys_serial IDNAME=QM00001 DEVNAME=/dev/sdq9 PVID={BARE}",
     f"IDTYPE=devname IDNAME=/dev/vda3 DEVNAME=/dev/vda3 PVID={BARE}"),
    ("IDTYPE=devname IDNAME=/dev/hda3 DEVNAME=/dev/hda3 PVID=.",
     "IDTYPE=devname IDNAME=/dev/vda3 DEVNAME=/dev/vda3 PVID=."),
    *((line, None) for line in (
        "# IDTYPE=sys_wwid DEVNAME=/dev/sda3", "VERSION=1.1.3", "SYSTEMID=x", "",
        f"IDTYPE=md_uuid IDNAME=x DEVNAME=/dev/md0 PVID={BARE}",
        "IDTYPE=crypt_uuid IDNAME=CRYPT-LUKS2-x DEVNAME=/dev/mapper/luks PVID=z",
        "IDTYPE=sys_wwid IDNAME=x DEVNAME=/dev/sdb1 PVID=other"))])
def test_devices_file(line: str, after: str | None) -> None:
    path = "/etc/lvm/devices/system.devices"
    guest = FakeGuest({path: f"VERSION=1.1.1\n{line}\n", "/etc/lvm/devices/backup/x": line})
    assert (Verdict.WRONG in [c.verdict for c in lvm_devices.checks(guest, BY_UUID)]) is (
        after is not None)
    pipeline.apply(guest, plan_of(lvm_devices.plan, guest))
    assert guest.files[path].decode() == f"VERSION=1.1.1\n{after or line}\n"
    assert {c.verdict for c in lvm_devices.checks(guest, BY_UUID)} <= {Verdict.RIGHT}
    assert lvm_devices.plan(guest, BY_UUID) == ()


# --- mdadm ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [
    ("DEVICE /dev/sda5 /dev/sdb5\n", "DEVICE /dev/vda5 /dev/sdb5\n"),
    ("DEVICE /dev/sd*[0-9] /dev/hd*\n", "DEVICE /dev/vd*[0-9] /dev/vd*\n"),
    ("device /dev/sd[ab]5 # /dev/sda5\n", "device /dev/vd[ab]5 # /dev/sda5\n"),
    ("DEVICE /dev/cciss/*\n", "DEVICE /dev/vd*\n"),
    ("DEV /dev/disk/by-id/ata-*\n", "DEV /dev/vd*\n"),
    ("ARRAY /dev/md0 devices=/dev/hda5,/dev/hdb5\n",
     "ARRAY /dev/md0 devices=/dev/vda5,/dev/hdb5\n"),
    ("ARRAY /dev/md0 UUID=1:2\n   devices=/dev/sda5\n", "ARRAY /dev/md0 UUID=1:2\n   "
     "devices=/dev/vda5\n"),
    ("DEVICE /dev/sda5\n\t/dev/sda3\n", "DEVICE /dev/vda5\n\t/dev/vda3\n"),
    ("DEVICE partitions containers\n", None), ("ARRAY /dev/md0 UUID=1:2\n", None),
    ("# DEVICE /dev/sda5\n", None), ("MAILADDR root\nPROGRAM /dev/sda5\n", None), ("", None),
    ("CREATE owner=root\n  group=disk\n", None)])
def test_mdadm(before: str, after: str | None) -> None:
    expected = before if after is None else after
    assert mdadm.rewrite(before, BY_UUID) == expected
    assert mdadm.rewrite(expected, BY_UUID) == expected


@pytest.mark.parametrize(("text", "expected"), [
    ("DEVICE /dev/sda5\n", {Verdict.WRONG}), ("DEVICE /dev/vd*\n", {Verdict.RIGHT}),
    ("DEVICE /dev/vda5\n", {Verdict.RIGHT}), ("DEVICE partitions\n", set()), ("", set()),
    ("DEVICE /dev/sd* partitions\n", set()),
    ("ARRAY /dev/md0 devices=/dev/sda5\n", {Verdict.WRONG}),
    ("DEVICE /dev/md*\n", {Verdict.WRONG}), ("DEVICE\n", set())])
def test_checks_of_mdadm(text: str, expected: set[Verdict]) -> None:
    assert set(verdicts({"/etc/mdadm/mdadm.conf": text})) == expected


# --- the rest -------------------------------------------------------------------------------------

BLKID = '<device DEVNO="0x0801" UUID="x" TYPE="ext4">{}</device>\n'


@pytest.mark.parametrize("path", ["/etc/blkid.tab", "/etc/blkid/blkid.tab",
                                  "/etc/lvm/cache/.cache"])
def test_caches_are_emptied_when_they_are_old(path: str) -> None:
    guest = FakeGuest({path: BLKID.format("/dev/sda1") + BLKID.format("/dev/vg/root")})
    assert [c.verdict for c in caches.checks(guest, BY_UUID)] == [Verdict.LATER]
    pipeline.apply(guest, plan_of(caches.plan, guest))
    assert guest.files[path] == b""
    assert caches.plan(guest, BY_UUID) == ()
    guest.files[path] = (BLKID.format("/dev/vda1") + BLKID.format("/dev/vg/root")).encode()
    assert caches.plan(guest, BY_UUID) == ()
    assert list(caches.checks(guest, BY_UUID)) == []


@pytest.mark.parametrize(("path", "before", "after"), [
    ("/etc/kernel/cmdline", "root=/dev/sda1 quiet", f"root=UUID={ROOT_UUID} quiet"),
    ("/etc/sysconfig/bootloader", 'LOADER_TYPE="grub"\nDEFAULT_APPEND="resume=/dev/sda2 splash"\n',
     f'LOADER_TYPE="grub"\nDEFAULT_APPEND="resume=UUID={SWAP_UUID} splash"\n'),
    ("/etc/sysconfig/grub", "boot=/dev/hda\nforcelba=0\n", "boot=/dev/vda\nforcelba=0\n"),
    ("/etc/update-extlinux.conf", "# root=/dev/sda1\nroot=/dev/sda1\n",
     f"# root=/dev/sda1\nroot=UUID={ROOT_UUID}\n"),
    ("/etc/cmdline.d/resume.conf", "resume=/dev/sda2\n", f"resume=UUID={SWAP_UUID}\n"),
    ("/etc/default/u-boot", 'U_BOOT_ROOT="root=/dev/sda1"\n',
     f'U_BOOT_ROOT="root=UUID={ROOT_UUID}"\n')])
def test_next_command_lines(path: str, before: str, after: str) -> None:
    guest = FakeGuest({path: before})
    assert verdicts({path: before}) == [Verdict.LATER]
    pipeline.apply(guest, plan_of(next_cmdlines.plan, guest))
    assert guest.files[path].decode() == after
    assert verdicts({path: after}) == []
    assert next_cmdlines.plan(guest, BY_UUID) == ()


def test_a_link_to_the_defaults_of_grub_is_left_to_them() -> None:
    guest = FakeGuest({"/etc/sysconfig/grub": 'GRUB_CMDLINE_LINUX="root=/dev/sda1"\n'})
    assert next_cmdlines.plan(guest, BY_UUID) == ()


def test_settings_of_real_disks_are_a_warning() -> None:
    files = {"/etc/hdparm.conf": "# /dev/hdb\n/dev/sda {\n\tspindown_time = 24\n}\n"}
    (check,) = disk_tools.checks(FakeGuest(files), BY_UUID)
    assert (check.verdict, check.evidence) == (Verdict.DOUBTFUL, "/dev/sda")
    guest, inspection = Legacy(extra=files).build()
    assert any("hdparm" in text for text in linux.plan(guest, inspection, SPLICE).warnings)
    assert verdicts({"/etc/hdparm.conf": "/dev/vda {\n}\n",
                     "/etc/smartd.conf": "DEVICESCAN\n"}) == []


@pytest.mark.parametrize(("before", "after"), [
    ("resume=swap:/dev/sda2 ro", "resume=swap:/dev/vda2 ro"),
    ("resume=file:/dev/sda1:0x10", "resume=file:/dev/vda1:0x10"),
    ("resume=/dev/cciss/c0d0p2", f"resume=UUID={SWAP_UUID}"),
    ("root=/dev/ida/c0d0p1", f"root=UUID={ROOT_UUID}")])
def test_odd_command_lines(before: str, after: str) -> None:
    assert cmdline.rewrite(before, BY_UUID) == after
    assert cmdline.rewrite(after, BY_UUID) == after


def test_options_of_fstab_that_wait_for_a_device() -> None:
    line = ("/dev/sda1 / ext4 "
            "x-systemd.requires=/dev/sda2,x-systemd.after=foo.mount,loop=/dev/sda9\n")
    assert fstab.rewrite(line, BY_UUID) == (
        f"UUID={ROOT_UUID} / ext4 x-systemd.requires=/dev/vda2,x-systemd.after=foo.mount,"
        "loop=/dev/sda9\n")


# --- whole guests ---------------------------------------------------------------------------------

OLD = {
    "/etc/lvm/lvm.conf": 'devices {\n filter = [ "a|/dev/sda|", "r|.*|" ]\n}\n',
    "/etc/lvm/devices/system.devices":
        f"VERSION=1.1.1\nIDTYPE=sys_wwid IDNAME=t10.ATA DEVNAME=/dev/sda3 PVID={BARE} PART=3\n",
    "/etc/mdadm/mdadm.conf": "DEVICE /dev/sda5\nARRAY /dev/md0 UUID=1:2\n",
    "/etc/blkid.tab": BLKID.format("/dev/sda1"),
    "/etc/kernel/cmdline": "root=/dev/sda1 ro\n",
    "/etc/sysconfig/bootloader": 'DEFAULT_APPEND="resume=/dev/sda2"\n',
    "/etc/sysconfig/grub": "boot=/dev/sda\n"}


def everything() -> tuple[FakeGuest, Inspection]:
    guest, inspection = Legacy(extra=OLD).build()
    return guest, replace(inspection, filesystems=(
        *inspection.filesystems, *FILESYSTEMS[2:4]))


def test_everything_is_proven_and_done_once() -> None:
    guest, inspection = everything()
    plan = pipeline.planned(guest, inspection, SPLICE)
    assert set(OLD) <= {c.path for c in plan.changes if isinstance(c, WriteFile)}
    pipeline.apply(guest, plan)
    findings = pipeline.verified(guest, inspection, SPLICE, plan)
    assert {f.level for f in findings} == {Level.PROVEN}


@pytest.mark.parametrize("path", OLD)
def test_what_is_left_is_noticed(path: str) -> None:
    guest, inspection = everything()
    plan = linux.plan(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    guest.files[path] = OLD[path].encode()
    failed = [f for f in verify.verify(guest, inspection, plan) if f.level is Level.FAILED]
    assert {f.subject for f in failed} == {path}


def test_the_copy_inside_the_initramfs_counts() -> None:
    guest, inspection = everything()
    name = next(path for path in guest.files if path.startswith("/boot/initrd"))
    plan = linux.plan(guest, inspection, SPLICE)
    pipeline.apply(guest, plan)
    guest.files[name] += b"\0" * (-len(guest.files[name]) % 4) + cpio(tree({
        "etc/lvm/lvm.conf": OLD["/etc/lvm/lvm.conf"].encode()}))
    failed = [f for f in verify.verify(guest, inspection, plan) if f.level is Level.FAILED]
    assert [f.subject for f in failed] == [f"initramfs {name}"]
    assert "hides the physical volume" in failed[0].message


@pytest.mark.parametrize("line", [
    'filter = [ "' + "a" * (1 << 20), "filter = [" + " " * (1 << 20), "filter=" * (1 << 17),
    "filter = [" + '"a|x|",' * (1 << 17), "\n" * (1 << 20), "DEVICE " + "/dev/sd*" * (1 << 17),
    "ARRAY " + "devices=" * (1 << 17), "IDTYPE=" * (1 << 17), "A=" + "B" * (1 << 20),
    "filter = [ " + "#" * (1 << 20), "/dev/" * (1 << 17), "boot=/dev/" * (1 << 17),
    "filter = [ \\" + "\"" * (1 << 18)], ids=lambda line: ascii(line[:14]))
def test_long_lines_take_linear_time(line: str) -> None:
    begin = time.process_time()
    for rewrite in (lvm_filter.rewrite, lvm_devices.rewrite, mdadm.rewrite, next_cmdlines.rewrite):
        with suppress(HostileInput):
            rewrite(line, BY_UUID)
    for path in ("/etc/lvm/lvm.conf", "/etc/lvm/devices/x.devices", "/etc/mdadm.conf",
                 "/etc/blkid.tab", "/etc/hdparm.conf", "/etc/sysconfig/grub"):
        verdicts({path: line[:(1 << 20) - 1]})
    assert time.process_time() - begin < 6
