"""From what the user gives to tasks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from imgconv import pipeline
from imgconv.batch import tasks
from imgconv.batch.inventory import read
from imgconv.batch.inventory import tasks as find
from imgconv.cli import app
from imgconv.errors import UsageError
from imgconv.model import Bus, InitramfsMode, Names, Options, Report
from imgconv.pipeline import Job

PLAIN = Job(())


def made(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(*paths: Path | str) -> list[str]:
    return [task.name for task in find([str(path) for path in paths], PLAIN, None)]


def test_folders_patterns_and_files(tmp_path: Path) -> None:
    made(tmp_path, "a.qcow2", "deep/b.IMG", "notes.txt", ".hidden.raw", ".a.qcow2.imgconv/0.qcow2",
         "a.qcow2.qemu.sh", "odd.name")
    assert names(tmp_path) == ["a", "b"]
    assert names(tmp_path / "*") == ["a", "b"]
    assert names(tmp_path / "odd.name") == ["odd"]
    assert names(tmp_path, tmp_path / "a.qcow2") == ["a", "b"]
    with pytest.raises(UsageError, match="does not exist"):
        names(tmp_path / "c.qcow2")
    with pytest.raises(UsageError, match="does not exist"):
        names(tmp_path / "*.vdi")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no disk image"):
        names(tmp_path / "empty")


def test_names_are_told_apart(tmp_path: Path) -> None:
    made(tmp_path, "app/disk.img", "db/disk.img", "web/disk.qcow2", "other.img", ".../x.img")
    assert names(tmp_path) == ["app-disk", "db-disk", "other", "web-disk"]
    made(tmp_path, "one/disk.img", "one/disk.raw")
    assert names(tmp_path / "one") == ["disk", "disk-2"]


def test_backing_files_are_no_guests(tmp_path: Path) -> None:
    base, top = tmp_path / "base.qcow2", tmp_path / "top.qcow2"
    commands: tuple[list[str | Path], ...] = (
        ["qemu-img", "create", "-q", "-f", "qcow2", base, "1M"],
        ["qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", top])
    for command in commands:
        subprocess.run(command, check=True)
    assert names(tmp_path) == ["top"]


def test_a_description_takes_its_disks(tmp_path: Path) -> None:
    made(tmp_path, "disk.vmdk", "alone.vmdk", "notes.xml", "x.qcow2.libvirt.xml")
    (tmp_path / "guest.vmx").write_text(
        'config.version = "8"\nscsi0.present = "TRUE"\nscsi0:0.present = "TRUE"\n'
        'scsi0:0.fileName = "disk.vmdk"\n')
    found = find([str(tmp_path)], PLAIN, tmp_path / "out")
    assert [task.name for task in found] == ["alone", "guest"]
    assert f"--from={tmp_path}/guest.vmx" in found[1].arguments
    assert found[1].output == f"{tmp_path}/out/guest.qcow2"
    assert not found[1].folder


CSV = """name,disks,from,memory,emit,boot_test,names
web,web.img;web-data.img,,4096,libvirt;incus,yes,device
,db.img,,,,no,
"""
YAML = """
defaults: {emit: [libvirt], block: virtio-scsi}
guests:
  - plain.img
  - name: "web: 1"
    disks: [web.img, /abs/data.img]
    undo: no
    initramfs: splice
    output: there/web.raw
    format: raw
