"""kill -9 at every step of a conversion and of an undo, and at random times.

What was killed is the writing of an overlay, the commit with its undo pack, or the undo, of small
disks. It runs in a forked child, which is killed alone (qemu-nbd then lives on for a moment) or
together with its programs, at the N-th step (`imgconv.disk.steps`) or after a random time. Then
the next imgconv command comes, and the guest's view must be wholly old or wholly new, on all disks
alike, with nothing but what an undo needs left behind; and undo must bring back the old one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest

from imgconv.disk import recovery, state
from imgconv.disk.commit import commit, fingerprint
from imgconv.disk.formats import open_image
from imgconv.disk.lock import locked
from imgconv.disk.overlay import create
from imgconv.disk.steps import reached, watched
from imgconv.disk.undo import undo
from imgconv.errors import ImgconvError
from tests.host.disk.images import MIB, digest, make, qemu, write

SIZE = 8 * MIB
#: What a conversion changes here: in data, over holes, zeros over data, and the last sector.
CHANGES = (*((0x20 + i, i * MIB + 70_000, 100_000) for i in range(6)), (0, 2 * MIB, 130_000),
           (0x31, SIZE - 512, 512))
#: How many kills a kind of guest gets: steps spread over the whole, and random times.
STEPS, RANDOM = {"commit": 24, "undo": 12}, 6
SEED = 20240229


@dataclass(frozen=True)
class Kind:
    """A guest to torture: the formats of its disks; "overlay" is a qcow2 with a backing file."""

    name: str
    formats: tuple[str, ...]
    undo: bool = True

    @property
    def works(self) -> tuple[str, ...]:
        return ("commit", "undo") if self.undo else ("commit",)

    @property
    def points(self) -> int:
        return sum(STEPS[work] + RANDOM for work in self.works)


KINDS = (Kind("raw", ("raw",)), Kind("qcow2", ("qcow2",)), Kind("backing", ("overlay",)),
         Kind("two-disks", ("raw", "qcow2")), Kind("no-undo", ("qcow2",), undo=False))


@dataclass
class Score:
    tried: int = 0
    lost: list[str] = field(default_factory=list)
    old: int = 0
    new: int = 0


@dataclass
class Stage:
    """A folder with pristine disks; `reset` copies them for the next trial."""

    kind: Kind
    folder: Path
    old: tuple[str, ...] = ()
    new: tuple[str, ...] = ()

    @property
    def disks(self) -> list[Path]:
        return [self.folder / "now" / f"disk{n}.img" for n in range(len(self.kind.formats))]

    def reset(self, pristine: str = "pristine") -> None:
        shutil.rmtree(self.folder / "now", ignore_errors=True)
        # Times belong to it: an undo looks at them
        shutil.copytree(self.folder / pristine, self.folder / "now")

    def view(self) -> tuple[str, ...]:
        return tuple(checksum(path) for path in self.disks)

    def convert(self) -> None:
        images = [open_image(path, writable=True) for path in self.disks]
        with locked(images):
            overlays = []
            for image in images:
                reached("overlay begun")
                overlays.append(create(image, self.folder / "now"))
                reached("overlay made")
                for changes in (CHANGES[:5], CHANGES[5:]):
                    write(overlays[-1].path, "qcow2", *changes)
                    reached("overlay written")
            commit(list(zip(images, overlays, strict=True)),
                   [fingerprint(image) for image in images], undo=self.kind.undo)

    def undo(self) -> None:
        undo(self.disks[:1])


def checksum(path: Path) -> str:
    """The hash of what the guest sees, as QEMU reads it."""
    if path.read_bytes()[:4] != b"QFI\xfb":
        return digest(path)
    raw = path.with_suffix(".view")
    qemu("qemu-img", "convert", "-f", "qcow2", "-O", "raw", path, raw)
    try:
        return digest(raw)
    finally:
        raw.unlink()


def prepared(kind: Kind, folder: Path) -> Stage:
    stage = Stage(kind, folder)
    pristine = folder / "pristine"
    pristine.mkdir(parents=True)
    for number, fmt in enumerate(kind.formats):
        path = pristine / f"disk{number}.img"
        if fmt == "overlay":
            base = make(pristine / "base.img", "qcow2", SIZE, pattern=0x0B)
            write(base, "qcow2", (0x0C, 0, 3 * MIB))
            qemu("qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "qcow2", path)
            write(path, "qcow2", (0x0D, MIB, 2 * MIB))
        else:
            write(make(path, fmt, SIZE), fmt, (0x0A + number, 0, 3 * MIB))
    stage.reset()
    stage.old = stage.view()
    stage.convert()
    stage.new = stage.view()
    assert all(new != old for new, old in zip(stage.new, stage.old, strict=True))
    if kind.undo:
        (folder / "now").rename(folder / "converted")
    return stage


# --- killing --------------------------------------------------------------------------------------


def in_child(work: Callable[[], None]) -> int:
    """Fork a process group of its own that does `work`; returns its process id."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setpgid(0, 0)
            work()
            status = 0
        finally:
            os._exit(status)
    with contextlib.suppress(PermissionError, ProcessLookupError):
        os.setpgid(child, child)  # whoever comes first: it may have to be killed at once
    return child


