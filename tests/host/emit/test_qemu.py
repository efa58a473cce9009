from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from imgconv import host
from imgconv.emit import check_names, kvm_for, output_path, qemu, swtpm, text, write_all
from imgconv.errors import ImgconvError, UsageError
from imgconv.machine import choose
from imgconv.model import (
    Bus,
    Capabilities,
    Disk,
    Firmware,
    Inspection,
    Machine,
    Nic,
    WindowsOs,
)

GOLDEN = Path(__file__).parents[2] / "golden"
#: UPDATE_GOLDEN=1 pytest tests/unit writes the golden files anew.
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"

needs_qemu = pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None,
                                reason="qemu-system-x86_64 is not installed")

LINUX = Machine(
    name="legacy", arch="x86_64", machine_type="q35", firmware=Firmware.BIOS, cpu="max", cpus=2,
    memory=2048, bus=Bus.VIRTIO_BLK, disks=(Disk(Path("/images/legacy.qcow2"), "qcow2"),),
    nics=(Nic("virtio-net-pci", "user", "52:54:00:01:02:03"),), rng=True, balloon=True)
IDE = replace(
    LINUX, machine_type="pc", bus=Bus.IDE, cpus=1, memory=512, rng=False, balloon=False,
    disks=(Disk(Path("/images/a.vmdk"), "vmdk"), Disk(Path("/images/b.raw"), "raw"),
           Disk(Path("/images/c.raw"), "raw")),
    nics=(Nic("e1000", "tap"),), notes=("the disk stays on ide: kernel 2.4 has no virtio",))
UEFI = replace(LINUX, firmware=Firmware.UEFI, bus=Bus.VIRTIO_SCSI, localtime=True,
               nics=(Nic("e1000e", "bridge=br0", "52:54:00:01:02:03"),))
ARM = replace(UEFI, arch="aarch64", machine_type="virt", bus=Bus.VIRTIO_BLK, localtime=False)
SATA = replace(LINUX, bus=Bus.SATA)
HOSTILE = replace(LINUX, name="it's $(touch pwned), `id`",
                  disks=(Disk(Path("/images/a b,c=d'e\"$(touch pwned)\n.raw"), "raw"),),
                  notes=("first\ntouch pwned\x1b[2J",))


def windows(version: str, bus: Bus, *, arch: str = "x86_64", firmware: Firmware = Firmware.BIOS,
            secure_boot: bool = False, localtime: bool | None = None, net: bool = True) -> Machine:
    """The machine that is chosen for a Windows."""
    found = Inspection("/dev/sda2", arch, firmware, (), (), WindowsOs("Windows", version))
    return choose(found, Capabilities(bus, net=net), (Disk(Path("/images/w.qcow2"), "qcow2"),),
                  name="windows", secure_boot=secure_boot, localtime=localtime)


WINDOWS = {
    "windows-xp": windows("5.1.2600", Bus.IDE, arch="i386", net=False),
    "windows-7-x86": windows("6.1.7601", Bus.VIRTIO_BLK, arch="i386"),
    "windows-10-uefi": windows("10.0.19045", Bus.VIRTIO_BLK, firmware=Firmware.UEFI,
                               localtime=False),
    "windows-11-tpm": windows("10.0.22631", Bus.VIRTIO_BLK, firmware=Firmware.UEFI),
    "windows-11-secure-boot": windows("10.0.22631", Bus.VIRTIO_BLK, firmware=Firmware.UEFI,
                                      secure_boot=True),
    "windows-2022-scsi": windows("10.0.20348", Bus.VIRTIO_SCSI),
}

#: File names that break careless quoting, each in its own way.
ODD_NAMES = ["with space.raw", "it's \"quoted\".raw", "comma,format=qcow2,,.raw",
             "$(touch x)`id`.raw", "new\nline.raw", "json:{}.raw", "-dash.raw", "back\\slash.raw",
             "Ærø ☃.raw", "a:b.raw", "100%s.raw"]


