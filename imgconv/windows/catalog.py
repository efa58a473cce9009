"""Security catalogs (.cat): the signed lists of a driver package's files.

A catalog is a PKCS#7 SignedData around a certificate trust list, as `makecat` and `inf2cat` write
it. A file is listed by its hash: the Authenticode hash of a PE file (`pe.Pe`), the plain one of any
other. The signature within a PE file is a SignedData too, around the hash of that file alone
(`embedded`). Catalogs of the first kind (Windows before 8) name a member by its SHA-1 hash in
hexadecimal UTF-16, those of the second kind by the bytes of the hash; and a member has the hash
once more as SpcIndirectDataContent, or not.

No root certificates are known here: `intact` says that nobody has changed the list since the owner
of the certificate signed it, not that Windows trusts that owner; `leads_to_microsoft` goes by the
certificates' names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from asn1crypto import algos, cms, core, x509

from imgconv.errors import ImgconvError

#: Larger than a driver's catalog; those of Windows itself have some MiB.
CATALOG_LIMIT: Final = 16 << 20

_Read = TypeVar("_Read")

_CTL = "1.3.6.1.4.1.311.10.1"
_NAME_VALUE = "1.3.6.1.4.1.311.12.2.1"
_INDIRECT_DATA = "1.3.6.1.4.1.311.2.1.4"
_CROSS_ROOT = "Microsoft Code Verification Root"
_MOST_MEMBERS = 10_000
_MOST_CERTIFICATES = 64
#: Bits of an RSA modulus: more would only take time.
_LONGEST_KEY = 16384
_HEX = re.compile(rb"(?:[0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})\Z")
#: The DER of AlgorithmIdentifier and the OCTET STRING's head before a hash (RFC 8017, 9.2, note 1).
_DIGEST_INFO = {
    "sha1": bytes.fromhex("3021300906052b0e03021a05000414"),
    "sha256": bytes.fromhex("3031300d060960864801650304020105000420"),
    "sha384": bytes.fromhex("3041300d060960864801650304020205000430"),
    "sha512": bytes.fromhex("3051300d060960864801650304020305000440"),
}


class BadCatalog(ImgconvError):
    """A file is no security catalog, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file that is listed: its hashes, and its name and OSAttr ("2:6.1,2:6.2": Windows NT
    versions) where the catalog says them."""

    digests: frozenset[bytes]
    file: str = ""
    os_attr: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """`signer` is the signer's name as Windows writes it to SignerName: the common name of the
    certificate, else its organization.

    `digest` is the hash that was signed ("sha1", "sha256"), `certificate_digest` the one by which
    the signer's certificate itself is signed. `intact` is None where the signature is of a kind
    that is not checked here. Once the validity (`not_before`, `not_after`) has ended, what was
    signed and timestamped before stays good.

    `leads_to_microsoft`: Microsoft has issued the signer's certificate, or one of those that come
    with it for another authority (a cross-certificate). The kernel of 64-bit Windows knows no other
    roots than Microsoft's, whatever certificates the system has besides.
    """

    signer: str
    digest: str
    certificate_digest: str
    self_signed: bool
    leads_to_microsoft: bool
    intact: bool | None
    not_before: datetime
    not_after: datetime

    @property
    def needs_sha2(self) -> bool:
        """Whether Windows must know SHA-2 to check the signature: 7 and 2008 R2 know it from an
        update of 2015 (KB3033929) and 2019 (KB4474419) on, older ones hardly."""
        return self.digest != "sha1" or self.certificate_digest != "sha1"


@dataclass(frozen=True, slots=True)
class Catalog(Signature):
    """A list of files that is signed."""

    members: tuple[Member, ...]

    def lists(self, digest: bytes) -> bool:
        return any(digest in member.digests for member in self.members)


@dataclass(frozen=True, slots=True)
class Embedded(Signature):
    """The signature within a PE file; `file_digest` is the Authenticode hash that was signed."""

    file_digest: bytes


# --- the certificate trust list in ASN.1 ----------------------------------------------------------


class _Values(core.SetOf):  # type: ignore[misc]
    _child_spec = core.Any


class _Attribute(core.Sequence):  # type: ignore[misc]
    _fields = [("type", core.ObjectIdentifier), ("values", _Values)]  # noqa: RUF012


class _Attributes(core.SetOf):  # type: ignore[misc]
    _child_spec = _Attribute


class _Subject(core.Sequence):  # type: ignore[misc]
    _fields = [("identifier", core.OctetString),  # noqa: RUF012
               ("attributes", _Attributes, {"optional": True})]


class _Subjects(core.SequenceOf):  # type: ignore[misc]
    _child_spec = _Subject


class _Usage(core.SequenceOf):  # type: ignore[misc]
    _child_spec = core.ObjectIdentifier


class _TrustList(core.Sequence):  # type: ignore[misc]
    _fields = [  # noqa: RUF012
        ("version", core.Integer, {"optional": True}),
        ("subject_usage", _Usage),
        ("list_identifier", core.OctetString, {"optional": True}),
        ("sequence_number", core.Integer, {"optional": True}),
        ("this_update", x509.Time),
        ("next_update", x509.Time, {"optional": True}),
        ("subject_algorithm", algos.DigestAlgorithm),
        ("subjects", _Subjects, {"optional": True}),
        ("extensions", core.Any, {"explicit": 0, "optional": True}),
    ]


class _NameValue(core.Sequence):  # type: ignore[misc]
    _fields = [("tag", core.BMPString), ("flags", core.Integer),  # noqa: RUF012
               ("value", core.OctetString)]


class _IndirectData(core.Sequence):  # type: ignore[misc]
    _fields = [("data", core.Any), ("digest", algos.DigestInfo)]  # noqa: RUF012


# --- reading --------------------------------------------------------------------------------------


def parse(data: bytes) -> Catalog:
    """Raises BadCatalog."""
    return _guarded(_read_list, data)


def embedded(data: bytes) -> Embedded:
    """The signature in a certificate of a PE file (`pe.Pe.certificates`). Raises BadCatalog."""
    return _guarded(_read_embedded, data)


def _guarded(read: Callable[[Any], _Read], data: bytes) -> _Read:
    if len(data) > CATALOG_LIMIT:
        raise _bad(f"it is larger than {CATALOG_LIMIT >> 20} MiB")
    try:
        return read(cms.ContentInfo.load(data))
    except BadCatalog:
        raise
    except RecursionError:
        raise _bad("it is nested too deep") from None
    except Exception as error:  # asn1crypto: ValueError, TypeError, KeyError, AttributeError...
        raise _bad(str(error).partition("\n")[0]) from None


def _bad(why: str) -> BadCatalog:
    return BadCatalog(f"this is no usable security catalog: {why}",
                      hint="take a complete, undamaged copy of the drivers (imgconv drivers check)")


def _read_list(outer: Any) -> Catalog:  # noqa: ANN401 - asn1crypto has no types
    signed, content = _content(outer, _CTL, _TrustList)
    return Catalog(**_signature(signed, content), members=tuple(_members(content)))


def _read_embedded(outer: Any) -> Embedded:  # noqa: ANN401
    signed, content = _content(outer, _INDIRECT_DATA, _IndirectData)
    return Embedded(**_signature(signed, content), file_digest=content["digest"]["digest"].native)


def _content(outer: Any, kind: str, form: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """The SignedData, and what it is around."""
    if outer["content_type"].native != "signed_data":
        raise _bad("it is not signed")
    signed = outer["content"]
    inner = signed["encap_content_info"]
    if inner["content_type"].native != kind:
        raise _bad("it signs something else than it ought to")
    if not len(signed["signer_infos"]):
        raise _bad("nobody has signed it")
    return signed, inner["content"].parse(form)


def _signature(signed: Any, content: Any) -> dict[str, Any]:  # noqa: ANN401
    """What there is to say about who signed it."""
    signer = signed["signer_infos"][0]
    certificate = _certificate(signed, signer)
    name = certificate.subject.native
    validity = certificate["tbs_certificate"]["validity"]
    return {
        "signer": str(name.get("common_name") or name.get("organization_name") or ""),
        "digest": signer["digest_algorithm"]["algorithm"].native,
        "certificate_digest": certificate["signature_algorithm"].hash_algo,
        "self_signed": certificate.subject == certificate.issuer,
        "leads_to_microsoft":
            certificate.issuer.native.get("organization_name") == "Microsoft Corporation" or any(
                isinstance(choice.chosen, x509.Certificate)
                and choice.chosen.issuer.native.get("common_name") == _CROSS_ROOT
                for choice in signed["certificates"]),
        # PKCS#7 hashes the content without its tag and length (RFC 2315, 9.3).
        "intact": _intact(signer, certificate, bytes(content.contents)),
        "not_before": validity["not_before"].native, "not_after": validity["not_after"].native}


def _certificate(signed: Any, signer: Any) -> Any:  # noqa: ANN401
    certificates = signed["certificates"]
    if len(certificates) > _MOST_CERTIFICATES:
        raise _bad("it has too many certificates")
    who = signer["sid"].chosen
    for choice in certificates:
        certificate = choice.chosen
        if isinstance(certificate, x509.Certificate) and (
                certificate.serial_number == who["serial_number"].native
                and certificate.issuer == who["issuer"]):
            return certificate
    raise _bad("it lacks the certificate of its signer")


def _members(trust_list: Any) -> Iterator[Member]:  # noqa: ANN401
    subjects = trust_list["subjects"]
    if len(subjects) > _MOST_MEMBERS:
        raise _bad("it lists more files than any")
    for subject in subjects:
        digests = {_tag(subject["identifier"].native)}
        names: dict[str, str] = {}
        for attribute in subject["attributes"]:
            kind = attribute["type"].native
            for value in attribute["values"]:
                if kind == _NAME_VALUE:
                    pair = value.parse(_NameValue)
                    names[pair["tag"].native.lower()] = _text(pair["value"].native)
                elif kind == _INDIRECT_DATA:
                    digests.add(value.parse(_IndirectData)["digest"]["digest"].native)
        yield Member(frozenset(digests), names.get("file", ""), names.get("osattr", ""))


def _tag(identifier: bytes) -> bytes:
    """The hash that a member is named by: its bytes, or UTF-16 text of hexadecimal digits."""
    digits = identifier[::2]
    if not any(identifier[1::2]) and _HEX.match(digits.rstrip(b"\0")):
        return bytes.fromhex(digits.rstrip(b"\0").decode())
    return bytes(identifier)


def _text(value: bytes) -> str:
    return value.decode("utf-16-le", "replace").rstrip("\0")


# --- the signature --------------------------------------------------------------------------------


def _intact(signer: Any, certificate: Any, content: bytes) -> bool | None:  # noqa: ANN401
    """Whether the signer's key has signed the attributes, and they have the content's hash."""
    digest = signer["digest_algorithm"]["algorithm"].native
    attributes = signer["signed_attrs"]
    key = certificate.public_key
    if digest not in _DIGEST_INFO or key.algorithm != "rsa" \
            or signer["signature_algorithm"].signature_algo != "rsassa_pkcs1v15":
        return None
    hashes = [item["values"][0].native for item in attributes
              if item["type"].native == "message_digest"]
    if hashes != [hashlib.new(digest, content, usedforsecurity=False).digest()]:
        return False
    # The attributes are signed as a SET, but stand in the file as [0] IMPLICIT.
    signed = b"\x31" + attributes.dump()[1:]
    return _rsa(key, signer["signature"].native, digest,
                hashlib.new(digest, signed, usedforsecurity=False).digest())


def _rsa(key: Any, signature: bytes, digest: str, wanted: bytes) -> bool | None:  # noqa: ANN401
    """RSASSA-PKCS1-v1_5 (RFC 8017, 8.2.2), by making the block that must come out."""
    numbers = key["public_key"].parsed.native
    modulus, exponent = numbers["modulus"], numbers["public_exponent"]
    if not 512 <= modulus.bit_length() <= _LONGEST_KEY or not 0 < exponent < 1 << 32:
        return None
    size = (modulus.bit_length() + 7) // 8
    tail = b"\0" + _DIGEST_INFO[digest] + wanted
    block = b"\0\1" + b"\xff" * (size - 2 - len(tail)) + tail
    found = pow(int.from_bytes(signature, "big"), exponent, modulus).to_bytes(size, "big")
    return bool(len(signature) == size and found == block)
