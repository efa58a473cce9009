"""Descriptions and appliances with real disks, up to where the guest would be inspected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from imgconv import pipeline
from imgconv.errors import ImgconvError
from imgconv.pipeline import Job
from tests.unit.source.samples import PLAIN, archive, manifest

SIZE = 8 << 20


def imgconv(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "imgconv", *arguments], check=False, cwd=cwd,
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A qcow2 with something in it."""
    raw, path = tmp_path / "raw", tmp_path / "source.qcow2"
    raw.write_bytes(os.urandom(1 << 20) + bytes(SIZE - (2 << 20)) + os.urandom(1 << 20))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", raw, path], check=True)
    raw.unlink()
    return path


def vmdk(disk: Path, path: Path, kind: str = "streamOptimized") -> Path:
    subprocess.run(["qemu-img", "convert", "-O", "vmdk", "-o", f"subformat={kind}", disk, path],
                   check=True)
    return path


@pytest.fixture
def ova(tmp_path: Path, disk: Path) -> Path:
    """An appliance with a manifest, in a folder of its own."""
    packed = vmdk(disk, tmp_path / "disk.vmdk")
    files = {"guest.ovf": PLAIN.encode(), "disk.vmdk": packed.read_bytes()}
    packed.unlink()
    (tmp_path / "vm").mkdir()
    path = tmp_path / "vm" / "guest.ova"
    path.write_bytes(archive({"guest.ovf": files["guest.ovf"], "guest.mf": manifest(files),
                              "disk.vmdk": files["disk.vmdk"]}))
    return path


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "vmdk", one, other],
                          check=False, capture_output=True).returncode == 0


def test_an_appliance_gives_its_disk(ova: Path, disk: Path, tmp_path: Path) -> None:
    before, output = ova.read_bytes(), tmp_path / "out"
    output.mkdir()
    seen: list[tuple[str, float]] = []
    with pipeline.described(Job((ova,), output=output), lambda *at: seen.append(at),
                            unpack=True) as job:
        image, = pipeline.open_images(job, writable=False)
        assert (image.format, image.virtual_size) == ("vmdk", SIZE)
        assert image.path.is_relative_to(output)
        assert same(disk, image.path)
        assert job.hardware is not None
        assert (job.hardware.memory, job.hardware.cpus) == (512, 1)
    assert seen[-1] == ("open", 1.0)
    assert list(output.iterdir()) == []
    assert ova.read_bytes() == before


def test_one_wrong_bit_is_found(ova: Path, tmp_path: Path) -> None:
    content = bytearray(ova.read_bytes())
    with tarfile.open(ova) as tar:
        content[tar.getmember("disk.vmdk").offset_data + 100_000] ^= 1
    ova.write_bytes(content)
    done = imgconv("virtio-ize", ova, "-o", tmp_path / "new.qcow2", cwd=tmp_path)
    assert done.returncode == 1
    assert "disk.vmdk in the appliance is not what its manifest says: SHA256" in done.stderr
    assert "hint: " in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source.qcow2", "vm"]


@pytest.mark.parametrize(("arguments", "status", "said"), [
    (["virtio-ize", "vm/guest.ova"], 2, "-o FOLDER"),
    (["machine", "vm/guest.ova"], 2, "-o FOLDER"),
    (["inspect", "vm/guest.ova"], 1, "vm/guest.ova -o FOLDER, or tar -xvf"),
    (["virtio-ize"], 2, "--from PATH"),
    (["virtio-ize", "--from", "none.vmx"], 1, "none.vmx cannot be read: No such file"),
    (["virtio-ize", "--from", "source.qcow2"], 1, "describes no virtual machine"),
    (["virtio-ize", "--from", "vm"], 1, "vm cannot be read: Is a directory"),
    (["virtio-ize", "--from", "away.vmx"], 1, "--allow-external-files"),
])
@pytest.mark.usefixtures("ova")
def test_what_is_said(tmp_path: Path, arguments: list[str], status: int, said: str) -> None:
    (tmp_path / "away.vmx").write_text(
        'memsize = "64"\nide0:0.present = "TRUE"\nide0:0.fileName = "/etc/shadow"\n')
    done = imgconv(*arguments, cwd=tmp_path)
    assert done.returncode == status
    assert said in done.stderr


def test_a_vmx_names_its_disk_as_a_vmdk(tmp_path: Path, disk: Path) -> None:
    vmdk(disk, tmp_path / "g.vmdk", "monolithicSparse")
    (tmp_path / "g.vmx").write_text(
        'memsize = "64"\nide0:0.present = "TRUE"\nide0:0.fileName = "g.vmdk"\n')
    job = Job((), source=tmp_path / "g.vmx")
    with pipeline.described(job, lambda *_: None) as found:
        image, = pipeline.open_images(found, writable=True)
        assert (image.path, image.format) == (tmp_path / "g.vmdk", "vmdk")
    # What the description calls a vmdk is never taken for anything else.
    disk.replace(tmp_path / "g.vmdk")
    with pipeline.described(job, lambda *_: None) as found, \
            pytest.raises(ImgconvError, match=r"g\.vmdk"):
        pipeline.open_images(found, writable=False)


def test_libvirt_says_the_format(tmp_path: Path, disk: Path) -> None:
    """A raw disk with a qcow2's header in it stays a raw disk."""
    (tmp_path / "g.xml").write_text(
        f"<domain><devices><disk type='file'><driver type='raw'/><source file='{disk.name}'/>"
        "<target dev='vda'/></disk></devices></domain>")
    with pipeline.described(Job((), source=tmp_path / "g.xml"), lambda *_: None) as found:
        assert pipeline.open_images(found, writable=False)[0].format == "raw"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_run_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    entry = tarfile.TarInfo("disk.vmdk")
    entry.size = 6 << 30
    path, output = tmp_path / "big.ova", tmp_path / "out"
    output.mkdir()
    with path.open("wb") as file:
        file.write(archive({"guest.ovf": PLAIN.encode()}).rstrip(b"\0"))
        file.write(bytes(-file.tell() % 512) + entry.tobuf())
        file.truncate(file.tell() + entry.size)  # a hole
    child = subprocess.Popen([sys.executable, "-m", "imgconv", "virtio-ize", path, "-o", output],
                             stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while not list(output.glob("*/*.vmdk")):
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        child.send_signal(number)
        child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert list(output.iterdir()) == []
