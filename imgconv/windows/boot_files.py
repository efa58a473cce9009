"""The files of a driver: whether Windows' loader can take them."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from imgconv.errors import ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.model import Level
from imgconv.windows import catalog, pe, places
from imgconv.windows.boot_match import Link, Match, failed, proven, warning
from imgconv.windows.versions import WindowsVersion

#: 64-bit Windows loads only signed drivers from Vista on.
_SIGNED_FROM: Final = (6, 0)
#: Sets of functions, not files: the loader knows where they are (apisetschema.dll).
_API_SETS: Final = ("api-", "ext-")
_DRIVE = re.compile(r"(?:\\\?\?\\)?([A-Za-z]):\\")
#: The letter that Windows gives its own volume. It may be another, but hardly ever is.
_OWN_LETTER: Final = "c"


def resolve(systemroot: str, image_path: str | None, service: str) -> str | None:
    """The guest's path for a service's ImagePath, None when it is none that the loader takes.

    The loader takes paths below the system root (relative, or with \\SystemRoot\\); a full one
    (\\??\\C:\\Windows\\...) only leads there when it names the system's own volume, so one of
    another drive is None too (see `on_other_drive`).
    """
    if not image_path:
        return f"{systemroot}/System32/drivers/{service}.sys"
    path = image_path.strip().strip('"')
    for prefix in ("\\SystemRoot\\", "%SystemRoot%\\", "%windir%\\"):
        if path.lower().startswith(prefix.lower()):
            return _below(systemroot, path[len(prefix):])
    drive = _DRIVE.match(path)
    if drive is not None and drive[1].lower() == _OWN_LETTER:
        return _below(own_drive(systemroot), path[drive.end():])
    if drive is not None or path.startswith("\\") or "%" in path:
        return None
    return _below(systemroot, path)


def on_other_drive(image_path: str | None) -> bool:
    """Whether a service's ImagePath names another drive than C:; it may be Windows' own even so."""
    drive = _DRIVE.match((image_path or "").strip().strip('"'))
    return drive is not None and drive[1].lower() != _OWN_LETTER


def own_drive(systemroot: str) -> str:
    """Where the volume is mounted that `systemroot` is on; "" for the root folder."""
    return "/c" if systemroot.startswith("/c/") else ""


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


def program_problem(reader: Reader, path: str, arch: str) -> str:
    """Why firmware or a loader cannot start the program at `path`; "" when it can. `arch` is as in
    INF files. Raises HostileInput when it is too large."""
    found = reader.find(path)
    if found is None or reader.size(found) is None:
        return f"{path} does not exist"
    data = reader.read(found, pe.PE_LIMIT)
    try:
        program = pe.parse(data)
    except ImgconvError as error:
        return f"{found}: {error.message}"
    if len(data) < _claimed_size(data):
        return f"{found} is cut off"
    return "" if program.arch == arch else f"{found} is for {program.arch}, not for {arch}"


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
    """Roots are not known here: whether it leads to Microsoft is told by names."""
    problems = []
    for name, signed, covers in _signatures(driver, catalogs):
        problem = _no_good(signed, covers=covers)
        if not problem:
            return proven("signature", f"{name} covers {path} and leads to Microsoft by name" + (
                "" if signed.intact else "; it is of a kind that is not checked any further"),
                signed.signer)
        problems.append(f"{name} {problem}")
    if match.in_box or in_box(match.service):
        # Windows' own catalogs are thousands, and some of many megabytes.
        return warning("signature", f"{path} is Windows' own and has no good signature of its own; "
                       "its catalog was not looked for", "; ".join(problems))
    if windows.arch == "x86" or windows.release < _SIGNED_FROM:
        name = "32-bit Windows" if windows.arch == "x86" else "this Windows"
        return warning("signature", f"{path} has no good signature; {name} starts it anyway",
                       "; ".join(problems))
    return failed("signature", f"{path} has no good signature, of its own or in a catalog: 64-bit "
                  "Windows does not start it (0xc0000428)", "; ".join(problems) or "none at all")


def _signatures(driver: pe.Pe, catalogs: dict[str, catalog.Catalog]
                ) -> Iterator[tuple[str, catalog.Signature, bool]]:
    """Each signature with what to call it, and whether it is for this driver."""
    hashes = (driver.sha1, driver.sha256)
    for certificate in driver.certificates:
        with suppress(ImgconvError):
            own = catalog.embedded(certificate)
            yield "its own signature", own, own.file_digest in hashes
    for name, content in catalogs.items():
        yield f"the catalog {name}", content, any(content.lists(digest) for digest in hashes)


def _no_good(signed: catalog.Signature, *, covers: bool) -> str:
    """Why a signature does not count, "" when it does."""
    if not covers:
        return "is for other files"
    if signed.intact is False:
        return "was changed after it was signed"
    if signed.self_signed:
        return "is a test signature"
    return "" if signed.leads_to_microsoft else "does not lead to Microsoft"


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