# --- the text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "machine", "kvm"), [
    ("virtio-blk", LINUX, False),
    ("ide", IDE, False),
    ("uefi-scsi", UEFI, True),
    ("aarch64", ARM, False),
    ("sata", SATA, True),
    ("hostile", HOSTILE, False),
    *((name, machine, True) for name, machine in WINDOWS.items()),
])
def test_golden(name: str, machine: Machine, kvm: bool) -> None:
    firmware = Path("/usr/share/OVMF/OVMF_CODE_4M.fd"), Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
    script = qemu.emit(machine, kvm=kvm,
                       firmware_files=firmware if machine.firmware is Firmware.UEFI else None)
    golden = GOLDEN / f"{name}.qemu.sh"
    if UPDATE:
        golden.write_text(script, encoding="utf-8")
    assert script == golden.read_text(encoding="utf-8")


def test_output_is_beside_the_first_disk() -> None:
    assert output_path(qemu, IDE) == Path("/images/a.vmdk.qemu.sh")


def test_unknown_outputs_are_refused() -> None:
    check_names(["qemu"])
    with pytest.raises(UsageError, match="xen") as caught:
        check_names(["qemu", "xen"])
    assert "qemu" in caught.value.hint


def test_write_all_keeps_an_edited_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "kvm_usable", lambda: host.Kvm(False, "test"))
    machine = replace(LINUX, disks=(Disk(tmp_path / "a.qcow2", "qcow2"),))
    (tmp_path / "a.qcow2.qemu.sh").write_text("older")
    for _ in range(2):  # the second time there is nothing of anybody's to keep
        assert write_all(machine, ["qemu"]) == (tmp_path / "a.qcow2.qemu.sh",)
    script, kept = sorted(tmp_path.iterdir())
    assert (kept.name, kept.read_text()) == ("a.qcow2.qemu.sh~", "older")
    assert script.read_text(encoding="utf-8") == qemu.emit(machine)
    assert script.stat().st_mode & 0o500 == 0o500


