"""Header parsers on bytes nobody meant: an answer or ImgconvError, and quickly."""

from __future__ import annotations

import struct
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgconv.disk import headers
from imgconv.errors import ImgconvError

QCOW2 = (struct.pack(">4sIQIIQI", b"QFI\xfb", 3, 200, 4, 16, 1 << 20, 0).ljust(72, b"\0")
         + struct.pack(">QQQII", 0, 0, 0, 4, 104)
         + struct.pack(">II8s", 0xE2792ACA, 3, b"raw") + bytes(80) + b"base").ljust(65536, b"\0")
VMDK = b'# Disk DescriptorFile\nversion=1\nRW 1 FLAT "a-flat.vmdk" 0\nRW 2 SPARSE "b c"\n'


def test_qcow2_names() -> None:
    assert headers.qcow2(QCOW2) == headers.Named((), "base", "raw")


def test_vmdk_names() -> None:
    text = VMDK + b'parentFileNameHint="p.vmdk"\n\0RW 1 FLAT "behind the end" 0'
    named = headers.vmdk(text)
    assert named.parts == ("./a-flat.vmdk", "./b c")
    assert named.backing == "p.vmdk"


@given(st.integers(0, 250), st.binary(min_size=1, max_size=12), st.integers(0, 65536))
def test_mangled_qcow2(offset: int, data: bytes, length: int) -> None:
    mangled = (QCOW2[:offset] + data + QCOW2[offset + len(data):])[:length]
    with suppress(ImgconvError):
        headers.qcow2(mangled)


@given(st.binary(max_size=600), st.sampled_from([b"", b"KDMV", b"COWD", b"conectix", VMDK]))
def test_any_bytes(data: bytes, magic: bytes) -> None:
    headers.format_of(magic + data, data)
    for parse in (headers.vmdk, lambda head: headers.vpc(head, head)):
        with suppress(ImgconvError):
            parse(magic + data)


@pytest.mark.parametrize("unit", [b"RW 1", b"1", b"RW ", b"\n", b'RW 1 A"', b"RW 1 ", b"#"])
def test_hostile_descriptors_take_linear_time(unit: bytes) -> None:
    start = time.monotonic()
    with suppress(ImgconvError):
        headers.vmdk(b"RW 1" + unit * (headers.HEAD_SIZE // len(unit)))
    assert time.monotonic() - start < 2
