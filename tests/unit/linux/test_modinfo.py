from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgconv.errors import HostileInput
from imgconv.linux import modinfo
from tests.guests import COMPRESS, RELEASE, elf, module

MODULE = module("virtio_blk", ("virtio", "virtio-ring"), ("virtio:d00000002v*",))


@pytest.mark.parametrize("kind", ["cpio", "gzip", "xz", "zstd"])
def test_module(kind: str) -> None:
    info = modinfo.read(COMPRESS[kind](MODULE))
    assert info == modinfo.ModInfo("virtio_blk", "x86_64", ("virtio", "virtio_ring"),
                                   ("virtio:d00000002v*",), RELEASE)


@pytest.mark.parametrize(("machine", "wide", "order", "arch"), [
    (62, True, "<", "x86_64"), (3, False, "<", "i386"), (183, True, "<", "aarch64"),
    (40, False, "<", "arm"), (21, True, ">", "ppc64"), (21, True, "<", "ppc64le"),
    (22, True, ">", "s390x"), (243, True, "<", "riscv64"), (20, False, ">", "ppc"),
    (8, False, ">", "ELF machine 8")])
def test_architectures(machine: int, wide: bool, order: str, arch: str) -> None:
    data = module("m", ("a",), machine=machine, wide=wide, order=order)
    assert (modinfo.read(data).arch, modinfo.read(data).depends) == (arch, ("a",))


@pytest.mark.parametrize("path", sorted(Path("/lib/modules").glob(
    "*/kernel/drivers/block/virtio_blk.ko*")) or [None])
def test_real_module(path: Path | None) -> None:
    if path is None:
        pytest.skip("this host has no modules")
    info = modinfo.read(path.read_bytes())
    assert info.release == path.parts[3]
    assert "virtio:d00000002v*" in info.aliases
    assert set(info.depends) <= {"virtio", "virtio_ring"}


def test_module_without_anything() -> None:
    assert modinfo.read(elf({b".modinfo": b""})) == modinfo.ModInfo("", "x86_64", (), (), "")


@pytest.mark.parametrize("data", [
    b"", b"\x7fELF", b"\x7fELF\2\1", MODULE[:63], MODULE[:-1], MODULE[:200],
    elf({b".text": b""}), elf({b".modinfo": bytes(5 << 20)}), b"\x7fELF\3\1" + MODULE[6:],
    MODULE[:40] + b"\xff" * 8 + MODULE[48:],  # the table of sections far outside
    COMPRESS["xz"](MODULE)[:-8], COMPRESS["gzip"](b"no module")],
    ids=range(12))
def test_damaged(data: bytes) -> None:
    with pytest.raises(HostileInput):
        modinfo.read(data)


@settings(max_examples=200, deadline=None)
@given(at=st.integers(0, len(MODULE) - 8), value=st.binary(min_size=1, max_size=8))
def test_mutated(at: int, value: bytes) -> None:
    with suppress(HostileInput):
        modinfo.read(MODULE[:at] + value + MODULE[at + len(value):])


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=120))
def test_noise(data: bytes) -> None:
    for content in (data, b"\x7fELF\2\1" + data, b"\x7fELF\1\2" + data):
        with suppress(HostileInput):
            modinfo.read(content)
