from __future__ import annotations

import io
import tarfile

import pytest

from imgconv.errors import HostileInput, ImgconvError
from imgconv.source import tar
from tests.unit.source.samples import archive


def members(data: bytes) -> dict[str, bytes]:
    return {m.name: data[m.offset:m.offset + m.size] for m in tar.members(io.BytesIO(data))}


LONG = "x" * 70 + "/" + "y" * 120 + ".vmdk"


@pytest.mark.parametrize("fmt", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_tarfile_writes(fmt: int) -> None:
    files = {"a.ovf": b"<x/>", "empty": b"", "disk.vmdk": b"12345" * 1000}
    assert members(archive(files, fmt)) == files


@pytest.mark.parametrize("fmt", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_foreign_names(fmt: int) -> None:
    files = {LONG: b"1", "Büro" * 40: b"2", "next": b"3"}
    assert members(archive(files, fmt)) == files


def test_a_prefix_belongs_to_the_name() -> None:
    files = {"p" * 90 + "/" + "n" * 90: b"1"}
    assert members(archive(files)) == files


def test_sizes_above_8_gib_are_binary_numbers() -> None:
    entry = tarfile.TarInfo("big")
    entry.size = 9 << 30
    header = entry.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(ImgconvError, match="ends within 'big'"):
        members(header + b"x" * 512)


def entry(name: str = "x", size: int = 0, kind: bytes = tarfile.REGTYPE, **fields: object) -> bytes:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT)


def sealed(header: bytes) -> bytes:
    """The header with the checksum that fits."""
    blank = header[:148] + b" " * 8 + header[156:512]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def pax(record: bytes) -> bytes:
    length = len(record) + 3
    while len(b"%d %s\n" % (length, record)) != length:
        length += 1
    data = b"%d %s\n" % (length, record)
    return entry("pax", len(data), tarfile.XHDTYPE) + data.ljust(512, b"\0")


NEGATIVE = entry()[:124] + b"\xff" * 12 + entry()[136:]


@pytest.mark.parametrize(("data", "said"), [
    (entry(kind=tarfile.SYMTYPE, linkname="/etc/shadow"), "type '2'"),
    (entry(kind=tarfile.LNKTYPE, linkname="/etc/shadow"), "type '1'"),
    (entry(kind=tarfile.CHRTYPE), "type '3'"),
    (entry(kind=tarfile.FIFOTYPE), "type '6'"),
    (entry(kind=tarfile.GNUTYPE_SPARSE), "type 'S'"),
    (pax(b"GNU.sparse.major=1"), "sparse"),
    (pax(b"size=-1") + entry(), "no number"),
    (pax(b"size=99999999999999999999") + entry(), "claims"),
    (entry(size=1 << 40, kind=tarfile.XHDTYPE), "claims 1,099,511,627,776 bytes"),
    (entry(size=1 << 40, kind=tarfile.GNUTYPE_LONGNAME), "claims 1,099,511,627,776 bytes"),
    (entry("p", 4, tarfile.XHDTYPE) + b"99 x".ljust(512, b"\0"), "damaged"),
    (entry("p", 4, tarfile.XHDTYPE) + b"0 xy".ljust(512, b"\0"), "damaged"),
    (sealed(NEGATIVE), "negative"),
    (entry()[:200] + b"!" + entry()[201:], "checksum"),
    (b"x" * 600, "damaged"),
    (entry("x") * 1100, "more than 1000 members"),
])
def test_refused(data: bytes, said: str) -> None:
    with pytest.raises(HostileInput) as caught:
        members(data + bytes(1024))
    assert said in caught.value.message


@pytest.mark.parametrize("kept", [100, 512, 600, 1024 + 512, 1024 + 512 + 100])
def test_truncated(kept: int) -> None:
    data = archive({"a": b"1", "b": b"2" * 5000})[:kept]
    with pytest.raises(ImgconvError, match="ends within"):
        members(data)
