"""What a driver package is called in the guest: its folder in the driver store, and oemN.inf."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from imgconv.errors import CannotConvert
from imgconv.guest.protocols import Reader
from imgconv.windows import places
from imgconv.windows.registry import BINARY, Hive
from imgconv.windows.versions import FIRST_DRIVER_DATABASE, WindowsVersion
from imgconv.windows.virtio_win import DriverPackage

#: The target of what stays in the package's folder in the driver store (`inf.File`).
PACKAGE: Final = "{package}/"

_OEM = re.compile(r"oem(\d{1,6})\.inf", re.IGNORECASE)
#: Windows' own map of the numbers would have 8 KiB then; real guests have some ten or hundred.
_MANY = 1 << 16


def folder(package: DriverPackage, windows: WindowsVersion) -> str:
    """The package's folder: `viostor.inf_amd64_0123456789abcdef`, with `_neutral` on 7 and older.

    Windows makes the sixteen digits from the package's content in a way that is not public, and
    only compares the name as a whole. These here are the first of a SHA-256 over the INF and the
    catalog (which has the hashes of all other files), so equal packages have equal names.
    """
    inf = package.inf.name.lower()
    catalog = package.inf.version(windows).catalog.lower()
    content = hashlib.sha256()
    for data in (package.files.get(inf, b""), package.files.get(catalog, b"")):
        content.update(len(data).to_bytes(8, "little") + data)
    language = "" if windows.release >= FIRST_DRIVER_DATABASE else "_neutral"
    return f"{inf}_{package.arch}{language}_{content.hexdigest()[:16]}"


def drivers(package: DriverPackage, windows: WindowsVersion) -> dict[str, str]:
    """The drivers that the INF installs: targets, as `inf.File` has them, and files' names.

    They are what goes to System32/drivers, and what Windows loads from the package's folder.
    Raises BadInf.
    """
    installs = dict.fromkeys(model.install for model in package.inf.models(windows))
    return {file.target: file.source for install in installs
            for file in package.inf.installation(install, windows).files
            if file.target.lower().startswith(f"{places.DRIVERS}/".lower())
            or (file.target.startswith(PACKAGE) and file.target.lower().endswith(".sys"))}


class DriverStore:
    """What the guest's driver store holds, and the names oemN.inf that are free in it.

    A number counts as taken when anything knows it: the bits of OemInfMap, the keys of
    DriverInfFiles in either hive, the file in INF, and what this run has given away.
    """

    def __init__(self, system: Hive, drivers: Hive | None, reader: Reader,
                 systemroot: str) -> None:
        self._reader = reader
        self._root = systemroot.rstrip("/")
        database = system.key("DriverDatabase")
        mapped = database.value("OemInfMap") if database is not None else None
        self._map = (set(decode_oem_map(mapped.data))
                     if mapped is not None and mapped.type == BINARY else set())
        self._named = _named(system) | (_named(drivers) if drivers is not None else set())

    def take(self) -> str:
        """The lowest free name, which is taken then: Windows fills gaps as well.

        Raises CannotConvert when there is none.
        """
        taken = self._map | self._named
        number = next((number for number in range(_MANY)
                       if number not in taken and not self._has_inf(number)), None)
        if number is None:
            raise CannotConvert("the guest has no name left for another driver",
                                hint="remove drivers in the guest: pnputil /delete-driver")
        self.mark(name := f"oem{number}.inf")
        return name

    def mark(self, name: str) -> None:
        """Say that a package has this name, so that the map shows it."""
        if (number := oem_number(name)) is not None:
            self._map.add(number)

    def oem_map(self) -> bytes:
        """OemInfMap as it is to be: what it said, and the names of this run."""
        return encode_oem_map(self._map)

    def holds(self, package_folder: str, inf_name: str, names: Iterable[str]) -> bool:
        """Whether the guest really has the package that the registry speaks of: files of these
        names and a catalog in the driver store, and the catalog where Windows looks for it."""
        folder = self._reader.find(f"{self._root}/{places.FILE_REPOSITORY}/{package_folder}")
        if folder is None or not self._reader.is_dir(folder):
            return False
        catalog = f"{self._root}/{places.CATALOGS}/{inf_name.rpartition('.')[0]}.cat"
        return (any(name.lower().endswith(".cat") for name in self._reader.names(folder))
                and all(map(self._has, (catalog, *(f"{folder}/{name}" for name in names)))))

    def _has(self, path: str) -> bool:
        return (found := self._reader.find(path)) is not None and bool(self._reader.size(found))

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """The names that were taken in this context are free when an exception leaves it."""
        taken = set(self._map)
        try:
            yield
        except BaseException:
            self._map = taken
            raise

    def _has_inf(self, number: int) -> bool:
        return self._reader.find(f"{self._root}/INF/oem{number}.inf") is not None


def oem_number(name: str) -> int | None:
    """The number in oemN.inf, None for the name of another INF."""
    match = _OEM.fullmatch(name)
    return int(match[1]) if match is not None and int(match[1]) < _MANY else None


def encode_oem_map(numbers: set[int]) -> bytes:
    """OemInfMap: a bit for each oemN.inf, the highest bit first, as many bytes as are needed.

    Windows 8.1 with oem0 to oem2 has e0, 10 with oem0 to oem13 has fffc.
    """
    bits = bytearray(max(numbers, default=-1) // 8 + 1)
    for number in numbers:
        bits[number // 8] |= 0x80 >> number % 8
    return bytes(bits)


def decode_oem_map(data: bytes) -> tuple[int, ...]:
    """The numbers whose bits are set."""
    return tuple(8 * at + bit for at, byte in enumerate(data[:_MANY // 8])
                 for bit in range(8) if byte & 0x80 >> bit)


def _named(hive: Hive) -> set[int]:
    files = hive.key(r"DriverDatabase\DriverInfFiles")
    numbers = (oem_number(key.name) for key in files.subkeys()) if files is not None else ()
    return {number for number in numbers if number is not None}