"""


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "fleet.csv"
    path.write_text(CSV)
    web, db = read(path, PLAIN)
    assert web.name == "web"
    assert web.job == Job((tmp_path / "web.img", tmp_path / "web-data.img"),
                          Options(names=Names.DEVICE), memory=4096, boot_test=True,
                          emit=("qemu", "libvirt", "incus"))
    assert (db.name, db.named) == ("db", False)
    task = find([str(path)], PLAIN, tmp_path / "out")[0]
    assert task.folder
    assert task.output == f"{tmp_path}/out/web"


def test_yaml(tmp_path: Path) -> None:
    path = tmp_path / "fleet.yaml"
    path.write_text(YAML)
    plain, web = read(path, replace(PLAIN, cpus=3))
    assert plain.job.disks == (tmp_path / "plain.img",)
    assert plain.job.cpus == 3
    assert web.job.disks == (tmp_path / "web.img", Path("/abs/data.img"))
    assert web.job.output == tmp_path / "there/web.raw"
    assert web.job.options == Options(block=Bus.VIRTIO_SCSI, initramfs=InitramfsMode.SPLICE)
    assert not web.job.undo


@pytest.mark.parametrize(("name", "text", "says"), [
    ("a.csv", "disks,colour\nx.img,red\n", "colour"),
    ("a.csv", "disks,memory\nx.img\n", "cells"),
    ("a.csv", "disks,memory\nx.img,much\n", "much"),
    ("a.csv", 'disks\n"x.img\n', "CSV"),
    ("a.csv", "memory\n512\n", "neither disks"),
    ("a.csv", "disks,block\nx.img,ide\n", "virtio"),
    ("a.csv", "disks,names\nx.img,fancy\n", "fancy"),
    ("a.csv", "disks,emit\nx.img,teapot\n", "teapot"),
    ("a.csv", "disks,format\nx.img,iso\n", "iso"),
    ("a.csv", "disks,boot_test\nx.img,perhaps\n", "perhaps"),
    ("a.csv", "disks,timeout\nx.img,nan\n", "seconds"),
    ("a.csv", "name,disks\nx,a.img\nx,b.img\n", "two guests"),
    ("a.csv", "name,disks\na,x.img\nb,x.img\n", "is a disk of"),
    ("a.csv", "disks,output\na.img,o.img\nb.img,o.img\n", "same"),
    ("a.csv", "disks,output\na.img,b.img\nb.img,\n", "is a disk of"),
    ("a.csv", "name,disks\na\x1b[31mb,x.img\n", "printed"),
    ("a.yaml", "guests: 3", "list"), ("a.yaml", "[[1]]", "neither a path"),
    ("a.yaml", "guests: [{disks: [{a: b}]}]", "no text"), ("a.yaml", "a: [", "YAML"),
    ("a.yaml", "guests: []\nother: 1", "needs a list"),
    ("a.yaml", "- !!python/object/apply:os.system [id]", "YAML"),
    ("a.yaml", "guests: [{disks: &a [*a]}]", "no text"),
])
def test_wrong_inventories(tmp_path: Path, name: str, text: str, says: str) -> None:
    made(tmp_path, "a.img", "b.img", "x.img")
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError, match=says):
        find([str(tmp_path / name)], PLAIN, None)


def test_no_utf8(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"disks\n\xff.img\n")
    with pytest.raises(UsageError, match="cannot be read"):
        list(read(tmp_path / "a.csv", PLAIN))


FULL = Job(
    (Path("/d/a b.img"), Path("/d/-x.img")),
    Options(Names.DEVICE, Bus.VIRTIO_SCSI, InitramfsMode.REBUILD, "/dev/sda2", Path("/drv"), True),
    output=Path("/o"), output_format="raw", input_format="raw", allow_external_files=True,
    dry_run=True, force=True, emit=("qemu", "libvirt"), net="bridge=br0", memory=512, cpus=3,
    undo=False, state_dir=Path("/s"), source=Path("/d/x.vmx"), boot_test=True, boot_timeout=9.5,
    prepare=True)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Callable[[tuple[str, ...]], Job]:
    """What virtio-ize makes of arguments, without carrying it out."""
    def parse(arguments: tuple[str, ...]) -> Job:
        found: list[Job] = []

        def taken(job: Job, progress: object) -> Report:
            found.append(job)
            raise typer.Exit

        monkeypatch.setattr(pipeline, "virtio_ize", taken)
        CliRunner().invoke(app, ["virtio-ize", *arguments])
        return found[0]
    return parse


def test_the_arguments_mean_the_job(parsed: Callable[[tuple[str, ...]], Job]) -> None:
    for job in (FULL, Job((Path("/d/a.img"),))):
        assert parsed(tasks.arguments(job)) == job
    # What is derived (hardware, formats) has no option; all else is not at its default in FULL.
    same = [field.name for field in fields(Job) if field.name not in ("hardware", "formats")
            and getattr(FULL, field.name) == getattr(Job(()), field.name)]
    assert same == []


def test_a_task_survives_being_kept(tmp_path: Path) -> None:
    task = tasks.task("näme", FULL, folder=True)
    assert tasks.from_json(task.as_json()) == task
