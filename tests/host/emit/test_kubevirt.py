from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from imgconv.emit import kubevirt
from imgconv.errors import CannotConvert, UsageError
from imgconv.model import Disk, Machine, Nic

from .kubevirt_schema import problems, references
from .machines import MACHINES, check_golden, several_nics

#: Those that KubeVirt has.
POSSIBLE = [name for name in MACHINES if name not in ("legacy-ide", "windows-xp")]


def manifest(machine: Machine) -> Any:  # noqa: ANN401 - whatever YAML comes
    return yaml.safe_load(kubevirt.emit(machine))


def domain(machine: Machine) -> Any:  # noqa: ANN401
    return manifest(machine)["spec"]["template"]["spec"]["domain"]


@pytest.mark.parametrize("name", POSSIBLE)
def test_golden(name: str) -> None:
    check_golden(kubevirt, name, kubevirt.emit(MACHINES[name]))


@pytest.mark.parametrize("name", POSSIBLE)
def test_schema(name: str) -> None:
    assert problems(manifest(MACHINES[name])) == []
    assert references(manifest(MACHINES[name])) == []


def test_several_cards() -> None:
    found = manifest(several_nics(MACHINES["linux"]))
    assert problems(found) == references(found) == []
    networks = found["spec"]["template"]["spec"]["networks"]
    assert networks == [{"name": "net0", "pod": {}},
                        {"name": "net1", "multus": {"networkName": "br1"}}]


def test_no_card_at_all() -> None:
    machine = replace(MACHINES["linux"], nics=())
    assert problems(manifest(machine)) == references(manifest(machine)) == []
    assert domain(machine)["devices"]["autoattachPodInterface"] is False


@pytest.mark.parametrize(("path", "value", "problem"), [
    (("spec", "runStrategy"), "Sometimes", ".spec.runStrategy is 'Sometimes'"),
    (("metadata", "name"), "A_b", ".metadata.name is 'A_b'"),
    (("spec", "running"), True, ".spec.running is unknown"),
])
def test_the_schema_can_refuse(path: tuple[str, str], value: object, problem: str) -> None:
    found = manifest(MACHINES["linux"])
    found[path[0]][path[1]] = value
    assert problems(found) == [problem]


def test_ide_is_refused() -> None:
    with pytest.raises(CannotConvert, match="ide") as caught:
        kubevirt.emit(MACHINES["legacy-ide"])
    assert "virtio" in caught.value.hint


def test_windows_11() -> None:
    found = domain(MACHINES["windows-11"])
    assert found["firmware"]["bootloader"] == {"efi": {"secureBoot": True, "persistent": True}}
    assert found["features"]["smm"] == {"enabled": True}
    assert found["features"]["hyperv"]["spinlocks"] == {"spinlocks": 8191}
    assert "synictimer" in found["features"]["hyperv"]
    assert found["clock"]["timer"]["hyperv"] == {"present": True}
    assert found["devices"]["tpm"] == {"persistent": True}


def test_the_older_chipset_is_transitional() -> None:
    machine = replace(MACHINES["linux"], machine_type="pc")
    assert domain(machine)["devices"]["useVirtioTransitional"] is True
    assert "emulatedMachines" in kubevirt.emit(machine)
    assert "useVirtioTransitional" not in domain(MACHINES["linux"])["devices"]


@pytest.mark.parametrize("name", POSSIBLE)
def test_upload_commands(name: str) -> None:
    """The comments are shell commands for exactly the disks, whatever their names."""
    machine = MACHINES[name]
    lines = [shlex.split(line[1:]) for line in kubevirt.emit(machine).splitlines()
             if line.startswith("#   virtctl image-upload")]
    assert [line[-1] for line in lines] == [f"--image-path={disk.path}" for disk in machine.disks]
    spec = manifest(machine)["spec"]["template"]["spec"]
    assert [line[3] for line in lines] == [
        volume["persistentVolumeClaim"]["claimName"] for volume in spec["volumes"]]


@pytest.mark.parametrize("name", ["", "☃", "-", "9lives", "UPPER_case.qcow2", "x" * 300, "a-" * 40,
                                  "on", "a: b", "*x"])
def test_any_name_becomes_a_label(name: str) -> None:
    machine = replace(MACHINES["linux"], name=name,
                      nics=(Nic("virtio-net-pci", "bridge=br.0_1"),))
    assert problems(manifest(machine)) == references(manifest(machine)) == []


def test_what_kubevirt_does_not_have() -> None:
    linux = MACHINES["linux"]
    with pytest.raises(CannotConvert, match="vmxnet3"):
        kubevirt.emit(replace(linux, nics=(Nic("vmxnet3"),)))
    with pytest.raises(CannotConvert, match="parallels"):
        kubevirt.emit(replace(linux, disks=(Disk(Path("/images/a"), "parallels"),)))
    for path in ("/images/\udcff", "/images/a\nkind: Pod"):
        with pytest.raises(UsageError):
            kubevirt.emit(replace(linux, disks=(Disk(Path(path), "raw"),)))
