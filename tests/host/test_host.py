from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from imgconv import host
from imgconv.host import Level

ABORT = """#!/bin/sh
echo started >> {log}
echo "qemu: warning: host doesn't support requested feature" >&2
echo "qemu: error: failed to set MSR 0x10a to 0x69" >&2
echo "qemu: ../kvm.c:3183: kvm_buf_set_msrs: Assertion failed" >&2
kill -ABRT $$
"""
START = """#!/bin/sh
echo started >> {log}
read command && test "$command" = quit
"""
HANG = """#!/bin/sh
echo started >> {log}
exec sleep 60
"""


class FakeQemu:
    """A program in QEMU's place, because what KVM does on this host is not ours to choose."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = folder / "started"
        self.path = folder / f"qemu-system-{platform.machine()}"
        self.device = folder / "kvm"
        self.device.touch()
        self.log.touch()
        self.install(START)
        monkeypatch.setattr(host, "KVM_DEVICE", self.device)
        monkeypatch.setenv("PATH", str(folder), prepend=":")
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))

    def install(self, script: str) -> None:
        self.path.write_text(script.format(log=self.log))
        self.path.chmod(0o755)

    @property
    def starts(self) -> int:
        return len(self.log.read_text().splitlines())


@pytest.fixture
def qemu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeQemu:
    return FakeQemu(tmp_path, monkeypatch)


def test_kvm_of_this_host_is_tried_and_remembered(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    usable, reason = host.kvm_usable()
    assert usable == (reason == "")
    assert host.kvm_usable() == (usable, reason)


def test_kvm_that_starts_is_usable(qemu: FakeQemu) -> None:
    assert host.kvm_usable() == (True, "")
    assert host.kvm_usable() == (True, "")
    assert qemu.starts == 1


def test_kvm_that_aborts_is_unusable_with_qemus_own_reason(qemu: FakeQemu) -> None:
    qemu.install(ABORT)
    for _ in range(2):
        assert host.kvm_usable() == (
            False, "QEMU does not start with KVM: failed to set MSR 0x10a to 0x69")
    assert qemu.starts == 1


def test_another_qemu_is_tried_again(qemu: FakeQemu) -> None:
    qemu.install(ABORT)
    assert not host.kvm_usable().usable
    qemu.install(START)
    assert host.kvm_usable().usable


def test_a_hanging_qemu_is_not_remembered(
        qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "TRY_SECONDS", 0.2)
    qemu.install(HANG)
    usable, reason = host.kvm_usable()
    assert not usable
    assert "did not finish" in reason
    assert not host._cache_file().exists()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": 1}', "\0\xff", '{"usable": "yes"}'])
def test_a_damaged_cache_heals(qemu: FakeQemu, damage: str) -> None:
    assert host.kvm_usable().usable
    good = host._cache_file().read_text()
    host._cache_file().write_text(damage)
    assert host.kvm_usable().usable
    assert host._cache_file().read_text() == good
    assert qemu.starts == 2
    assert [path.name for path in host._cache_file().parent.iterdir()] == ["kvm.json"]


def test_no_cache_folder_is_no_error(qemu: FakeQemu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(qemu.device / "below-a-file"))
    assert host.kvm_usable().usable


def test_no_device_no_try(qemu: FakeQemu) -> None:
    qemu.device.unlink()
    assert host.kvm_usable() == (False, f"{qemu.device} does not exist")
    assert qemu.starts == 0


def test_emulator_of_32_bit_guests_is_the_64_bit_one(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "qemu-system-x86_64"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.emulator("i386") == host.emulator("x86_64") == program
    assert host.emulator("sparc64") is None


# --- firmware -------------------------------------------------------------------------------------


def descriptor(folder: Path, name: str, arch: str = "x86_64", *, features: tuple[str, ...] = (),
               format: str = "raw", exists: bool = True) -> None:  # noqa: A002
    files = {part: folder / f"{name}.{part}.fd" for part in ("code", "vars")}
    if exists:
        for file in files.values():
            file.touch()
    (folder / f"{name}.json").write_text(json.dumps({
        "interface-types": ["uefi"], "features": features,
        "targets": [{"architecture": arch, "machines": ["pc-q35-*"]}],
        "mapping": {"device": "flash",
                    "executable": {"filename": str(files["code"]), "format": format},
                    "nvram-template": {"filename": str(files["vars"]), "format": format}}}))


@pytest.fixture
def firmware(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    etc, usr = tmp_path / "etc", tmp_path / "usr"
    etc.mkdir()
    usr.mkdir()
    monkeypatch.setattr(host, "FIRMWARE_DIRS", (etc, usr))
    return etc, usr


def test_firmware_is_the_first_that_fits(firmware: tuple[Path, Path]) -> None:
    _, usr = firmware
    descriptor(usr, "10-gone", exists=False)
    descriptor(usr, "20-qcow2", format="qcow2")
    descriptor(usr, "30-enrolled", features=("secure-boot", "enrolled-keys", "requires-smm"))
    descriptor(usr, "40-secure-without-keys", features=("secure-boot",))
    descriptor(usr, "50-arm", "aarch64")
    descriptor(usr, "60-plain")
    descriptor(usr, "70-later")
    (usr / "00-bios.json").write_text('{"mapping": {"device": "memory"}}')
    (usr / "01-broken.json").write_text("{")
    assert host.ovmf("x86_64") == (usr / "60-plain.code.fd", usr / "60-plain.vars.fd")
    enrolled = (usr / "30-enrolled.code.fd", usr / "30-enrolled.vars.fd")
    assert host.ovmf("x86_64", secure_boot=True) == enrolled
    assert host.ovmf("aarch64") == (usr / "50-arm.code.fd", usr / "50-arm.vars.fd")
    assert host.ovmf("aarch64", secure_boot=True) is None


def test_the_administrators_descriptor_hides_the_distributions(
        firmware: tuple[Path, Path]) -> None:
    etc, usr = firmware
    descriptor(usr, "10-one")
    descriptor(usr, "20-two")
    (etc / "10-one.json").touch()
    assert host.ovmf("x86_64") == (usr / "20-two.code.fd", usr / "20-two.vars.fd")


def test_firmware_of_this_host_exists() -> None:
    found = host.ovmf("x86_64")
    assert found
    assert all(path.stat().st_size > 0 for path in found)


# --- virtio-win and doctor ------------------------------------------------------------------------


def test_virtio_win_is_an_iso_or_a_folder(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTIO_WIN", str(tmp_path))
    for name in ("virtio-win-0.1.208.iso", "virtio-win.iso"):
        (tmp_path / name).touch()
        assert host.find_virtio_win() == tmp_path / name
    inf = tmp_path / "viostor/w10/amd64/viostor.inf"
    inf.parent.mkdir(parents=True)
    inf.touch()
    assert host.find_virtio_win() == tmp_path
    monkeypatch.setenv("VIRTIO_WIN", str(tmp_path / "virtio-win.iso"))
    assert host.find_virtio_win() == tmp_path / "virtio-win.iso"


def test_a_wrong_virtio_win_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIRTIO_WIN", str(tmp_path / "gone"))
    [check] = [check for check in host.checks() if check.name == "virtio-win drivers"]
    assert check.level is Level.WARNING
    assert "which $VIRTIO_WIN names, does not exist" in check.detail


def test_checks_of_this_host() -> None:
    found = host.checks()
    assert len({check.name for check in found}) == len(found)
    assert all(check.detail for check in found)
    assert [check for check in found if check.level is Level.MISSING] == []


def test_whatever_is_missing_has_a_remedy(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "gone"))
    missing = [check for check in host.checks() if check.level is Level.MISSING]
    assert {check.name for check in missing} >= {"qemu-img", f"space in {tmp_path / 'gone'}"}
    assert all(check.remedy for check in missing)
