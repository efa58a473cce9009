"""The script is run with an openstack that only writes down how it was called.

Properties are checked against Glance's metadata definitions where those are installed (Debian:
glance-common), and against the table here, of what Nova reads besides, always.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgconv.emit import openstack
from imgconv.errors import CannotConvert, UsageError
from imgconv.model import Disk, Nic

from .machines import (
    MACHINES,
    Ran,
    check_golden,
    needs_shellcheck,
    run_script,
    shellcheck,
)

#: Where packages put Glance's metadata definitions.
METADEFS = next((path for path in (Path(os.environ.get("GLANCE_METADEFS", "/etc/glance/metadefs")),
                                   Path("/usr/share/glance-common/metadefs"),
                                   Path("/etc/glance/metadefs")) if path.is_dir()), None)

#: What Nova reads of an image, and the values that it takes; None for any.
PROPERTIES = {
    "hw_architecture": {"x86_64", "aarch64"}, "hw_machine_type": {"pc", "q35", "virt"},
    "hw_firmware_type": {"bios", "uefi"}, "hw_disk_bus": {"virtio", "scsi", "sata", "ide"},
    "hw_scsi_model": {"virtio-scsi"}, "hw_cpu_sockets": {"1"}, "hw_rng_model": {"virtio"},
    "hw_vif_model": {"virtio", "e1000", "e1000e", "rtl8139", "pcnet", "vmxnet3"},
    "hw_video_model": {"vga", "virtio"}, "hw_pointer_model": {"usbtablet"},
    "hw_time_hpet": {"true", "false"}, "hw_tpm_version": {"2.0"}, "hw_tpm_model": {"tpm-crb"},
    "os_type": {"linux", "windows"}, "os_secure_boot": {"required", "disabled"},
}
#: What Nova reads and Glance's definitions do not have; hw_tpm_model is there in flavours' words.
NOT_DEFINED = {"hw_architecture", "os_secure_boot", "hw_time_hpet", "hw_tpm_version",
               "hw_tpm_model"}


def run(text: str, folder: Path, *arguments: str) -> Ran:
    return run_script(text, folder, *arguments, record=("openstack",))


def properties(words: list[str]) -> dict[str, str]:
    pairs = [words[n + 1] for n, word in enumerate(words) if word == "--property"]
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def definitions(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Glance's properties of images, by their whole names."""
    for path in folder.glob("*.json"):
        namespace = json.loads(path.read_text())
        for kind in namespace.get("resource_type_associations", ()):
            if kind["name"] == "OS::Glance::Image":
                for name, schema in namespace.get("properties", {}).items():
                    yield kind.get("prefix", "") + name, schema


@pytest.mark.parametrize("name", MACHINES)
def test_golden(name: str) -> None:
    check_golden(openstack, name, openstack.emit(MACHINES[name]))


@needs_shellcheck
@pytest.mark.parametrize("name", MACHINES)
def test_shellcheck(name: str) -> None:
    shellcheck(openstack.emit(MACHINES[name]))


@pytest.mark.parametrize("name", MACHINES)
def test_properties_are_novas(name: str) -> None:
    for key, value in openstack.image_properties(MACHINES[name]).items():
        assert value in PROPERTIES[key]


@pytest.mark.skipif(METADEFS is None, reason="glance-common is not installed")
def test_properties_are_glances() -> None:
    assert METADEFS is not None
    defined = dict(definitions(METADEFS))
    used = {pair for machine in MACHINES.values()
            for pair in openstack.image_properties(machine).items()}
    assert {key for key, _ in used} - NOT_DEFINED <= set(defined)
    for key, value in sorted(used):
        if key not in NOT_DEFINED:
            assert value in defined[key].get("enum", [value])


@pytest.mark.parametrize("name", MACHINES)
def test_script_uploads_every_disk(tmp_path: Path, name: str) -> None:
    machine = MACHINES[name]
    ran = run(openstack.emit(machine), tmp_path, "mine")
    assert ran.status == 0, ran.output
    assert [words[:3] for words in ran.commands] == (
        [["openstack", "image", "create"]] * len(machine.disks))
    assert [words[words.index("--file") + 1] for words in ran.commands] == [
        str(disk.path) for disk in machine.disks]
    assert [words[-1] for words in ran.commands] == [
        "mine", *(f"mine-disk{n}" for n in range(1, len(machine.disks)))]
    assert properties(ran.commands[0]) == openstack.image_properties(machine)
    assert all(not properties(words) for words in ran.commands[1:])
    assert not list(tmp_path.rglob("pwned"))


def test_names(tmp_path: Path) -> None:
    disks = tuple(Disk(Path("/images", name), "vpc")
                  for name in ("new\nline.vhd", "a,b.vhd", "-c.vhd"))
    ran = run(openstack.emit(replace(MACHINES["linux"], disks=disks)), tmp_path)
    assert [words[words.index("--file") + 1] for words in ran.commands] == [
        str(disk.path) for disk in disks]
    assert {words[words.index("--disk-format") + 1] for words in ran.commands} == {"vhd"}


def test_help_and_wrong_arguments(tmp_path: Path) -> None:
    text = openstack.emit(MACHINES["linux"])
    assert "NAME" in run(text, tmp_path, "--help").output
    assert run(text, tmp_path, "a b")[:2] == (2, [])


def test_the_clock_that_nova_gives() -> None:
    linux, windows = MACHINES["linux"], MACHINES["windows-11"]
    assert "keeps" not in openstack.emit(linux) + openstack.emit(windows)
    assert "keeps UTC here" in openstack.emit(replace(linux, localtime=True))
    assert "keeps local time here" in openstack.emit(replace(windows, localtime=False))


def test_what_nova_does_not_have() -> None:
    linux = MACHINES["linux"]
    with pytest.raises(CannotConvert, match="one model"):
        openstack.emit(replace(linux, nics=(Nic("e1000"), Nic("rtl8139"))))
    with pytest.raises(CannotConvert, match="i82551"):
        openstack.emit(replace(linux, nics=(Nic("i82551"),)))
    with pytest.raises(CannotConvert, match="parallels"):
        openstack.emit(replace(linux, disks=(Disk(Path("/images/a"), "parallels"),)))
    with pytest.raises(UsageError, match="UTF-8"):
        openstack.emit(replace(linux, disks=(Disk(Path("/images/\udcff"), "raw"),)))
