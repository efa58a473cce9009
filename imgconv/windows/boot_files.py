"""The files of a driver: whether Windows' loader can take them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Final

from imgconv.errors import ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.model import Level
from imgconv.windows import catalog, pe, places
from imgconv.windows.boot_match import Link, Match, failed, proven, warning
from imgconv.windows.versions import WindowsVersion

#: Sets of functions, not files: the loader knows where they are (apisetschema.dll).
_API_SETS: Final = ("api-", "ext-")
_DRIVE = re.compile(r"(?:\\\?\?\\)?[A-Za-z]:\\")


def resolve(systemroot: str, image_path: str | None, service: str) -> str | None:
    """The guest's path for a service's ImagePath, None when it is none that the loader takes.

    The loader takes paths below the system root (relative, or with \\SystemRoot\\); a full one
    (\\??\\C:\\Windows\\...) only leads there when it names the system's own volume.
    """
    if not image_path:
        return f"{systemroot}/System32/drivers/{service}.sys"
    path = image_path.strip().strip('"')
    for prefix in ("\\SystemRoot\\", "%SystemRoot%\\", "%windir%\\"):
        if path.lower().startswith(prefix.lower()):
            return _below(systemroot, path[len(prefix):])
    drive = _DRIVE.match(path)
    if drive is not None:
        return _below("", path[drive.end():])
    if path.startswith("\\") or "%" in path:
        return None
    return _below(systemroot, path)


def _below(top: str, path: str) -> str | None:
    parts = [part for part in path.split("\\") if part]
    return None if ".." in parts or not parts else "/".join((top, *parts))


def check(reader: Reader, systemroot: str, windows: WindowsVersion, path: str,
          match: Match) -> Iterator[Link]:
    """Links about the driver file at `path`, which `match` leads to. Raises ImgconvError."""
    found = reader.find(path)
    if found is None or reader.size(found) is None:
        yield failed("driver file", f"{path} does not exist")
        return
    data = reader.read(found, pe.PE_LIMIT)
    try:
        driver = pe.parse(data)
    except ImgconvError as error:
        yield failed("driver file", f"{found}: {error.message}")
        return
    if len(data) < _claimed_size(data):
        yield failed("driver file", f"{found} is cut off",
                     f"{len(data):,} of {_claimed_size(data):,} bytes")
        return
    yield proven("driver file", f"{found} is there", f"{len(data):,} bytes")
    if driver.arch != windows.arch:
        yield failed("machine", f"{found} is for {driver.arch}, Windows is {windows.arch}")
    elif not driver.native:
        yield failed("machine", f"{found} is no driver but a program")
    else:
        yield proven("machine", f"{found} is a driver for {driver.arch}")
    yield _imports(reader, systemroot, found, driver)
    catalogs = dict(_catalogs(reader, systemroot, match, found))
    yield _signature(windows, match, found, driver, catalogs)
    if match.package:
        yield _store(reader, systemroot, match, found, data)


def _claimed_size(data: bytes) -> int:
    """How long a PE file is by its headers: where its last section ends."""
    try:
        start, = struct.unpack_from("<I", data, 60)
        sections, = struct.unpack_from("<H", data, start + 6)
        optional, = struct.unpack_from("<H", data, start + 20)
        table = [struct.unpack_from("<II", data, start + 24 + optional + 40 * index + 16)
                 for index in range(sections)]
    except struct.error:
        return len(data) + 1
    return max((offset + size for size, offset in table if size), default=0)


def _imports(reader: Reader, systemroot: str, path: str, driver: pe.Pe) -> Link:
    missing = [name for name in sorted(driver.imports) if not name.startswith(_API_SETS)
               and not any(reader.find(f"{systemroot}/{folder}/{name}") is not None
                           for folder in ("System32", "System32/drivers"))]
    if missing:
        return failed("imports", f"{path} needs {', '.join(missing)}, which Windows does not have")
    return proven("imports", f"all that {path} needs is there", ", ".join(sorted(driver.imports)))


def _signature(windows: WindowsVersion, match: Match, path: str, driver: pe.Pe,
               catalogs: dict[str, catalog.Catalog]) -> Link:
    if driver.signed:
        return proven("signature", f"{path} has a signature")
    for name, content in catalogs.items():
        if content.intact is not False and (content.lists(driver.sha1)
                                            or content.lists(driver.sha256)):
            return proven("signature", f"{path} is in the signed catalog {name}", content.signer)
    if match.in_box or in_box(match.service):
        # Windows' own catalogs are thousands, and some of many megabytes.
        return warning("signature", f"{path} is Windows' own and has no signature of its own; "
                       "its catalog was not looked for")
    if windows.arch == "x86":
        return warning("signature", f"{path} is not signed; 32-bit Windows starts it anyway")
    return failed("signature", f"{path} is not signed, by itself or in a catalog",
                  ", ".join(catalogs) or "no catalog")


def in_box(service: str) -> bool:
    """Whether Windows itself brings this driver of a disk controller."""
    return service.lower() in ("atapi", "intelide", "pciide", "msahci", "storahci", "stornvme",
                               "lsi_sas", "lsi_sas2", "lsi_sas3", "storvsc", "disk")


def _catalogs(reader: Reader, systemroot: str, match: Match,
              driver: str) -> Iterator[tuple[str, catalog.Catalog]]:
    """The published catalogs that may list the driver, by the names under which Windows and imgconv
    publish them. The loader looks nowhere else: a catalog in the driver store is none to it."""
    stem = driver.rpartition("/")[2].rpartition(".")[0]
    names = (f"{match.package}.cat", match.inf.lower().removesuffix(".inf") + ".cat",
             f"{stem}.cat")
    paths = [path for name in names if len(name) > 4
             and (path := reader.find(f"{systemroot}/{places.CATALOGS}/{name}")) is not None]
    for path in paths:
        try:
            yield path, catalog.parse(reader.read(path, catalog.CATALOG_LIMIT))
        except ImgconvError:
            continue


def _store(reader: Reader, systemroot: str, match: Match, path: str, driver: bytes) -> Link:
    """Whether the driver store has the package from which Windows installs the driver for good."""
    # What Windows itself brings it can do without: it is in use already.
    level = Level.WARNING if match.in_box else Level.FAILED
    wanted = f"{systemroot}/{places.FILE_REPOSITORY}/{match.package}"
    folder = reader.find(wanted)
    names = {name.lower(): name for name in reader.names(folder)} if folder is not None else {}
    if not names:
        return Link("driver store", level, f"{wanted} does not exist")
    endings = {name.rpartition(".")[2] for name in names}
    missing = [ending for ending in ("inf", "cat") if ending not in endings]
    file = path.rpartition("/")[2].lower()
    if missing and not match.in_box:
        return Link("driver store", level, f"{folder} has no .{' and no .'.join(missing)} file")
    if file not in names:
        return Link("driver store", level, f"{folder} has no {file}")
    stored = f"{folder}/{names[file]}"
    if reader.size(stored) != len(driver) or reader.read(stored, pe.PE_LIMIT) != driver:
        return Link("driver store", level, f"{stored} is another file than {path}")
    return proven("driver store", f"{folder} has the package", ", ".join(sorted(names)))
