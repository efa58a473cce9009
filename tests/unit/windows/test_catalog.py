"""Security catalogs: which files they list, who signed them, and whether they are as signed."""

from __future__ import annotations

import hashlib

import pytest

from imgconv.windows import catalog
from tests import windows_payloads as made

FILES = {"a.sys": made.pe(), "a.inf": made.inf("a")}


@pytest.mark.parametrize("digest", ["sha1", "sha256"])
def test_files_are_listed_by_their_hashes(digest: str) -> None:
    found = catalog.parse(made.catalog(FILES, digest=digest, signer="Red Cap, Inc."))
    assert found.signer == "Red Cap, Inc."
    assert (found.digest, found.certificate_digest) == (digest, digest)
    assert (found.intact, found.self_signed, found.needs_sha2) == (True, False, digest == "sha256")
    assert (found.not_before.year, found.not_after.year) == (2024, 2026)
    assert found.members == tuple(
        catalog.Member(frozenset({made.hash_of(data, digest)}), name, "2:6.1,2:6.2")
        for name, data in FILES.items())
    assert found.lists(hashlib.new(digest, FILES["a.inf"]).digest())
    assert not found.lists(hashlib.new(digest, FILES["a.sys"]).digest())  # not the plain hash
    assert found.lists(made.hash_of(FILES["a.sys"], digest))


def test_a_member_may_have_no_more_than_its_tag() -> None:
    """As the SHA-1 members of real catalogs of the second kind."""
    data = made.catalog(FILES, digest="sha1", members="sha256")
    indirect = bytes.fromhex("060a2b060104018237020104")
    other = indirect[:-1] + b"\x63"
    found = catalog.parse(data.replace(indirect, other))
    assert found.lists(made.hash_of(FILES["a.sys"], "sha256"))
    assert found.intact is False


def test_a_changed_list_is_noticed() -> None:
    data = made.catalog(FILES)
    tag = made.hash_of(FILES["a.inf"], "sha1")
    found = catalog.parse(data.replace(tag, bytes(20)))
    assert found.intact is False
    assert not catalog.parse(data[:-1] + bytes([data[-1] ^ 1])).intact


def test_a_test_signature_is_told() -> None:
    assert catalog.parse(made.catalog(FILES, signer="Me", issuer="Me")).self_signed
    assert not catalog.parse(made.catalog(FILES, signer="Me", issuer="You")).self_signed


def test_whether_it_leads_to_microsoft() -> None:
    assert catalog.parse(made.catalog(FILES)).leads_to_microsoft
    assert not catalog.parse(made.catalog(FILES, crossed=False)).leads_to_microsoft


@pytest.mark.parametrize(("data", "why"), [
    (b"", "usable"), (b"\x30\x80" * 50_000, "usable"), (made.pe(), "usable"),
    (made.catalog(FILES)[:-40], "usable"),
    (made.catalog(FILES).replace(bytes.fromhex("2b0601040182370a01"),
                                 bytes.fromhex("2b0601040182370a02")), "something else"),
    (made.catalog(FILES).replace((4711).to_bytes(2, "big"), (4712).to_bytes(2, "big"), 1),
     "lacks the certificate"),
    (bytes(catalog.CATALOG_LIMIT + 1), "larger than"),
])
def test_refused(data: bytes, why: str) -> None:
    with pytest.raises(catalog.BadCatalog, match=why) as caught:
        catalog.parse(data)
    assert caught.value.hint
