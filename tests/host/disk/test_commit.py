"""Committing into the source, exporting a copy: the guest's view decides, read by QEMU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imgconv.disk import qemu_img
from imgconv.disk.commit import commit, export, fingerprint
from imgconv.disk.formats import open_image
from imgconv.disk.overlay import create, workspace
from imgconv.errors import ImgconvError, UsageError
from imgconv.model import Image
from imgconv.run import CommandFailed
from imgconv.signals import deferred
from tests.host.disk.images import MIB, WRITABLE_FORMATS, content, digest, make, same, write


def opened(path: Path, fmt: str = "qcow2", options: str = "", writable: bool = True) -> Image:
    return open_image(make(path, fmt, 4 * MIB, pattern=0x11, options=options), writable=writable)


def changed_overlay(source: Image, directory: Path) -> Image:
    """An overlay with writes inside, at the end and zeroes over what was there."""
    overlay = create(source, directory)
    write(overlay.path, "qcow2", (0x22, MIB, 4096), (0x33, source.virtual_size - 512, 512),
          (0, 0, 512))
    return overlay


@pytest.mark.parametrize(("fmt", "options"), [
    *((fmt, "") for fmt in WRITABLE_FORMATS), ("qcow2", "compat=0.10"),
    ("vpc", "subformat=fixed"), ("vmdk", "subformat=monolithicFlat"),
    ("vmdk", "subformat=twoGbMaxExtentSparse"), ("vhdx", "subformat=fixed"),
])
def test_commit(fmt: str, options: str, tmp_path: Path) -> None:
    source = opened(tmp_path / "a:disk,1", fmt, options)
    before = fingerprint(source)
    overlay = changed_overlay(source, tmp_path)
    wanted = content(overlay.path, "qcow2", tmp_path)
    commit([(source, overlay)], [before])
    assert content(source.path, fmt, tmp_path) == wanted
    assert fingerprint(source) != before


def test_commit_goes_no_further_than_the_source(tmp_path: Path) -> None:
    base = opened(tmp_path / "base")
    before = digest(base.path)
    source = create(base, tmp_path)
    overlay = changed_overlay(source, tmp_path)
    wanted = content(overlay.path, "qcow2", tmp_path)
    commit([(source, overlay)], [fingerprint(source)])
    assert content(source.path, "qcow2", tmp_path) == wanted
    assert digest(base.path) == before


def test_all_disks_or_none(tmp_path: Path) -> None:
    """A source that someone wrote to meanwhile: nothing is committed, not even into others."""
    sources = [opened(tmp_path / name, "vmdk", "subformat=monolithicFlat") for name in "ab"]
    before = [fingerprint(source) for source in sources]
    overlays = [changed_overlay(source, tmp_path) for source in sources]
    write(sources[1].path, "vmdk", (0x44, 0, 512))
    files = {path: digest(path) for source in sources for path in (source.path, *source.references)}
    with pytest.raises(ImgconvError, match="changed by someone else"):
        commit(list(zip(sources, overlays, strict=True)), before)
    assert {path: digest(path) for path in files} == files


# --- signals ------------------------------------------------------------------------------------


def test_ctrl_c_waits_for_the_commit(tmp_path: Path) -> None:
    """As a terminal does it: the signal goes to the whole process group, children included."""
    script = tmp_path / "script.py"
    script.write_text(
        "import subprocess, sys, threading, time\n"
        "from imgconv.signals import deferred\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n"
        "try:\n"
        "    with deferred(children=True):\n"
        "        print('ready', flush=True)\n"
        "        done = subprocess.run(['sleep', '0.3'])\n"
        "        print('finished', done.returncode, flush=True)\n"
        "except KeyboardInterrupt:\n"
        "    print('interrupted', flush=True)\n")
    child = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True,
                             start_new_session=True, env={**os.environ, "PYTHONPATH": ":".join(
                                 [str(Path(__file__).parents[3]), *sys.path])})
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    time.sleep(0.1)
    os.killpg(child.pid, signal.SIGINT)
    assert child.communicate(timeout=10)[0].split() == ["finished", "0", "interrupted"]


def test_deferred_leaves_signals_as_they_were() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), deferred(children=True):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


# --- export -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", WRITABLE_FORMATS)
def test_export(fmt: str, tmp_path: Path) -> None:
    source = opened(tmp_path / "source", "vmdk", "subformat=monolithicFlat")
    before = fingerprint(source)
    overlay = changed_overlay(source, tmp_path)
    target = tmp_path / "out"
    target.mkdir()
    fractions: list[float] = []
    export(overlay, target / "it's, a:copy", fmt, fractions.append)
    assert os.listdir(target) == ["it's, a:copy"]  # noqa: PTH208
    result = open_image(target / "it's, a:copy", writable=True)
    assert (result.format, result.virtual_size) == (fmt, source.virtual_size)
    assert same(result.path, fmt, overlay.path, "qcow2")
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1
    assert fingerprint(source) == before


def test_export_of_a_stream_optimised_vmdk(tmp_path: Path) -> None:
    make(tmp_path / "plain", "raw", pattern=0x55)
    path = tmp_path / "disk.vmdk"
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vmdk", "-o",
                    "subformat=streamOptimized", tmp_path / "plain", path], check=True)
    overlay = changed_overlay(open_image(path, writable=False), tmp_path)
    export(overlay, tmp_path / "copy", "raw", lambda fraction: None)
    assert digest(tmp_path / "copy") == content(overlay.path, "qcow2", tmp_path)


def test_export_refuses_to_overwrite(tmp_path: Path) -> None:
    source = opened(tmp_path / "disk", "raw")
    overlay = changed_overlay(source, tmp_path)
    before = digest(source.path)
    (tmp_path / "link").symlink_to("disk")
    os.link(source.path, tmp_path / "hard")
    for name in ("disk", "link", "hard", overlay.path.name):
        with pytest.raises(UsageError, match="the source itself"):
            export(overlay, tmp_path / name, "raw", lambda fraction: None, force=True)
    (tmp_path / "other").write_text("precious")
    with pytest.raises(ImgconvError, match="exists already"):
        export(overlay, tmp_path / "other", "raw", lambda fraction: None)
    assert (tmp_path / "other").read_text() == "precious"
    with pytest.raises(UsageError, match="regular file"):
        export(overlay, Path("/dev/null"), "raw", lambda fraction: None, force=True)
    with pytest.raises(ImgconvError, match="does not exist"):
        export(overlay, tmp_path / "no" / "other", "raw", lambda fraction: None)
    with pytest.raises(UsageError, match="unknown image format"):
        export(overlay, tmp_path / "new", "qed", lambda fraction: None)
    assert digest(source.path) == before
    export(overlay, tmp_path / "other", "raw", lambda fraction: None, force=True)
    assert digest(tmp_path / "other") == content(overlay.path, "qcow2", tmp_path)


def test_a_private_source_has_a_private_copy(tmp_path: Path) -> None:
    source = opened(tmp_path / "disk")
    overlay = create(source, tmp_path)
    for mode, wanted in ((0o600, 0o600), (0o444, 0o644 & ~umask())):
        source.path.chmod(mode)
        export(overlay, tmp_path / "copy", "qcow2", lambda fraction: None, force=True)
        assert (tmp_path / "copy").stat().st_mode & 0o777 == wanted


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_export_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    overlay = changed_overlay(opened(tmp_path / "disk"), tmp_path)
    before = set(tmp_path.iterdir())

    def interrupt(fraction: float) -> None:
        raise error

    with pytest.raises(error):
        export(overlay, tmp_path / "copy", "raw", interrupt)
    assert set(tmp_path.iterdir()) == before


def test_a_failed_export_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    overlay = changed_overlay(opened(tmp_path / "disk"), tmp_path)
    (tmp_path / "disk").write_bytes(b"not an image")
    before = set(tmp_path.iterdir())
    with pytest.raises(CommandFailed, match="not in qcow2 format"):
        export(overlay, tmp_path / "copy", "raw", lambda fraction: None)
    assert set(tmp_path.iterdir()) == before


def test_export_where_there_is_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    overlay = changed_overlay(opened(tmp_path / "disk"), tmp_path)
    monkeypatch.setattr(qemu_img, "measure", lambda path, fmt: 1 << 60)
    with pytest.raises(ImgconvError, match="MiB are needed to write copy"):
        export(overlay, tmp_path / "copy", "raw", lambda fraction: None)


def test_a_damaged_overlay_is_found_out_before_anything_is_written(tmp_path: Path) -> None:
    source = opened(tmp_path / "disk.qcow2")
    before = digest(source.path)
    with pytest.raises(CommandFailed, match="not in qcow2 format"), \
            workspace(tmp_path) as work:  # noqa: PT012
        layer = create(source, work)
        layer.path.write_bytes(b"no longer a qcow2")
        commit([(source, layer)], [fingerprint(source)])
    assert [path.name for path in tmp_path.iterdir()] == ["disk.qcow2"]
    assert digest(source.path) == before
