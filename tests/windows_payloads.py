"""Driver payloads made from nothing: real small PE files, INF files, signed catalogs, ISOs.

Nothing of them is anybody's: the key below was made for these tests and signs nothing else.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import pycdlib
from asn1crypto import algos, cms, core, keys, x509

from imgconv.windows import pe as real_pe

_TRUST_LIST = "1.3.6.1.4.1.311.10.1"
_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
AMD64, X86, ARM64 = 0x8664, 0x014C, 0xAA64
_MODULUS = int(
    "c83a40cd13d5a9c5c1e37d6e8bd93f42a04cbb61c944f4bb00659637fac8dad3722b8fa6a222b03f5b6165a7"
    "7dfd7d80156d8282087bd10507e2ae11bc327753b156dc1643f66e6035926b15d71abf1caa7c76fb211a0a03"
    "10200857237a366711134c475de7468ac3ad62be0c6f62b847dc175ea913976d4c9a3dc71dd28ead", 16)
_SECRET = int(
    "272f8f631350ab8b3268ed3167593b1235010f6311dad6f28a1f5788d921da01abc46eb6b3e08a11bc369188"
    "7815d62bed05a397034608202dece5183f76b8f76588a4cf0f02a2c20b2712f914a6db876bccead1354784ab"
    "58cb74256a9ce1dd7a787d4b874cd9964f62154e38603ad240460b573afa4cc64c6c08e9a5485719", 16)


# --- PE -------------------------------------------------------------------------------------------


def pe(machine: int = AMD64, *, imports: Mapping[str, tuple[str, ...]] | None = None,
       version: tuple[int, int, int, int] = (1, 2, 3, 4), signed: bool = True,
       content: bytes = b"") -> bytes:
    """A native PE file of one section: imports, VS_FIXEDFILEINFO, `content`; and, where `signed`,
    a signature behind it that leads to Microsoft by name."""
    wide = machine != X86
    file_header = struct.pack("<HHIIIHH", machine, 1, 0, 0, 0, 240 if wide else 224, 0x22)
    base, section, raw = 0x10000, 0x1000, 0x200
    body = _imports(imports or {"ntoskrnl.exe": ("IoCreateDevice",)}, section, wide=wide)
    import_size = len(body)
    body += struct.pack("<IIHHHH", 0xFEEF04BD, 0x10000, version[1], version[0], version[3],
                        version[2]) + content
    body += bytes(-len(body) % 512)
    directories = [(0, 0), (section, import_size), *[(0, 0)] * 14]
    optional = struct.pack("<HBBIIIII", 0x20B if wide else 0x10B, 14, 0, 0, len(body), 0, section,
                           section)
    optional += struct.pack("<Q", base) if wide else struct.pack("<II", section, base)
    optional += struct.pack("<IIHHHHHHIIIIHH", section, 512, 10, 0, 10, 0, 10, 0, 0,
                            section + (len(body) + 0xFFF & ~0xFFF), raw, 0xC0FFEE, 1, 0)
    optional += struct.pack("<4QII" if wide else "<4III", 0x100000, 0x1000, 0x100000, 0x1000, 0, 16)
    optional += b"".join(struct.pack("<II", *entry) for entry in directories)
    header = struct.pack("<8sIIIIIIHHI", b".data", len(body), section, len(body), raw, 0, 0, 0, 0,
                         0x40000040)
    head = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + file_header + optional + header
    whole = head.ljust(raw, b"\0") + body
    return sign(whole) if signed else whole


@cache
def sign(whole: bytes, *, digest: str = "sha256", signer: str = "Test Corp",
         issuer: str = "Test Root", crossed: bool = True, of: bytes = b"") -> bytes:
    """`whole`, an unsigned PE file, with a signature; `of` is another file to sign in its place."""
    other = of or whole
    entry = _certificate_entry(other)
    value = hashlib.new(digest, other[:152] + other[156:entry] + other[entry + 8:]).digest()
    content = _indirect("1.3.6.1.4.1.311.2.1.15", value, digest)
    signature = _signed(content, digest, signer, issuer, crossed=crossed, kind=_INDIRECT_DATA)
    return with_certificates(whole, struct.pack("<IHH", 8 + len(signature), 0x200, 2) + signature)


def with_certificates(whole: bytes, table: bytes) -> bytes:
    """An unsigned PE file with this certificate table behind it."""
    table += bytes(-len(table) % 8)
    entry = _certificate_entry(whole)
    return whole[:entry] + struct.pack("<II", len(whole), len(table)) + whole[entry + 8:] + table


def _certificate_entry(whole: bytes) -> int:
    """Where the header of a file of `pe` says where its certificate table is."""
    wide = struct.unpack_from("<H", whole, 88)[0] == 0x20B
    return 88 + (112 if wide else 96) + 4 * 8


def _imports(imports: Mapping[str, tuple[str, ...]], address: int, *, wide: bool) -> bytes:
    """An import directory at `address`: descriptors, then each DLL's table, names and own name."""
    width = 8 if wide else 4
    table, rest = b"", b""
    start = address + 20 * (len(imports) + 1)
    for dll, functions in imports.items():
        thunks, names = b"", b""
        at = start + len(rest)
        first_name = at + width * (len(functions) + 1)
        for function in functions:
            thunks += (first_name + len(names)).to_bytes(width, "little")
            names += b"\0\0" + function.encode() + b"\0"
        rest += thunks + bytes(width) + names + dll.encode() + b"\0"
        dll_name = first_name + len(names)
        table += struct.pack("<IIIII", at, 0, 0, dll_name, at)
    return table + bytes(20) + rest


