"""Driver payloads: a virtio-win ISO or folder (contract; the reader is being written)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from imgconv.windows.inf import Inf


@dataclass(frozen=True, slots=True)
class DriverPackage:
    """One driver for one Windows and architecture, loaded and checked.

    `files` has every file of the package by its name in small letters: the INF, the catalog and
    what the INF copies. `origin` says to people where it is from. `signer` is the name in the
    catalog's signature, "" when there is none.
    """

    inf: Inf
    files: Mapping[str, bytes]
    arch: str
    origin: str
    signer: str

    @property
    def name(self) -> str:
        """What the driver is called: the INF's name without its ending, in small letters."""
        return self.inf.name.lower().removesuffix(".inf")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A driver that is there but must not be used."""

    name: str
    origin: str
    why: str


@dataclass(frozen=True, slots=True)
class Selection:
    """The best package of each driver for one Windows, by name; and what was refused.

    `agent` is QEMU's guest agent's installer as (file name, content).
    """

    packages: tuple[DriverPackage, ...]
    refused: tuple[Refusal, ...] = ()
    agent: tuple[str, bytes] | None = None

    def package(self, name: str) -> DriverPackage | None:
        return next((package for package in self.packages if package.name == name), None)
