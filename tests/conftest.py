"""Fixtures that several tiers share: real guests, built once and cached."""

from __future__ import annotations

import logging
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imgconv import builder

if TYPE_CHECKING:
    from tests.windows_guests import WindowsTree


# A shell's background jobs ignore SIGINT, and so would every program that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def legacy_guest() -> Path:
    """The demo's guest: it does not boot from virtio. Shared and read-only; see `copy_of`."""
    return builder.build(builder.load_recipe("legacy-bookworm"), progress=print)


@pytest.fixture(scope="session")
def uefi_guest() -> Path:
    """The same on UEFI, with an EFI system partition. Shared and read-only."""
    return builder.build(builder.load_recipe("legacy-bookworm-uefi"), progress=print)


@pytest.fixture
def copy_of(tmp_path: Path) -> Callable[[Path], Path]:
    """Makes a disk of one's own from a guest: a qcow2 over it, so cheap, in the test's folder."""
    def make(guest: Path) -> Path:
        disk = tmp_path / "disk.qcow2"
        # With a link beside it, the backing file lies in the image's own folder, as it must.
        link = tmp_path / "base.qcow2"
        link.hardlink_to(guest) if _same_device(guest, tmp_path) else link.write_bytes(
            guest.read_bytes())
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-b", link, "-F", "qcow2", disk],
                       check=True)
        return disk
    return make


@pytest.fixture
def windows_disk(tmp_path: Path) -> Callable[[WindowsTree], Path]:
    """Makes a disk with a Windows guest on it, which costs a third of a second."""
    from tests import windows_disks  # needs hivex, which most tests do without

    def make(tree: WindowsTree) -> Path:
        return windows_disks.image(tree, tmp_path, fmt="qcow2")
    return make


def _same_device(one: Path, other: Path) -> bool:
    return one.stat().st_dev == other.stat().st_dev


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """A command line that runs in the test's own process sets up logging for good."""
    logger = logging.getLogger("imgconv")
    level, handlers, propagate = logger.level, logger.handlers[:], logger.propagate
    yield
    logger.setLevel(level)
    logger.handlers[:] = handlers
    logger.propagate = propagate