# --- catalogs -------------------------------------------------------------------------------------


def hash_of(data: bytes, algorithm: str) -> bytes:
    """The hash by which a catalog lists `data`."""
    if real_pe.is_pe(data):
        parsed = real_pe.parse(data)
        return parsed.sha1 if algorithm == "sha1" else parsed.sha256
    return hashlib.new(algorithm, data).digest()


def catalog(files: Mapping[str, bytes], *, digest: str = "sha1", signer: str = "Test Corp",
            issuer: str = "Test Root", members: str | None = None, crossed: bool = True) -> bytes:
    """A catalog that lists `files` by hashes of the kind `members`, signed over `digest`.

    With `crossed`, it has a certificate of the issuer that bears Microsoft's name.
    """
    kind = members or digest
    subjects = b"".join(
        _subject(name, hash_of(data, kind), kind) for name, data in files.items())
    content = b"".join([
        _der(0x30, _oid("1.3.6.1.4.1.311.12.1.1")), _der(4, bytes(16)),
        _der(0x17, b"240101000000Z"),
        _der(0x30, _oid(f"1.3.6.1.4.1.311.12.1.{2 if kind == 'sha1' else 3}") + _der(5, b"")),
        _der(0x30, subjects)])
    return _signed(content, digest, signer, issuer, crossed=crossed)


def _subject(name: str, value: bytes, kind: str) -> bytes:
    tag = value.hex().upper().encode("utf-16-le") + b"\0\0" if kind == "sha1" else value
    indirect = _der(0x30, _indirect("1.3.6.1.4.1.311.2.1.25", value, kind))
    attributes = b"".join(_der(0x30, _oid(oid) + _der(0x31, content)) for oid, content in (
        ("1.3.6.1.4.1.311.12.2.1", _name_value("File", name)),
        ("1.3.6.1.4.1.311.12.2.1", _name_value("OSAttr", "2:6.1,2:6.2")),
        (_INDIRECT_DATA, indirect)))
    return _der(0x30, _der(4, tag) + _der(0x31, attributes))


