"""The script is run with an incus that only writes down how it was called; qemu-img is real where
it matters."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from imgconv.emit import incus
from imgconv.errors import CannotConvert
from imgconv.model import Disk

from .machines import (
    MACHINES,
    Ran,
    check_golden,
    needs_shellcheck,
    run_script,
    several_nics,
    shellcheck,
)

#: Those that Incus has.
POSSIBLE = [name for name in MACHINES if name not in ("legacy-ide", "legacy-sata", "windows-xp")]


def run(text: str, folder: Path, *arguments: str, fail: str = "-") -> Ran:
    return run_script(text, folder, *arguments, record=("incus", "qemu-img"), fail=fail)


@pytest.mark.parametrize("name", POSSIBLE)
def test_golden(name: str) -> None:
    check_golden(incus, name, incus.emit(MACHINES[name]))


@needs_shellcheck
@pytest.mark.parametrize("name", POSSIBLE)
def test_shellcheck(name: str) -> None:
    shellcheck(incus.emit(MACHINES[name]))


@pytest.mark.parametrize(("name", "why"), [("legacy-ide", "ide"), ("legacy-sata", "sata")])
def test_old_buses_are_refused(name: str, why: str) -> None:
    with pytest.raises(CannotConvert, match=why) as caught:
        incus.emit(MACHINES[name])
    assert "virtio" in caught.value.hint


def test_the_older_chipset_is_refused() -> None:
    with pytest.raises(CannotConvert, match="q35"):
        incus.emit(replace(MACHINES["linux"], machine_type="pc"))


def test_what_incus_is_told(tmp_path: Path) -> None:
    ran = run(incus.emit(MACHINES["windows-11"]), tmp_path, "mine", "fast", "lan")
    assert ran.status == 0, ran.output
    told = [words[1:] for words in ran.commands if words[0] == "incus"]
    assert told[0][:2] == ["image", "import"]
    assert told[1] == [
        "init", "imgconv-mine", "mine", "--vm", "--storage", "fast", "-c", "limits.cpu=2",
        "-c", "limits.memory=4096MiB", "-c", "security.secureboot=true",
        "-c", "security.csm=false",
        "-d", "root,size=1073741824B,io.bus=virtio-blk,boot.priority=10"]
    assert told[2:] == [
        ["image", "delete", "imgconv-mine"],
        ["config", "device", "add", "mine", "eth0", "nic", "network=lan",
         f"hwaddr={MACHINES['windows-11'].nics[0].mac}"],
        ["config", "device", "add", "mine", "tpm", "tpm"]]


def test_bios_is_the_compatibility_module() -> None:
    assert "security.csm=true" in incus.emit(MACHINES["linux"])
    assert "security.csm=false" in incus.emit(MACHINES["linux-uefi-scsi"])


def test_further_disks_and_cards(tmp_path: Path) -> None:
    machine = several_nics(replace(MACHINES["linux"], disks=(
        Disk(Path("/images/a.qcow2"), "qcow2"), Disk(Path("/images/it's b.raw"), "raw"),
        Disk(Path("/images/c\nd.vmdk"), "vmdk"))))
    ran = run(incus.emit(machine), tmp_path, "mine")
    assert ran.status == 0, ran.output
    copy = tmp_path / "cwd/mine-disk2.raw"
    assert ["qemu-img", "convert", "-f", "vmdk", "-O", "raw", "--", "/images/c\nd.vmdk",
            str(copy)] in ran.commands
    devices = {words[5]: words[6:] for words in ran.commands if words[1:3] == ["config", "device"]}
    assert devices["disk1"] == ["disk", "source=/images/it's b.raw", "io.bus=virtio-blk"]
    assert devices["disk2"] == ["disk", f"source={copy}", "io.bus=virtio-blk"]
    assert devices["eth1"] == ["nic", "nictype=bridged", "parent=br1", "hwaddr=52:54:00:00:00:02"]


def test_a_failure_leaves_no_image(tmp_path: Path) -> None:
    ran = run(incus.emit(MACHINES["linux"]), tmp_path, "mine", fail="init")
    assert ran.status == 1
    assert ran.commands[-1] == ["incus", "image", "delete", "imgconv-mine"]
    assert not list(tmp_path.glob("imgconv.*"))


def test_names_are_quoted(tmp_path: Path) -> None:
    ran = run(incus.emit(MACHINES["hostile"]), tmp_path)
    assert ran.status == 0, ran.output
    assert ran.commands[0][-2] == str(MACHINES["hostile"].disks[0].path)
    assert not list(tmp_path.rglob("pwned"))


def test_help_and_wrong_arguments(tmp_path: Path) -> None:
    text = incus.emit(MACHINES["linux"])
    assert "POOL" in run(text, tmp_path, "--help").output
    assert run(text, tmp_path, "a b")[:2] == (2, [])


#: Keeps what it is given to import.
_KEEPER = """#!{python}
import shutil, sys
if sys.argv[1:3] == ["image", "import"]:
    for path in sys.argv[3:5]:
        shutil.copy(path, "{folder}")
if sys.argv[1] == "init":
    open("{folder}/init", "w").write(" ".join(sys.argv))
"""


@pytest.mark.skipif(shutil.which("qemu-img") is None, reason="qemu-img is not installed")
def test_what_is_imported(tmp_path: Path) -> None:
    """With the real qemu-img: the image's two parts, and the root disk's size."""
    disk = tmp_path / "it's a disk.vmdk"
    subprocess.run(["qemu-img", "create", "-q", "-f", "vmdk", disk, "20M"], check=True)
    subprocess.run(["qemu-io", "-f", "vmdk", "-c", "write -P 7 19M 64k", disk], check=True,
                   stdout=subprocess.DEVNULL)
    programs, kept = tmp_path / "bin", tmp_path / "kept"
    programs.mkdir()
    kept.mkdir()
    (programs / "incus").write_text(_KEEPER.format(python=sys.executable, folder=kept))
    (programs / "incus").chmod(0o755)
    machine = replace(MACHINES["windows-7"], machine_type="q35", disks=(Disk(disk, "vmdk"),))
    ran = run_script(incus.emit(machine), programs, record=())
    assert ran.status == 0, ran.output
    subprocess.run(["qemu-img", "compare", "-q", "-f", "vmdk", "-F", "qcow2", disk,
                    kept / "disk.qcow2"], check=True)
    assert f"root,size={20 << 20}B," in (kept / "init").read_text()
    with tarfile.open(kept / "metadata.tar") as tar:
        file = tar.extractfile("metadata.yaml")
        assert file is not None
        metadata = yaml.safe_load(file.read())
    assert metadata.pop("creation_date") > 1_600_000_000
    assert metadata == {"architecture": "x86_64",
                        "properties": {"os": "Windows", "description": "seven"}}
