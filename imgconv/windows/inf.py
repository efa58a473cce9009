"""INF files: what a driver package says of itself (contract; the parser is being written)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from imgconv.errors import ImgconvError
from imgconv.windows.versions import WindowsVersion

#: Larger than any INF of a driver.
INF_LIMIT: Final = 4 << 20


class BadInf(ImgconvError):
    """An INF file that cannot be read."""


@dataclass(frozen=True, slots=True)
class Version:
    """[Version]. `class_guid` with braces, as spelled; `version` is (w, x, y, z) of DriverVer."""

    class_name: str
    class_guid: str
    provider: str
    date: date
    version: tuple[int, int, int, int]
    catalog: str = ""


@dataclass(frozen=True, slots=True)
class Model:
    """A line of a models section: `ids` are the hardware id and the compatible ids behind it.

    `install` is the name of the install section as the line has it, without decoration.
    `description` and `manufacturer` are texts; the `_token` ones are as they stand ("%RHEL%").
    """

    description: str
    description_token: str
    manufacturer: str
    manufacturer_token: str
    install: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Addition:
    """A line of an AddReg section. `root` is HKR, HKLM, HKCR...; `type` a registry type's number.

    With `name` None the line only makes the key (FLG_ADDREG_KEYONLY).
    """

    root: str
    key: str
    name: str | None
    type: int
    data: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A service that AddService installs; `binary` is as the registry has it:
    `system32\\drivers\\viostor.sys` for what lies there, `%SystemRoot%\\...` elsewhere.

    `flags` are AddService's (2: SPSVCINST_ASSOCSERVICE, the device's function driver).
    """

    name: str
    flags: int
    type: int
    start: int
    error_control: int
    binary: str
    group: str = ""
    display_name: str = ""
    dependencies: tuple[str, ...] = ()
    additions: tuple[Addition, ...] = ()
    event_log: tuple[Addition, ...] = ()


@dataclass(frozen=True, slots=True)
class File:
    """A file to copy: `target` is relative to the system root ("System32/drivers/viostor.sys")."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Installation:
    """What an install section does; `section` is its name with the decoration that was chosen.

    `device` are the additions of its .HW section (to the device's own key), `software` those of
    the section itself (to the driver's key, or anywhere). `unsupported` names directives that are
    not carried out here (RegisterDlls, co-installers...).
    """

    section: str
    services: tuple[Service, ...]
    device: tuple[Addition, ...]
    software: tuple[Addition, ...]
    files: tuple[File, ...]
    unsupported: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inf:
    """A parsed INF; `name` is the file's own ("viostor.inf")."""

    name: str
    strings: Mapping[str, str] = field(default_factory=dict)

    def version(self, windows: WindowsVersion) -> Version:
        """Raises BadInf."""
        raise NotImplementedError

    def models(self, windows: WindowsVersion) -> tuple[Model, ...]:
        """The models for that Windows, () when the INF has none for it. Raises BadInf."""
        raise NotImplementedError

    def installation(self, install: str, windows: WindowsVersion) -> Installation:
        """What a model's install section does on that Windows. Raises BadInf."""
        raise NotImplementedError


def parse(data: bytes, name: str) -> Inf:
    """Raises BadInf."""
    raise NotImplementedError
