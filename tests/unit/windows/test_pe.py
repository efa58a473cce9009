"""PE files: what is read from real and made ones, and what is refused."""

from __future__ import annotations

import hashlib
import struct

import pytest

from imgconv.windows import catalog, pe
from tests import windows_payloads as made
from tests.windows_data import DATA, SAMPLE_ISO, needs_data


@pytest.mark.parametrize(("machine", "arch"), [
    (made.AMD64, "amd64"), (made.X86, "x86"), (made.ARM64, "arm64"), (0x0200, "machine 0x0200")])
def test_what_a_driver_is(machine: int, arch: str) -> None:
    imports = {"NTOSKRNL.exe": ("IoCreateDevice", "ZwClose"), "storport.sys": ("StorPortInit",)}
    found = pe.parse(made.pe(machine, imports=imports, version=(62, 74, 104, 14100)))
    assert (found.arch, found.native, found.signed) == (arch, True, True)
    assert found.version == (62, 74, 104, 14100)
    assert found.imports == {"ntoskrnl.exe": {"IoCreateDevice", "ZwClose"},
                             "storport.sys": {"StorPortInit"}}


@pytest.mark.parametrize("machine", [made.AMD64, made.X86])
def test_the_hash_is_without_checksum_and_signature(machine: int) -> None:
    signed, unsigned = made.pe(machine), bytearray(made.pe(machine, signed=False))
    assert pe.parse(signed).sha256 == pe.parse(bytes(unsigned)).sha256
    assert not pe.parse(bytes(unsigned)).signed
    checksum = 64 + 4 + 20 + 64
    assert struct.unpack_from("<I", unsigned, checksum) == (0xC0FFEE,)
    entry = 64 + 4 + 20 + (112 if machine == made.AMD64 else 96) + 4 * 8
    bare = unsigned[:checksum] + unsigned[checksum + 4:entry] + unsigned[entry + 8:]
    assert pe.parse(signed).sha1 == hashlib.sha1(bare).digest()
    unsigned[-1] ^= 1
    assert pe.parse(bytes(unsigned)).sha256 != pe.parse(signed).sha256


@pytest.mark.parametrize(("data", "why"), [
    (b"", "begin"), (b"MZ" + bytes(62), "begin"), (made.pe()[:-1], "cut off"),
    (made.pe()[:300], "usable"), (bytes(pe.PE_LIMIT + 1), "larger than 64 MiB"),
    (made.pe(imports={f"{n}.sys": ("F",) for n in range(300)}), "more than any driver"),
])
def test_refused(data: bytes, why: str) -> None:
    with pytest.raises(pe.BadPe, match=why) as caught:
        pe.parse(data)
    assert caught.value.hint


@needs_data
def test_real_drivers() -> None:
    from imgconv.windows.payload_tree import open_tree

    assert DATA.is_dir()
    with open_tree(SAMPLE_ISO) as tree:
        driver = pe.parse(tree.read("viostor/w10/amd64/viostor.sys"))
        listed = catalog.parse(tree.read("viostor/w10/amd64/viostor.cat"))
        old = pe.parse(tree.read("viostor/w7/x86/viostor.sys"))
    assert (driver.arch, driver.signed, driver.version) == ("amd64", True, (100, 74, 104, 14100))
    assert set(driver.imports) == {"hal.dll", "ntoskrnl.exe", "storport.sys"}
    assert "StorPortInitialize" in driver.imports["storport.sys"]
    assert listed.lists(driver.sha1)
    assert listed.lists(driver.sha256)
    assert old.arch == "x86"
