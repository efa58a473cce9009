from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from imgconv import boot, host
from imgconv.boot import Verdict, console, here, runner, signs, verdict
from imgconv.boot.console import Watch
from imgconv.boot.signs import clean
from imgconv.boot.verdict import Observed
from imgconv.errors import ImgconvError
from imgconv.model import Bus, Disk, DiskActivity, Firmware, Machine, NetworkActivity, Nic

GOLDEN = Path(__file__).parents[1] / "golden"

needs_qemu = pytest.mark.skipif(
    not (shutil.which("qemu-system-x86_64") and shutil.which("qemu-img")),
    reason="QEMU is not installed")


class Judged(NamedTuple):
    verdict: Verdict
    reason: str
    root_device: str
    swap_devices: tuple[str, ...]
    serial: str


def judged(watch: Watch, observed: Observed | None = None) -> Judged:
    watch.close()
    it, reason = verdict.judge(watch, observed or Observed(), "no evidence")
    return Judged(it, reason, watch.root, tuple(watch.swaps), watch.serial)


def watched(*pieces: bytes) -> Judged:
    watch = Watch()
    for piece in pieces:
        watch.feed(piece)
    return judged(watch)


# --- the console of real guests -----------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
@pytest.mark.parametrize(("name", "verdict", "reason", "root", "swaps"), [
    ("serial-ide-booted", Verdict.BOOTED, "login prompt: legacy login:", "/dev/sda1",
     ("/dev/sda2",)),
    ("serial-virtio-no-root", Verdict.NOT_BOOTED, "ALERT!  /dev/sda1 does not exist", "", ()),
])
def test_real_consoles(name: str, verdict: Verdict, reason: str, root: str,
                       swaps: tuple[str, ...], size: int) -> None:
    data = (GOLDEN / f"{name}.txt").read_bytes()
    it = watched(*(data[start:start + size] for start in range(0, len(data), size)))
    assert (it.verdict, it.root_device, it.swap_devices) == (verdict, root, swaps)
    assert reason in it.reason
    assert all(c.isprintable() or c == "\n" for c in it.serial)


@pytest.mark.parametrize("line", [
    b"\r\nlegacy login: ",
    b"\nlogin: ",
    b"\x1b[0m\x1b[?25hlocalhost login: [   12.3] Adding 1k swap on /dev/vda2.  Priority:-2",
    b"[  OK  ] Reached target \x1b[0;1;39mmulti-user.target\x1b[0m - Multi-User System.\r\n",
    b"[  OK  ] Reached target Graphical Interface.\r\n",
])
def test_booted(line: bytes) -> None:
    assert watched(line).verdict is Verdict.BOOTED


@pytest.mark.parametrize("line", [
    b"Gave up waiting for root file system device.  Common problems:\n",
    b"ALERT!  UUID=2c0c does not exist.  Dropping to a shell!\n",
    b"[    2.1] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n",
    b"(initramfs) ",
    b"dracut Warning: /dev/disk/by-uuid/2c0c does not exist\n",
    b"You are in emergency mode. After logging in, type\n",
    b"Entering emergency mode. Exit the shell to continue.\n",
    b"error: no such device: 2c0c.\nEntering rescue mode...\ngrub rescue> ",
    b"No bootable device.\n",
    b"mount: mounting /dev/sda1 on /sysroot failed: No such file or directory\n",
    b"ERROR: device 'UUID=2c0c' not found. Skipping fsck.\n",
    b"BdsDxe: No bootable option or device was found.\n",
    b"\x1b[0m\x1b[37m\x1b[40mUEFI Interactive Shell v2.2\r\nEDK II\r\n",
])
def test_not_booted(line: bytes) -> None:
    assert watched(line).verdict is Verdict.NOT_BOOTED


@pytest.mark.parametrize("line", [
    b"",
    b"Welcome to GRUB!\n",
    b"error: no such device: 2c0c.\n",
    b"dracut-initqueue[234]: Warning: dracut-initqueue: timeout, still waiting for hooks:\n",
    b"Gave up waiting for suspend/resume device\n",
    b"[  OK  ] Reached target Login Prompts.\n",
    b"the word login: inside a line\n",
])
def test_not_proven(line: bytes) -> None:
    it = watched(line)
    assert it.verdict is Verdict.NOT_PROVEN
    assert it.reason.startswith("no evidence")


def test_contradiction_proves_nothing() -> None:
    it = watched(b"legacy login: \n[ 40.1] Kernel panic - not syncing: Attempted to kill init!\n")
    assert it.verdict is Verdict.NOT_PROVEN
    assert it.reason == ("the console contradicts itself; login prompt: legacy login:; the kernel "
                         "gave up: Kernel panic - not syncing: Attempted to kill init!")


