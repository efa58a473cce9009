"""Nothing is committed that was not proven: the real pipeline, with a recording fake around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgconv import emit, pipeline
from imgconv.disk import commit, overlay
from imgconv.guest import appliance, windows_volumes
from imgconv.guest.protocols import Reader
from imgconv.model import Finding, Image, Inspection, Level, Mount, Options, Plan
from imgconv.verify import windows as verify_windows
from tests import windows_fixture
from tests.fake_guest import FakeGuest
from tests.guests import Legacy


class Recorder(FakeGuest):
    """A guest that writes down what is done, and when it is mounted for writing."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(files)
        self.events: list[str] = []
        self.writable = False

    def mount(self, mounts: Sequence[Mount], *, writable: bool) -> None:
        self.writable = writable
        self.events.append(f"mount {'rw' if writable else 'ro'}")

    def reread(self, mounts: Sequence[Mount]) -> None:
        self.writable = False
        self.events.append("reread")

    def write(self, path: str, content: bytes, mode: int) -> None:
        assert self.writable
        self.events.append("change")
        super().write(path, content, mode)

    def append(self, path: str, content: bytes) -> None:
        assert self.writable
        self.events.append("change")
        super().append(path, content)


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Recorder:
    built, inspection = Legacy().build()
    recorder = Recorder(built.files)

    @contextmanager
    def launch(images: Sequence[Image], **_: object) -> Iterator[Recorder]:
        recorder.events.append("launch")
        yield recorder
        recorder.events.append("shutdown")

    def found(*_: object) -> Inspection:
        return inspection
    real = pipeline.verified

    def verified(reader: Reader, inspection: Inspection, options: Options,
                 plan: Plan) -> tuple[Finding, ...]:
        recorder.events.append("verify")
        return real(reader, inspection, options, plan)

    def committed(*_: object, **__: object) -> None:
        recorder.events.append("commit")
    monkeypatch.setattr(pipeline, "inspect", found)
    monkeypatch.setattr(pipeline, "verified", verified)
    monkeypatch.setattr(appliance, "launch", launch)
    monkeypatch.setattr(overlay, "create", lambda image, workspace: image)
    monkeypatch.setattr(commit, "fingerprint", lambda image: "")
    monkeypatch.setattr(commit, "commit", committed)
    monkeypatch.setattr(emit, "write_all", lambda *_: ())
    return recorder


@pytest.fixture
def job(tmp_path: Path) -> pipeline.Job:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    return pipeline.Job((disk,), input_format="raw")


def test_commit_comes_after_the_proof(guest: Recorder, job: pipeline.Job) -> None:
    report = pipeline.virtio_ize(job)
    assert report.committed
    assert list(dict.fromkeys(guest.events)) == [
        "launch", "mount rw", "change", "reread", "verify", "shutdown", "commit"]


def test_no_commit_without_proof(guest: Recorder, job: pipeline.Job,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    real = pipeline.verified

    def doubtful(reader: Reader, inspection: Inspection, options: Options,
                 plan: Plan) -> tuple[Finding, ...]:
        return (*real(reader, inspection, options, plan), Finding(Level.FAILED, "x", "not so"))
    monkeypatch.setattr(pipeline, "verified", doubtful)
    report = pipeline.virtio_ize(job)
    assert not report.proven
    assert not report.committed
    assert "commit" not in guest.events


def test_no_commit_of_what_was_not_written(guest: Recorder, job: pipeline.Job,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    # Commands that "succeed" and do nothing: the disk is what counts.
    monkeypatch.setattr(Recorder, "append", lambda *_: None)
    report = pipeline.virtio_ize(job)
    assert not report.committed
    assert any(finding.subject.startswith("initramfs") for finding in report.findings
               if finding.level is Level.FAILED)


@pytest.mark.parametrize("kept", [("inf",), ("inf", "sys", "cat")])
def test_the_machine_has_what_is_proven(guest: Recorder, job: pipeline.Job, kept: tuple[str, ...],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    """A network driver of the guest's own may be known to Windows, but lack its files."""
    made = windows_fixture.windows(10, 0, 16299, "amd64")
    windows_fixture.publish_network(made, kept)
    guest.files.clear()
    guest.files.update(made.guest().files)
    plan = windows_fixture.plan(net=True)
    monkeypatch.setattr(pipeline, "inspect", lambda *_: made.inspection)
    monkeypatch.setattr(pipeline, "planned", lambda *_: plan)
    monkeypatch.setattr(pipeline, "apply", lambda *_: None)
    monkeypatch.setattr(pipeline, "planned_again",
                        lambda *_: Finding(Level.PROVEN, "plan", "nothing is left"))
    monkeypatch.setattr(windows_volumes, "prepare", lambda *_, **__: False)
    report = pipeline.virtio_ize(job)
    assert report.plan == plan
    assert report.machine is not None
    nic, = report.machine.nics
    assert nic.model == ("virtio-net-pci" if len(kept) > 1 else "e1000e")
    again = verify_windows.capabilities(guest, made.inspection)
    assert again.net == (len(kept) > 1)


def test_a_dry_run_changes_nothing(guest: Recorder, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    report = pipeline.virtio_ize(pipeline.Job((disk,), input_format="raw", dry_run=True))
    assert report.plan
    assert not {"change", "commit", "verify"} & set(guest.events)