def _indirect(what: str, value: bytes, kind: str) -> bytes:
    """The content of an SpcIndirectDataContent."""
    info = algos.DigestInfo({"digest_algorithm": {"algorithm": kind}, "digest": value})
    return _der(0x30, _oid(what)) + bytes(info.dump())


def _name_value(name: str, value: str) -> bytes:
    return _der(0x30, _der(0x1E, name.encode("utf-16-be")) + core.Integer(0x10010001).dump()
                + _der(4, value.encode("utf-16-le") + b"\0\0"))


def _signed(content: bytes, digest: str, signer: str, issuer: str, *, crossed: bool,
            kind: str = _TRUST_LIST) -> bytes:
    algorithm = algos.DigestAlgorithm({"algorithm": digest})
    certificate = _certificate(digest, signer, issuer)
    certificates = certificate.dump()
    if crossed:
        certificates += _certificate(digest, issuer, "Microsoft Code Verification Root").dump()
    attributes = cms.CMSAttributes([
        {"type": "content_type", "values": [kind]},
        {"type": "message_digest", "values": [hashlib.new(digest, content).digest()]}])
    outer = _der(0xA0, _der(0x30, content))
    info = cms.SignerInfo({
        "version": "v1", "digest_algorithm": algorithm, "signed_attrs": attributes,
        "sid": {"issuer_and_serial_number": {
            "issuer": certificate.issuer, "serial_number": certificate.serial_number}},
        "signature_algorithm": {"algorithm": "rsassa_pkcs1v15"},
        "signature": _sign(attributes.dump(), digest)})
    inner = _der(0x30, core.Integer(1).dump() + cms.DigestAlgorithms([algorithm]).dump()
                 + _der(0x30, _oid(kind) + outer)
                 + _der(0xA0, certificates) + _der(0x31, info.dump()))
    return _der(0x30, _oid("1.2.840.113549.1.7.2") + _der(0xA0, inner))


@cache
def _certificate(digest: str, signer: str, issuer: str) -> Any:  # noqa: ANN401
    algorithm = {"algorithm": f"{digest}_rsa"}
    key = keys.RSAPublicKey({"modulus": _MODULUS, "public_exponent": 65537})
    time = [x509.Time({"utc_time": datetime(year, 1, 1, tzinfo=UTC)}) for year in (2024, 2026)]
    tbs = x509.TbsCertificate({
        "version": "v3", "serial_number": 4711, "signature": algorithm,
        "issuer": x509.Name.build({"common_name": issuer}),
        "subject": x509.Name.build({"common_name": signer}),
        "validity": {"not_before": time[0], "not_after": time[1]},
        "subject_public_key_info": {"algorithm": {"algorithm": "rsa"}, "public_key": key}})
    return x509.Certificate({"tbs_certificate": tbs, "signature_algorithm": algorithm,
                             "signature_value": _sign(tbs.dump(), digest)})


def _sign(data: bytes, digest: str) -> bytes:
    info = algos.DigestInfo({"digest_algorithm": {"algorithm": digest, "parameters": core.Null()},
                             "digest": hashlib.new(digest, data).digest()}).dump()
    block = b"\0\1" + b"\xff" * (128 - 3 - len(info)) + b"\0" + info
    return pow(int.from_bytes(block, "big"), _SECRET, _MODULUS).to_bytes(128, "big")


def _oid(dotted: str) -> bytes:
    encoded: bytes = core.ObjectIdentifier(dotted).dump()
    return encoded


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


# --- packages, trees, ISOs ------------------------------------------------------------------------