def test_survived_trouble_is_told() -> None:
    it = watched(b"[ TIME ] Timed out waiting for device /dev/sda2.\nlegacy login: ")
    assert it.verdict is Verdict.BOOTED
    assert it.reason.endswith("a device is missing: Timed out waiting for device /dev/sda2.")


@pytest.mark.parametrize(("line", "root"), [
    (b"EXT4-fs (vda1): mounted filesystem with ordered data mode. Quota mode: none.", "/dev/vda1"),
    (b"EXT3-fs (sda1): mounting ext2 file system", "/dev/sda1"),
    (b"EXT4-fs (dm-0): mounting ext3 file system using the ext4 subsystem", "/dev/dm-0"),
    (b"XFS (vda3): Mounting V5 Filesystem", "/dev/vda3"),
    (b"BTRFS info (device vda2): using crc32c (crc32c-intel) checksum algorithm", "/dev/vda2"),
    (b"BTRFS info (device sda2 state M): use zstd", "/dev/sda2"),
    (b"BTRFS: device fsid 2c0c devid 1 transid 7 /dev/vda1 scanned by btrfs (120)", ""),
])
def test_root(line: bytes, root: str) -> None:
    assert watched(b"[    3.1] " + line + b"\nXFS (vdb1): Mounting V5 Filesystem\n",
                   ).root_device == (root or "/dev/vdb1")


def test_swaps() -> None:
    line = b"[   19.2] Adding 524284k swap on /dev/%s.  Priority:-2 extents:1 across:524284k\r\n"
    it = watched(line % b"vda2", line % b"mapper/vg-swap", line % b"vda2")
    assert it.swap_devices == ("/dev/vda2", "/dev/mapper/vg-swap")


# --- evidence besides the consoles ---------------------------------------------------------------

KERNEL_WROTE = DiskActivity(writes=37, written=1404928, flushes=14)
LOADER_WROTE = DiskActivity(writes=2, written=2048)
SENT = NetworkActivity(frames=3, dhcp=2, arp=1)


@pytest.mark.parametrize(("observed", "expected", "reason"), [
    (Observed(KERNEL_WROTE, SENT), Verdict.BOOTED,
     "the guest's kernel wrote 1,372 KiB to its disk and flushed it 14 times; its network card "
     "sent 3 frames (2 of them to ask for an address by DHCP, 1 of them ARP)"),
    (Observed(KERNEL_WROTE, NetworkActivity(frames=1)), Verdict.NOT_PROVEN,
     "no evidence; the guest's kernel wrote 1,372 KiB to its disk and flushed it 14 times; its "
     "network card sent 1 frame"),
    (Observed(KERNEL_WROTE), Verdict.NOT_PROVEN,
     "no evidence; the guest's kernel wrote 1,372 KiB to its disk and flushed it 14 times"),
    (Observed(LOADER_WROTE, SENT), Verdict.NOT_PROVEN,
     "no evidence; its network card sent 3 frames (2 of them to ask for an address by DHCP, "
     "1 of them ARP)"),
    (Observed(LOADER_WROTE, resets=1), Verdict.NOT_PROVEN,
     "no evidence; the guest reset itself once"),
    (Observed(KERNEL_WROTE, SENT, resets=9), Verdict.NOT_BOOTED,
     "the guest reset itself more than 3 times: it goes round in circles"),
    (Observed(KERNEL_WROTE, SENT, panicked=True), Verdict.NOT_BOOTED,
     "the guest's kernel reported that it panicked"),
])
def test_silent_guests(observed: Observed, expected: Verdict, reason: str) -> None:
    it = judged(Watch(), observed)
    assert (it.verdict, it.reason) == (expected, reason)


def test_what_the_consoles_say_comes_first() -> None:
    watch = Watch()
    watch.feed(b"You are in emergency mode. After logging in, type\n")
    assert judged(watch, Observed(KERNEL_WROTE, SENT)).verdict is Verdict.NOT_BOOTED
    watch = Watch()
    watch.feed(b"legacy login: ")
    assert judged(watch, Observed(panicked=True)).verdict is Verdict.NOT_PROVEN


def test_drivers() -> None:
    watch = Watch()
    watch.feed(b"[1.2] virtio_blk virtio1: [vda] 4194304 512-byte logical blocks (2.15 GB)\n"
               b"[1.3] scsi host0: Virtio SCSI HBA\n[1.3] scsi host1: ahci\n"
               b"[1.3] ata1.00: ATA-7: QEMU HARDDISK, 2.5+, max UDMA/100\n[1.3] nothing\n")
    assert watch.drivers == ["virtio_blk", "virtio_scsi", "libata"]


# --- hostile consoles ---------------------------------------------------------------------------


