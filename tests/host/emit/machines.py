"""Machines that every output is tried on, and where their golden files are."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest

from imgconv.emit import Emitter
from imgconv.machine import choose
from imgconv.model import (
    Bus,
    Capabilities,
    Disk,
    Firmware,
    Inspection,
    LinuxOs,
    Machine,
    Nic,
    WindowsOs,
)

GOLDEN = Path(__file__).parents[2] / "golden"
#: UPDATE_GOLDEN=1 writes the golden files anew.
UPDATE = os.environ.get("UPDATE_GOLDEN") == "1"

DEBIAN = LinuxOs("debian", "Debian GNU/Linux 12 (bookworm)", "12")


def chosen(name: str, os: LinuxOs | WindowsOs, bus: Bus, *, firmware: Firmware = Firmware.BIOS,
           disks: Sequence[str] = (), net: str = "user", arch: str = "x86_64", virtio: bool = True,
           secure_boot: bool = False) -> Machine:
    """The machine that is chosen for a guest with these disks; `virtio` is about all but those."""
    return choose(
        Inspection("/dev/sda1", arch, firmware, (), (), os),
        Capabilities(bus, net=virtio, rng=virtio, balloon=virtio),
        tuple(Disk(Path("/images", disk), {"vmdk": "vmdk", "raw": "raw"}.get(
            disk.rpartition(".")[2], "qcow2")) for disk in disks or [f"{name}.qcow2"]),
        name=name, net=net, secure_boot=secure_boot)


MACHINES = {
    "linux": chosen("web", DEBIAN, Bus.VIRTIO_BLK),
    "linux-uefi-scsi": chosen("db", DEBIAN, Bus.VIRTIO_SCSI, firmware=Firmware.UEFI,
                              net="bridge=br0"),
    "linux-two-disks": chosen("files", DEBIAN, Bus.VIRTIO_BLK, disks=("files.qcow2", "data.raw")),
    "linux-arm": chosen("pi", DEBIAN, Bus.VIRTIO_BLK, firmware=Firmware.UEFI, arch="aarch64"),
    "legacy-ide": chosen("old", LinuxOs("rhel", "RHEL 3", "3.9"), Bus.IDE, virtio=False,
                         disks=("a.vmdk", "b.raw", "c.raw"), net="tap"),
    "legacy-sata": chosen("desk", DEBIAN, Bus.SATA, virtio=False),
    "windows-11": chosen("win", WindowsOs("Windows 11", "10.0.22631"), Bus.VIRTIO_BLK,
                         firmware=Firmware.UEFI, secure_boot=True),
    "windows-7": chosen("seven", WindowsOs("Windows 7", "6.1.7601"), Bus.VIRTIO_BLK),
    "windows-xp": chosen("xp", WindowsOs("Windows XP", "5.1.2600"), Bus.IDE, arch="i386",
                         virtio=False),
    "hostile": replace(
        chosen("x", DEBIAN, Bus.VIRTIO_BLK), name="it's $(touch pwned), `id` --> ]]>",
        disks=(Disk(Path("/images/a b=c'd$(touch pwned)`id`;&<>--%.raw"), "raw"),),
        notes=("first\n$(touch pwned)\x1b[2J -- -->\nkind: Pod",)),
}


def several_nics(machine: Machine) -> Machine:
    return replace(machine, nics=(Nic("virtio-net-pci", "user", "52:54:00:00:00:01"),
                                  Nic("virtio-net-pci", "bridge=br1", "52:54:00:00:00:02")))


def check_golden(emitter: Emitter, name: str, text: str) -> None:
    golden = GOLDEN / f"{name}{emitter.SUFFIX}"
    if UPDATE:
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


needs_shellcheck = pytest.mark.skipif(shutil.which("shellcheck") is None,
                                      reason="shellcheck is not installed")


def shellcheck(script: str) -> None:
    """SC2016 is what names with a dollar in single quotes are meant to be."""
    subprocess.run(["shellcheck", "-s", "sh", "-e", "SC2016", "-"], input=script, text=True,
                   check=True)


class Ran(NamedTuple):
    status: int
    commands: list[list[str]]
    output: str


#: Stands in for a program that cannot run here: it only writes down how it was called.
_RECORDER = """#!{python}
import json, os, sys
with open(os.environ["RECORD"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
if sys.argv[1:2] == ["info"]:
    print("image: disk.qcow2\\nvirtual size: 1 GiB (1073741824 bytes)")
if sys.argv[0].endswith("pvesh"):
    print(117)
sys.exit(os.environ.get("FAIL", "") in sys.argv)
"""


def run_script(text: str, folder: Path, *arguments: str, record: Sequence[str],
               fail: str = "-") -> Ran:
    """Run a script with `arguments`, the programs `record` replaced by ones that are recorded.

    One that is called with the word `fail` fails.
    """
    folder.mkdir(exist_ok=True)
    script = folder / "script.sh"
    script.write_text(text, encoding="utf-8")
    for program in record:
        (folder / program).write_text(_RECORDER.format(python=sys.executable))
        (folder / program).chmod(0o755)
    log = folder / "record"
    log.write_text("")
    (folder / "cwd").mkdir(exist_ok=True)
    done = subprocess.run(["sh", script, *arguments], check=False, capture_output=True, text=True,
                          cwd=folder / "cwd",
                          env={"PATH": f"{folder}:{os.environ['PATH']}", "RECORD": str(log),
                               "TMPDIR": str(folder), "FAIL": fail})
    commands = [json.loads(line) for line in log.read_text().splitlines()]
    return Ran(done.returncode, commands, done.stdout + done.stderr)