def steps_of(work: Callable[[], None]) -> int:
    """How many steps `work` takes; it is done in this process."""
    names: list[str] = []
    with watched(names.append):
        work()
    return len(names)


def killed_at(step: int, work: Callable[[], None], *, group: bool) -> None:
    """Do `work` in a child that ends itself with SIGKILL at its `step`-th step (from 0)."""
    def counted() -> None:
        left = step

        def end(name: str) -> None:
            nonlocal left
            if left == 0:
                (os.killpg if group else os.kill)(os.getpid(), signal.SIGKILL)
            left -= 1

        with watched(end):
            work()

    _, status = os.waitpid(in_child(counted), 0)
    assert os.WIFSIGNALED(status), "it ended before it was killed"


def killed_after(seconds: float, work: Callable[[], None]) -> None:
    child = in_child(work)
    time.sleep(seconds)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)


# --- judging --------------------------------------------------------------------------------------


def judge(stage: Stage, score: Score, what: str, rng: random.Random) -> None:
    """Run the next imgconv command and look: it may be any, given any disk of the guest."""
    score.tried += 1
    try:
        given = rng.choice(stage.disks)
        # As a command that only looks does it first
        recovery.recover([given])
        with locked([open_image(given, writable=False)], writable=False):
            pass
        for path, fmt in zip(stage.disks, stage.kind.formats, strict=True):
            assert not any(entry.pending for entry in state.entries(path)), "still pending"
            if fmt != "raw":
                check_metadata(path)
        view = stage.view()
        assert view in (stage.old, stage.new), f"torn: {view}"
        score.old += view == stage.old
        score.new += view == stage.new
        undone = undo([given])
        assert (undone is not None) == (view == stage.new and stage.kind.undo)
        if undone:
            assert stage.view() == stage.old, "undo"
    except (AssertionError, ImgconvError, subprocess.CalledProcessError) as error:
        score.lost.append(f"{stage.kind.name}, {what}: {error}")


def check_metadata(path: Path) -> None:
    """qemu-img check: 0 is clean, 3 has clusters that nothing uses; anything else is damage."""
    done = subprocess.run(["qemu-img", "check", "-q", "-f", "qcow2", path], check=False,
                          capture_output=True, text=True)
    assert done.returncode in (0, 3), f"{path}: {done.stdout}{done.stderr}"


def spread(count: int, over: int) -> Sequence[int]:
    """`count` of the numbers below `over`, evenly, the first and the last among them."""
    assert count <= over, "too few steps"
    return sorted({round(i * (over - 1) / (count - 1)) for i in range(count)})


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """In memory where possible, which is quicker: a kill leaves the same in the page cache."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
            prefix="imgconv-kills-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_kills(kind: Kind, place: Path, monkeypatch: pytest.MonkeyPatch,
               record_property: Callable[[str, object], None]) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(place / "state"))
    rng = random.Random(f"{SEED}-{kind.name}")
    stage = prepared(kind, place / kind.name)
    score = Score()
    for name in kind.works:
        work, start = ((stage.convert, "pristine") if name == "commit" else
                       (stage.undo, "converted"))
        stage.reset(start)
        began = time.monotonic()
        total = steps_of(work)
        seconds = time.monotonic() - began
        for step in spread(STEPS[name], total):
            stage.reset(start)
            killed_at(step, work, group=step % 2 == 0)
            judge(stage, score, f"{name}, step {step} of {total}", rng)
        for _ in range(RANDOM):
            after = rng.uniform(0, seconds)
            stage.reset(start)
            killed_after(after, work)
            judge(stage, score, f"{name}, after {after:.4f} s", rng)
    record_property("kills", asdict(score))  # conftest.py sums them up
    assert score.lost == []
    assert score.tried == kind.points
    shutil.rmtree(stage.folder)


def test_there_are_enough() -> None:
    assert sum(kind.points for kind in KINDS) >= 200


def test_an_image_of_its_own(tmp_path: Path) -> None:
    """That the suite would notice: a half-written disk is neither old nor new."""
    stage = prepared(KINDS[0], tmp_path)
    stage.reset()
    write(stage.disks[0], "raw", CHANGES[1])
    score = Score()
    judge(stage, score, "half", random.Random(0))
    assert score.lost