@pytest.mark.parametrize(("raw", "shown"), [
    ("\x1b[1;31mred\x1b[0m", "red"),
    ("\x1b]0;a title\x07text", "text"),
    ("\x1b]52;c;cHduZWQ=\x1b\\text", "text"),
    ("\x1bPdevice control\x1b\\text", "text"),
    ("\x1bctext\x1b(B", "text"),
    ("a\x00b\x08c\x7fd\x9b31me", "abcd31me"),
    ("\u202etxet\u2028", "txet"),
    ("\x1b\x1b[31mx", "x"),
])
def test_clean(raw: str, shown: str) -> None:
    assert clean(raw) == shown


def test_serial_is_capped_and_keeps_its_end() -> None:
    watch = Watch()
    for _ in range(20):
        watch.feed(b"\xff no newline \x1b[" * 4096)
        watch.feed(b"line\n" * 4096)
    watch.feed(b"legacy login: ")
    it = judged(watch)
    assert len(it.serial) <= console.SERIAL_LIMIT
    assert it.serial.endswith("legacy login:\n")
    assert it.verdict is Verdict.BOOTED


def test_lines_are_capped_before_anybody_sees_them() -> None:
    lines: list[str] = []
    Watch(lines.append).feed(b"\x1b[31m" + b"x" * 100_000 + b"\n")
    assert max(map(len, lines)) <= console.LINE_LIMIT


def test_many_swaps_are_capped() -> None:
    it = watched(b"".join(b"Adding 1k swap on /dev/x%d.  P\n" % n for n in range(1000)))
    assert len(it.swap_devices) == console.DEVICE_LIMIT


# --- real boots, of boot sectors ----------------------------------------------------------------


def boot_sector(text: bytes, then: bytes = b"\xf4\xeb\xfd") -> bytes:
    """16-bit code that writes `text` to the first serial port, then runs `then` (hlt for ever)."""
    code = b"\x31\xc0\x8e\xd8\xfc\xbe%s\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8"
    size = len(code)  # the %s stands for two bytes
    program = code % (0x7C00 + size + len(then)).to_bytes(2, "little") + then + text + b"\0"
    return program.ljust(510, b"\0") + b"\x55\xaa"


#: A far jump to the reset vector.
RESET = b"\xea\xf0\xff\x00\xf0"


def guest(folder: Path, sector: bytes) -> Machine:
    path = folder / "odd, name $(touch x)\n.raw"
    path.write_bytes(sector.ljust(1 << 20, b"\0"))
    return Machine("test", "x86_64", "pc", Firmware.BIOS, "max", 1, 32, Bus.IDE,
                   (Disk(path, "raw"),), (Nic("e1000", "bridge=nosuch"),))


def qemu_processes() -> list[str]:
    """This process's children that are (still) QEMU."""
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()
    return [Path(f"/proc/{pid}/comm").read_text() for pid in children]


def screen_sector(text: bytes) -> bytes:
    """16-bit code that puts `text` into a VGA's text memory, on its 31st row of 80, and nowhere
    else; then hlt for ever."""
    code = (b"\x31\xc0\x8e\xd8\xfc\xbe%s\xb8\x00\xb8\x8e\xc0\xbf\xc0\x12\xb4\x07"
            b"\xac\x84\xc0\x74\x03\xab\xeb\xf8\xf4\xeb\xfd")
    program = code % (0x7C00 + len(code)).to_bytes(2, "little") + text + b"\0"
    return program.ljust(510, b"\0") + b"\x55\xaa"


#: Writes the boot sector back by the BIOS, as GRUB does its environment; then hlt for ever.
WRITES = (b"\x31\xc0\x8e\xd8\x8e\xc0\xb8\x01\x03\xbb\x00\x7c\xb9\x01\x00\xba\x80\x00\xcd\x13"
          b"\xf4\xeb\xfd")
#: Tells the pvpanic device, whose port is 0x505, of a panic (1).
PANICS = b"\xba\x05\x05\xb0\x01\xee\xf4\xeb\xfd"
#: An empty table of interrupts, and an interrupt.
TRIPLE_FAULT = b"\x31\xc0\x8e\xd8\x0f\x01\x1e\x00\x05\xfa\xcc"
#: ACPI's S5 of the firmware's choosing, at port 0x604.
POWERS_OFF = b"\xba\x04\x06\xb8\x00\x20\xef\xf4\xeb\xfd"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UP", "DOWN"):
        monkeypatch.setattr(signs, name, tuple(
            sign._replace(settle=0.2) for sign in getattr(signs, name)))
    monkeypatch.setattr(runner, "LOOK_EVERY", 0.5)


