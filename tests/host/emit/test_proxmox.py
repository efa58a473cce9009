"""The script is run with a qm that only writes down how it was called; Proxmox VE is not here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from imgconv.emit import proxmox
from imgconv.errors import CannotConvert, UsageError
from imgconv.model import Bus, Disk, Nic

from .machines import (
    MACHINES,
    Ran,
    check_golden,
    needs_shellcheck,
    run_script,
    several_nics,
    shellcheck,
)

#: qm.conf(5) of Proxmox VE 9, for what the script uses: the values, or None for any.
OPTIONS = {
    "name": None, "cpu": None, "cores": None, "memory": None, "balloon": None, "boot": None,
    "machine": {"pc", "q35", "virt"}, "bios": {"seabios", "ovmf"}, "sockets": {"1"},
    "localtime": {"0", "1"}, "tdf": {"0", "1"}, "tablet": {"0", "1"}, "arch": {"aarch64"},
    "scsihw": {"virtio-scsi-pci"}, "serial0": {"socket"}, "vga": {"std", "virtio"},
    "rng0": {"source=/dev/urandom"}, "net0": None, "net1": None, "efidisk0": None,
    "tpmstate0": {"local-lvm:1,version=v2.0"},
    "ostype": {"l24", "l26", "other", "solaris", "w2k", "w2k3", "w2k8", "win10", "win11", "win7",
               "win8", "wvista", "wxp"},
}


def options(ran: Ran) -> dict[str, str]:
    """The options of the one qm that was called."""
    words = next(words for words in ran.commands if words[0] == "qm")
    assert len(words) % 2 == 1
    return {key.removeprefix("--"): value
            for key, value in zip(words[3::2], words[4::2], strict=True)}


def run(text: str, folder: Path, *arguments: str) -> Ran:
    return run_script(text, folder, *arguments, record=("qm", "pvesh"))


@pytest.mark.parametrize("name", MACHINES)
def test_golden(name: str) -> None:
    check_golden(proxmox, name, proxmox.emit(MACHINES[name]))


@needs_shellcheck
@pytest.mark.parametrize("name", MACHINES)
def test_shellcheck(name: str) -> None:
    shellcheck(proxmox.emit(MACHINES[name]))


@pytest.mark.parametrize("name", MACHINES)
def test_options_are_those_of_qm(tmp_path: Path, name: str) -> None:
    ran = run(proxmox.emit(MACHINES[name]), tmp_path)
    assert ran.status == 0, ran.output
    for key, value in options(ran).items():
        if key.rstrip("0123456789") in ("virtio", "scsi", "sata", "ide"):
            assert value.startswith("local-lvm:0,import-from=/")
        else:
            allowed = OPTIONS[key]
            assert allowed is None or value in allowed


def test_arguments_and_their_defaults(tmp_path: Path) -> None:
    text = proxmox.emit(MACHINES["linux"])
    ran = run(text, tmp_path / "default")
    assert ran.commands[-1][:3] == ["qm", "create", "117"]
    ran = run(text, tmp_path / "given", "900", "fast", "vmbr7")
    assert [words[0] for words in ran.commands] == ["qm"]
    assert ran.commands[0][:3] == ["qm", "create", "900"]
    assert options(ran)["virtio0"] == "fast:0,import-from=/images/web.qcow2,discard=on"
    assert options(ran)["net0"].endswith(",bridge=vmbr7")


@pytest.mark.parametrize("arguments", [
    ("12x",), ("-1",), ("100", "a,b"), ("100", "a", "br 0"), ("100", "a", "b", "c"),
    ("1\n2",),
])
def test_wrong_arguments_do_nothing(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ran = run(proxmox.emit(MACHINES["linux"]), tmp_path, *arguments)
    assert (ran.status, ran.commands) == (2, [])


def test_help(tmp_path: Path) -> None:
    ran = run(proxmox.emit(MACHINES["legacy-ide"]), tmp_path, "--help")
    assert (ran.status, ran.commands) == (0, [])
    assert "  VMID " in ran.output
    assert "the disk stays on ide" in ran.output
    assert "#" not in ran.output


def test_qm_failing_is_the_scripts_failure(tmp_path: Path) -> None:
    ran = run_script(proxmox.emit(MACHINES["linux"]), tmp_path, "900", record=("qm",),
                     fail="create")
    assert ran.status == 1
    assert "is there" not in ran.output


def test_secure_boot_has_keys(tmp_path: Path) -> None:
    windows = MACHINES["windows-11"]
    for secure in (True, False):
        ran = run(proxmox.emit(replace(windows, secure_boot=secure)), tmp_path)
        assert options(ran)["efidisk0"] == (
            f"local-lvm:1,efitype=4m,pre-enrolled-keys={int(secure)}")


def test_cards_keep_their_bridges(tmp_path: Path) -> None:
    found = options(run(proxmox.emit(several_nics(MACHINES["linux"])), tmp_path))
    assert found["net0"] == "virtio=52:54:00:00:00:01,bridge=vmbr0"
    assert found["net1"] == "virtio=52:54:00:00:00:02,bridge=br1"


@pytest.mark.parametrize(("short_id", "kind"), [
    ("debian12", "l26"), ("", "other"), ("win2k", "w2k"), ("winxp", "wxp"), ("win2k3", "w2k3"),
    ("winvista", "wvista"), ("win2k8", "w2k8"), ("win7", "win7"), ("win2k8r2", "win7"),
    ("win8.1", "win8"), ("win2k12r2", "win8"), ("win10", "win10"), ("win2k16", "win10"),
    ("win2k19", "win10"), ("win11", "win11"), ("win2k22", "win11"), ("win2k25", "win11"),
])
def test_os_types(short_id: str, kind: str) -> None:
    assert proxmox.os_type(short_id) == kind


@pytest.mark.parametrize("name", ["a,b.raw", 'a"b.raw', "a\nb.raw", "a.raw ", "\udcff.raw"])
def test_what_an_option_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        proxmox.emit(replace(MACHINES["linux"], disks=(Disk(Path("/images", name), "raw"),)))


def test_limits() -> None:
    disks = tuple(Disk(Path(f"/images/{n}.raw"), "raw") for n in range(17))
    with pytest.raises(CannotConvert, match="16"):
        proxmox.emit(replace(MACHINES["linux"], disks=disks))
    assert "--scsi16" in proxmox.emit(replace(MACHINES["linux"], disks=disks, bus=Bus.VIRTIO_SCSI))
    with pytest.raises(CannotConvert, match="ne2k_pci"):
        proxmox.emit(replace(MACHINES["linux"], nics=(Nic("ne2k_pci"),)))