def inf(name: str, *, decoration: str = "NTamd64.10.0", version: str = "07/19/2017,100.1.2.3",
        copies: tuple[str, ...] | None = None, catalog_file: str | None = None,
        dirid: int = 12) -> bytes:
    """The INF of a storage driver `name`, in the form that virtio-win's have. `dirid` says where
    the driver is loaded from: those for Windows 11 have 13, the driver store."""
    listed = "\n".join(copies or (f"{name}.sys",))
    disks = "\n".join(f"{copy} = 1,," for copy in copies or (f"{name}.sys",))
    catalog_line = f"CatalogFile={name}.cat" if catalog_file is None else (
        f"CatalogFile={catalog_file}" if catalog_file else "")
    return f"""[Version]
Signature="$Windows NT$"
Class=SCSIAdapter
ClassGUID={{4D36E97B-E325-11CE-BFC1-08002BE10318}}
Provider=%Maker%
DriverVer={version}
{catalog_line}
[SourceDisksNames]
1 = "disk",,,""
[SourceDisksFiles]
{disks}
[DestinationDirs]
Files = {dirid}
[Manufacturer]
%Maker% = Models,{decoration}
[Models.{decoration}]
"Test controller" = Install, PCI\\VEN_1AF4&DEV_1001&SUBSYS_00021AF4&REV_00
"Test controller" = Install, PCI\\VEN_1AF4&DEV_1042&SUBSYS_11001AF4&REV_01
[Files]
{listed}
[Install]
CopyFiles=Files
[Install.Services]
AddService = {name}, 2, Service
[Service]
ServiceType = 1
StartType = 0
ErrorControl = 1
ServiceBinary = %{dirid}%\\{name}.sys
LoadOrderGroup = SCSI miniport
[Strings]
Maker = "Test Corp"
""".replace("\n", "\r\n").encode()


def package(name: str = "viostor", *, machine: int = AMD64, digest: str = "sha1",
            signed: bool = True, crossed: bool = True, **options: Any) -> dict[str, bytes]:  # noqa: ANN401
    """INF, SYS and (where `signed`) catalog of a driver, by file name; `options` are `inf`'s."""
    files = {f"{name}.inf": inf(name, **options),
             f"{name}.sys": pe(machine, signed=signed, content=name.encode())}
    if signed:
        files[f"{name}.cat"] = catalog(files, digest=digest, crossed=crossed)
    return files


def tree(folders: Mapping[str, Mapping[str, bytes]]) -> dict[str, bytes]:
    """`folders` by path, as one tree of path -> content."""
    return {f"{folder}/{name}": data for folder, files in folders.items()
            for name, data in files.items()}


def write(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def iso(path: Path, files: Mapping[str, bytes], *, kind: str = "joliet") -> Path:
    """An ISO 9660 image; its long names are of `kind` (joliet, rock_ridge, udf), or "plain" has
    none."""
    image = pycdlib.PyCdlib()
    image.new(interchange_level=4 if kind == "plain" else 3,
              joliet=3 if kind == "joliet" else None,
              rock_ridge="1.09" if kind == "rock_ridge" else None,
              udf="2.60" if kind == "udf" else None)
    short: dict[str, str] = {"": ""}
    for name, data in sorted(files.items()):
        *folders, last = name.split("/")
        for depth in range(1, len(folders) + 1):
            folder = "/".join(folders[:depth])
            if folder not in short:
                above = short["/".join(folders[:depth - 1])]
                short[folder] = f"{above}/{_short(folders[depth - 1], kind, len(short))}"
                image.add_directory(short[folder], **_long(folder, kind))
        above = short["/".join(folders)]
        where = f"{above}/{_short(last, kind, len(short))}" + ("" if kind == "plain" else ".;1")
        short[name] = where
        image.add_fp(BytesIO(data), len(data), where, **_long(name, kind))
    image.write(str(path))
    image.close()
    return path


def _short(name: str, kind: str, number: int) -> str:
    return name.upper() if kind == "plain" else f"N{number}"


def _long(name: str, kind: str) -> dict[str, Any]:
    if kind == "rock_ridge":
        return {"rr_name": name.rpartition("/")[2]}
    return {"joliet": {"joliet_path": f"/{name}"}, "udf": {"udf_path": f"/{name}"}}.get(kind, {})