@needs_qemu
@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(("sector", "verdict", "reason"), [
    (boot_sector(b"EXT4-fs (sda1): mounted filesystem\r\ntest login: "), Verdict.BOOTED,
     "login prompt: test login:"),
    (boot_sector(b"\r\nKernel panic - not syncing: no\r\n"), Verdict.NOT_BOOTED,
     "the kernel gave up: Kernel panic - not syncing: no"),
    (b"", Verdict.NOT_BOOTED, "the firmware found nothing to boot: not a bootable disk"),
    (boot_sector(b"\r\nhello\r\n"), Verdict.NOT_PROVEN,
     "no login prompt and no error on its consoles within 3 s"),
    (screen_sector(b"test login:"), Verdict.BOOTED,
     "login prompt (on the screen): test login:"),
    (screen_sector(b"(initramfs)"), Verdict.NOT_BOOTED,
     "the initramfs ended in a shell (on the screen): (initramfs)"),
    (boot_sector(b"hello", PANICS), Verdict.NOT_BOOTED,
     "the guest's kernel reported that it panicked"),
    (boot_sector(b"hello", RESET), Verdict.NOT_BOOTED,
     "the guest reset itself more than 3 times: it goes round in circles"),
    (boot_sector(b"hello", TRIPLE_FAULT), Verdict.NOT_BOOTED,
     "the guest reset itself more than 3 times: it goes round in circles"),
    (boot_sector(b"hello", POWERS_OFF), Verdict.NOT_PROVEN,
     "the guest powered off before a login prompt"),
], ids=["booted", "panic", "empty", "mute", "screen up", "screen down", "pvpanic", "resets",
        "triple fault", "power off"])
def test_boot(tmp_path: Path, sector: bytes, verdict: Verdict, reason: str) -> None:
    images, workspace, picture = tmp_path / "images", tmp_path / "work", tmp_path / "screen.png"
    images.mkdir()
    workspace.mkdir()
    machine = guest(images, sector)
    before = machine.disks[0].path.read_bytes()
    mute = reason.startswith("no login prompt")
    it = boot.boot(machine, kvm=False, workspace=workspace, timeout=3 if mute else 60,
                   screenshot=picture)
    assert (it.verdict, it.reason) == (verdict, reason)
    assert it.root_device == ("/dev/sda1" if b"EXT4" in sector else "")
    assert (it.resets > 3) == ("circles" in reason)
    assert it.seconds < 50
    assert machine.disks[0].path.read_bytes() == before
    assert not list(workspace.iterdir())
    assert not qemu_processes()
    assert (it.screenshot == picture) == picture.exists()
    if mute or "screen" in reason or "panicked" in reason:
        assert picture.read_bytes().startswith(b"\x89PNG")


@needs_qemu
@pytest.mark.usefixtures("quick")
@pytest.mark.skipif(host.ovmf("x86_64") is None, reason="there is no UEFI firmware")
def test_uefi(tmp_path: Path) -> None:
    machine = replace(guest(tmp_path, b""), firmware=Firmware.UEFI, machine_type="q35", memory=256,
                      bus=Bus.SATA)
    it = here.boot(machine, workspace=tmp_path, timeout=120)
    assert (it.verdict, it.bus) == (Verdict.NOT_BOOTED, Bus.SATA)
    assert it.reason.startswith("the firmware found nothing to boot: ")


@needs_qemu
def test_what_a_boot_loader_writes_proves_nothing(tmp_path: Path) -> None:
    machine = guest(tmp_path, boot_sector(b"hello", WRITES))
    it = boot.boot(machine, kvm=False, workspace=tmp_path, timeout=10)
    assert it.verdict is Verdict.NOT_PROVEN
    assert (it.disk.writes, it.disk.written) == (1, 512)


@needs_qemu
def test_qemu_that_will_not_start_is_not_proven(tmp_path: Path,
                                                monkeypatch: pytest.MonkeyPatch) -> None:
    machine = guest(tmp_path, b"")
    monkeypatch.setattr("imgconv.emit.qemu.cpu", lambda machine, accel: "no\x1b[2Jsuch")
    it = boot.boot(machine, kvm=False, workspace=tmp_path)
    assert it.verdict is Verdict.NOT_PROVEN
    assert it.reason.startswith("QEMU ended with status 1: ")
    assert "\x1b" not in it.reason


@needs_qemu
def test_qemu_is_gone_after_an_interruption(tmp_path: Path) -> None:
    def interrupt(line: str) -> None:
        assert qemu_processes()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        boot.boot(guest(tmp_path, b""), kvm=False, workspace=tmp_path, on_line=interrupt)
    assert not qemu_processes()
    assert [path.suffix for path in tmp_path.iterdir()] == [".raw"]


@needs_qemu
def test_the_picture_outlives_an_interruption(tmp_path: Path) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        boot.boot(guest(tmp_path, screen_sector(b"hello")), kvm=False, workspace=tmp_path,
                  on_look=interrupt, screenshot=tmp_path / "screen.png")
    assert not qemu_processes()
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".png", ".raw"]


def test_no_qemu_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(ImgconvError, match="qemu-img is not installed"):
        boot.boot(guest(tmp_path, b""), kvm=False, workspace=tmp_path)