def test_nothing_is_written_when_one_output_fails(tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "ovmf", lambda arch, *, secure_boot: None)
    machine = replace(UEFI, disks=(Disk(tmp_path / "a.qcow2", "qcow2"),))
    with pytest.raises(ImgconvError, match="UEFI"):
        write_all(machine, ["qemu"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("arch", "native", "usable", "expected"), [
    ("x86_64", "x86_64", True, True),
    ("i386", "x86_64", True, True),
    ("aarch64", "x86_64", True, False),
    ("x86_64", "x86_64", False, False),
])
def test_kvm_needs_the_same_architecture(monkeypatch: pytest.MonkeyPatch, arch: str, native: str,
                                         usable: bool, expected: bool) -> None:
    monkeypatch.setattr("platform.machine", lambda: native)
    monkeypatch.setattr(host, "kvm_usable", lambda: host.Kvm(usable, ""))
    assert kvm_for(replace(LINUX, arch=arch)) is expected


def test_cpu_follows_the_accelerator() -> None:
    assert qemu.cpu(LINUX, "kvm") == "host"
    assert qemu.cpu(LINUX, "tcg") == "max,la57=off"
    assert qemu.cpu(ARM, "tcg") == "cortex-a72"
    assert qemu.cpu(replace(LINUX, cpu="Haswell"), "kvm") == "Haswell"


def test_only_kvm_has_the_features_of_hyper_v() -> None:
    machine = replace(LINUX, hyperv=("hv_relaxed", "hv_time"))
    assert qemu.cpu(machine, "kvm") == "host,hv_relaxed,hv_time"
    assert qemu.cpu(machine, "tcg") == "max,la57=off"
    assert qemu.cpu(replace(machine, cpu="Haswell"), "kvm") == "Haswell,hv_relaxed,hv_time"


def test_secure_boot_is_given_up_without_firmware(tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "code.fd", tmp_path / "vars.fd"
    machine = replace(WINDOWS["windows-11-secure-boot"], disks=(raw(tmp_path / "a.raw"),))
    monkeypatch.setattr(host, "kvm_usable", lambda: host.Kvm(False, "test"))
    monkeypatch.setattr(host, "ovmf", lambda arch, *, secure_boot: None if secure_boot else files)
    script = text(machine, "qemu")
    assert "smm=on" not in script
    assert "a.raw.vars.fd" in script
    assert "# there is no Secure Boot: this host" in script
    monkeypatch.setattr(host, "ovmf", lambda arch, *, secure_boot: files if secure_boot else None)
    assert "smm=on" in text(machine, "qemu")


def test_uefi_needs_firmware() -> None:
    with pytest.raises(ImgconvError, match="UEFI") as caught:
        qemu.emit(UEFI)
    assert "ovmf" in caught.value.hint


def test_names_that_json_cannot_hold_are_refused() -> None:
    with pytest.raises(UsageError, match="UTF-8"):
        qemu.emit(replace(LINUX, disks=(Disk(Path("/images/\udcff.raw"), "raw"),)))


def test_every_disk_has_its_format_and_only_the_first_boots() -> None:
    words = qemu.argv(IDE, accel="tcg")
    nodes = [json.loads(value) for option, value in pairwise(words)
             if option == "-blockdev"]
    assert [node["driver"] for node in nodes] == ["vmdk", "raw", "raw"]
    assert [word for word in words if "bootindex" in word] == [
        "ide-hd,bus=ide.0,unit=0,drive=disk0,bootindex=1"]


# --- what QEMU makes of it ----------------------------------------------------------------------


class Qmp:
    """The least that talks QMP."""

    def __init__(self, path: Path, process: subprocess.Popen[str]) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                self.socket.connect(str(path))
                break
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.stream = self.socket.makefile("rw", encoding="utf-8")
        self.stream.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str) -> Any:  # noqa: ANN401 - whatever JSON comes
        self.stream.write(json.dumps({"execute": command}) + "\n")
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            if "event" not in answer:
                return answer["return"]

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


@contextlib.contextmanager
def stopped(command: Sequence[str], tmp_path: Path, *, only: Sequence[str] = (),
            says: str = "") -> Iterator[Qmp]:
    """`command` with a guest that does not run, and QMP to it.

    With `only`, of the host's programs there are but these and the core utilities. `says` is in
    what it writes to stderr, which is empty otherwise.
    """
    control = tmp_path / "qmp"
    environment = {**os.environ, **({"PATH": path_with(only, tmp_path)} if only else {})}
    process = subprocess.Popen([*command, "-S", "-qmp", f"unix:{control},server=on,wait=off"],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, cwd=tmp_path,
                               env=environment)
    try:
        qmp = Qmp(control, process)
        yield qmp
        qmp.ask("quit")
        qmp.close()
        _, errors = process.communicate(timeout=20)
        assert says in errors
        assert says or not errors
    finally:
        process.kill()
        process.communicate()


def path_with(programs: Sequence[str], tmp_path: Path) -> str:
    """A PATH with no programs but these and what a script for UEFI needs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in (*programs, "cat", "mv"):
        found = shutil.which(program)
        assert found is not None
        (folder / program).symlink_to(found)
    return str(folder)


def raw(path: Path) -> Disk:
    """An empty raw image of 1 MiB."""
    with path.open("wb") as file:
        file.truncate(1 << 20)
    return Disk(path, "raw")


def pci_ids(qmp: Qmp) -> set[str]:
    return {f"{device['id']['vendor']:04x}:{device['id']['device']:04x}"
            for bus in qmp.ask("query-pci") for device in bus["devices"]}


def files(qmp: Qmp) -> list[str]:
    return [block["inserted"]["image"]["filename"] for block in qmp.ask("query-block")
            if "inserted" in block]


# The first id of each pair is the transitional one: old drivers bind to it too.
@needs_qemu
@pytest.mark.parametrize(("machine_type", "bus", "nic", "present"), [
    ("q35", Bus.VIRTIO_BLK, "virtio-net-pci",
     {"1af4:1001", "1af4:1000", "1af4:1005", "1af4:1002", "8086:29c0"}),
    ("pc", Bus.VIRTIO_BLK, "virtio-net-pci", {"1af4:1001", "1af4:1000", "8086:1237"}),
    ("pc", Bus.IDE, "e1000", {"8086:7010", "8086:100e"}),
    ("q35", Bus.SATA, "e1000e", {"8086:2922", "8086:10d3"}),
    ("q35", Bus.VIRTIO_SCSI, "rtl8139", {"1af4:1004", "10ec:8139"}),
])
def test_qemu_builds_what_was_meant(tmp_path: Path, machine_type: str, bus: Bus, nic: str,
                                    present: set[str]) -> None:
    machine = replace(LINUX, machine_type=machine_type, bus=bus, nics=(Nic(nic),), memory=64,
                      disks=tuple(raw(tmp_path / f"{name}.raw") for name in "abc"))
    with stopped(qemu.argv(machine, accel="tcg"), tmp_path) as qmp:
        assert present <= pci_ids(qmp)
        assert files(qmp) == [str(disk.path) for disk in machine.disks]


@needs_qemu
@pytest.mark.parametrize("count", [
    pytest.param(("pc", Bus.IDE, 4), id="ide"),
    pytest.param(("q35", Bus.SATA, 6), id="sata"),
    pytest.param(("q35", Bus.VIRTIO_BLK, 20), id="virtio-blk"),
])
def test_every_bus_takes_its_limit(tmp_path: Path, count: tuple[str, Bus, int]) -> None:
    machine_type, bus, number = count
    machine = replace(LINUX, machine_type=machine_type, bus=bus, memory=64,
                      disks=tuple(raw(tmp_path / f"{n}.raw") for n in range(number)))
    with stopped(qemu.argv(machine, accel="tcg"), tmp_path) as qmp:
        assert len(files(qmp)) == number


@needs_qemu
def test_script_runs_whatever_the_names(tmp_path: Path) -> None:
    """The script itself, started by sh from elsewhere, opens exactly the files that were meant."""
    folder = tmp_path / "odd $(touch x), 'dir'\n"
    folder.mkdir()
    disks = tuple(raw(folder / name) for name in ODD_NAMES)
    machine = replace(HOSTILE, disks=disks, memory=64)
    script = output_path(qemu, machine)
    script.write_text(qemu.emit(machine), encoding="utf-8")
    before = sorted(folder.iterdir())
    with stopped(["sh", str(script)], tmp_path) as qmp:
        assert [Path(name) for name in files(qmp)] == [disk.path for disk in disks]
        assert qmp.ask("query-name") == {"name": machine.name}
    assert sorted(folder.iterdir()) == before
    assert not list(tmp_path.glob("*pwned*"))
    assert not list(tmp_path.glob("x"))


@needs_qemu
def test_script_copies_uefi_variables_once(tmp_path: Path) -> None:
    """Flash chips must have the size of their files, so real ones are stood in for by zeros."""
    code, template = tmp_path / "code,.fd", tmp_path / "vars $(touch x).fd"
    code.write_bytes(bytes(1 << 20))
    template.write_bytes(bytes(1 << 18))
    machine = replace(UEFI, disks=(raw(tmp_path / "it's.raw"),), memory=64, nics=())
    script = tmp_path / "run.sh"
    script.write_text(qemu.emit(machine, firmware_files=(code, template)), encoding="utf-8")
    private = qemu.vars_path(machine)
    with stopped(["sh", str(script)], tmp_path):
        assert private.read_bytes() == template.read_bytes()
    private.write_bytes(b"\1" * (1 << 18))
    with stopped(["sh", str(script)], tmp_path):
        assert private.read_bytes()[:1] == b"\1"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([
        code.name, template.name, "it's.raw", script.name, private.name])


@needs_qemu
def test_the_script_and_argv_are_the_same_command(tmp_path: Path) -> None:
    """What sh hands to QEMU is, word for word, what imgconv.boot would run."""
    fake = tmp_path / "qemu-system-x86_64"
    fake.write_text('#!/bin/sh\nprintf "%s\\0" "$@"\n')
    fake.chmod(0o755)
    script = tmp_path / "run.sh"
    script.write_text(qemu.emit(HOSTILE), encoding="utf-8")
    for accel, display in (("tcg", "none"), ("kvm", "gtk")):
        done = subprocess.run(["sh", str(script), "one more"], capture_output=True, check=True,
                              env={"PATH": f"{tmp_path}:/usr/bin:/bin", "IMGCONV_ACCEL": accel,
                                   "IMGCONV_DISPLAY": display})
        words = done.stdout.decode().split("\0")[:-1]
        expected = qemu.argv(HOSTILE, accel=accel, display=display, extra=("one more",))
        assert words == list(expected[1:])


# --- Windows ------------------------------------------------------------------------------------

#: What shows up on PCI besides the disk: the chipset, the network card, the USB controller.
WINDOWS_DEVICES = {
    "windows-xp": {"8086:1237", "8086:7010", "8086:100e", "8086:7020"},
    "windows-7-x86": {"8086:29c0", "1af4:1001", "1af4:1000", "8086:24cd"},
    "windows-10-uefi": {"8086:29c0", "1af4:1001", "1af4:1000", "1b36:000d"},
    "windows-11-tpm": {"8086:29c0", "1af4:1001", "1af4:1000", "1b36:000d"},
    "windows-11-secure-boot": {"8086:29c0", "1af4:1001", "1af4:1000", "1b36:000d"},
    "windows-2022-scsi": {"8086:29c0", "1af4:1004", "1af4:1000", "1b36:000d"},
}


@needs_qemu
@pytest.mark.parametrize("name", WINDOWS)
def test_qemu_takes_the_scripts_for_windows(tmp_path: Path, name: str) -> None:
    machine = replace(WINDOWS[name], disks=(raw(tmp_path / "a.raw"),), memory=64)
    command = [*script_for(machine, tmp_path), "-serial", "null"]
    with stopped(command, tmp_path, only=("sh", "qemu-system-x86_64"),
                 says="no TPM" if machine.tpm else "") as qmp:
        assert pci_ids(qmp) >= WINDOWS_DEVICES[name]
        assert any(mouse["absolute"] for mouse in qmp.ask("query-mice"))
        assert qmp.ask("query-tpm") == []


@needs_qemu
@pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
def test_script_starts_the_tpm(tmp_path: Path) -> None:
    folder = tmp_path / "it's, $(touch x) and a name that is too long for a socket's " / ("d" * 60)
    folder.mkdir(parents=True)
    machine = replace(WINDOWS["windows-11-tpm"], disks=(raw(folder / "a.raw"),), memory=64)
    command = [*script_for(machine, tmp_path), "-serial", "null"]
    state = swtpm.state_path(machine)
    for _ in range(2):
        with stopped(command, tmp_path) as qmp:
            assert [tpm["model"] for tpm in qmp.ask("query-tpm")] == ["tpm-crb"]
            assert (state / "pid").exists()
            assert state.stat().st_mode & 0o077 == 0
        deadline = time.monotonic() + 20
        while (state / "pid").exists():  # it goes away together with QEMU
            assert time.monotonic() < deadline
            time.sleep(0.01)


@needs_qemu
@pytest.mark.skipif(shutil.which("swtpm") is None, reason="swtpm is not installed")
def test_script_uses_a_tpm_that_waits(tmp_path: Path) -> None:
    """It was left behind by a QEMU that did not start."""
    machine = replace(WINDOWS["windows-11-tpm"], disks=(raw(tmp_path / "a.raw"),), memory=64)
    command = [*script_for(machine, tmp_path), "-serial", "null"]
    failed = subprocess.run([*command, "-no-such-option"], capture_output=True, check=False)
    assert b"no-such-option" in failed.stderr
    pid = (swtpm.state_path(machine) / "pid").read_text()
    with stopped(command, tmp_path) as qmp:
        assert len(qmp.ask("query-tpm")) == 1
        assert (swtpm.state_path(machine) / "pid").read_text() == pid


def script_for(machine: Machine, tmp_path: Path) -> list[str]:
    """The script of `machine` with firmware that need not run, as a command."""
    firmware = tmp_path / "code.fd", tmp_path / "vars.fd"
    for path in firmware:
        path.write_bytes(bytes(1 << 18))
    script = tmp_path / "run.sh"
    script.write_text(qemu.emit(
        machine, firmware_files=firmware if machine.firmware is Firmware.UEFI else None),
        encoding="utf-8")
    return ["sh", str(script)]
