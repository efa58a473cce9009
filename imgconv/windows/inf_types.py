"""What an INF says, as data; `inf.parse` gives it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


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

    With `name` None the line only makes the key (FLG_ADDREG_KEYONLY). The default value's name is
    "". `data` is as the registry has it. `flags` is the whole number of the line, type included;
    of them the caller must heed 0x2 (keep a value that is there), 0x8 (append to a REG_MULTI_SZ:
    `data` is only what is new) and 0x20 (only where the value is there).
    """

    root: str
    key: str
    name: str | None
    type: int
    data: bytes
    flags: int = 0


@dataclass(frozen=True, slots=True)
class Service:
    """A service that AddService installs; `binary` is as the registry has it, REG_EXPAND_SZ.

    That is `system32\\drivers\\viostor.sys` for a driver there, `\\SystemRoot\\...` for one
    elsewhere (the kernel expands no variables), `%SystemRoot%\\...` for a program, and what lies in
    the driver store (dirid 13) begins with `%13%\\`, which whoever knows the package's folder must
    replace by `\\SystemRoot\\System32\\DriverStore\\FileRepository\\<package>\\`.

    `flags` are AddService's (2: SPSVCINST_ASSOCSERVICE, the device's function driver). `additions`
    are relative to the service's key (Description is one of them), `event_log` to
    `Services\\EventLog\\System\\<name>`.
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
    """A file to copy: `target` is relative to the system root ("System32/drivers/viostor.sys").

    What stays in the driver store (dirid 13) has the target "{package}/NAME": it needs no copy
    besides the one in the package's folder.
    """

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class Installation:
    """What an install section does; `section` is its name with the decoration that was chosen.

    `device` are the additions of its .HW section (to the device's own key), `software` those of
    the section itself (to the driver's key, or anywhere). `unsupported` names directives that are
    not carried out here (RegisterDlls, co-installers...), as Windows itself does when it installs
    the device.
    """

    section: str
    services: tuple[Service, ...]
    device: tuple[Addition, ...]
    software: tuple[Addition, ...]
    files: tuple[File, ...]
    unsupported: tuple[str, ...] = ()
