"""Names that a hostile guest makes up, such as those of registry values, are no paths."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from imgconv.errors import GuestFileMissing, HostileInput
from imgconv.guest.appliance import Appliance
from imgconv.guest.protocols import Guest
from tests.fake_guest import FakeGuest


class _Handle:
    """Refuses names as guestfs' binding does."""

    def __getattr__(self, method: str) -> object:
        def call(path: str, *args: object, **kwargs: object) -> object:
            if "\0" in path:
                raise ValueError("embedded null character")
            path.encode()
            return b"\xff".decode()
        return call


class _Watchdog:
    reason = None

    @contextmanager
    def watching(self, method: str, what: str) -> Iterator[None]:
        yield


def _appliance() -> Appliance:
    return Appliance(_Handle(), _Watchdog())  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/c/a\0b", "/c/\ud800"])
@pytest.mark.parametrize("guest", [_appliance(), FakeGuest({"/c/a\0b": b"", "/c/\ud800": b""})],
                         ids=["appliance", "fake"])
def test_names_that_cannot_be(guest: Guest, path: str) -> None:
    assert guest.size(path) is None
    assert guest.names(path) == ()
    assert guest.find(path) is None
    assert not guest.is_dir(path)
    with pytest.raises(GuestFileMissing):
        guest.read(path)
    with pytest.raises(HostileInput):
        guest.write(path, b"", 0o644)


def test_names_that_are_no_text() -> None:
    with pytest.raises(HostileInput, match="UTF-8"):
        _appliance().call("ls", "/c")
