"""Nothing is committed that was not proven: the real pipeline, with a recording fake around it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgconv import emit, pipeline
from imgconv.disk import commit, overlay
from imgconv.guest import appliance
from imgconv.guest.protocols import Reader
from imgconv.model import Finding, Image, Inspection, Level, Mount, Options, Plan
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


def test_a_dry_run_changes_nothing(guest: Recorder, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    report = pipeline.virtio_ize(pipeline.Job((disk,), input_format="raw", dry_run=True))
    assert report.plan
    assert not {"change", "commit", "verify"} & set(guest.events)
