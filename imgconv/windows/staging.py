r"""The files of a driver package, put where Windows finds and trusts them.

Windows 8 and newer know a driver by the DriverDatabase (`driver_database.py`) and take its files
from the driver store. This is what Windows itself leaves behind when it imports a package:

- `System32\DriverStore\FileRepository\<folder>\`: the whole package, under its own names.
- `INF\oemN.inf`: the INF, under the name that the database has.
- `System32\CatRoot\{F750E6C3-...}\oemN.cat`: the catalog; without it the files count as unsigned.

Older ones look through the folders of DevicePath when they meet a device, and import from there.
They get a folder for each driver, `%SystemRoot%\Drivers\VirtIO\<driver>`. Each is named in
DevicePath: 7 looks into folders below one that is named, XP does not.

In either case Windows copies a driver from there to `System32\drivers` when it installs a device,
signature checked, so that only drivers that are needed to get that far are put there as well. Those
whose INF leaves them in the driver store (dirid 13) are loaded from there and copied nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from imgconv.errors import ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.model import WriteFile
from imgconv.windows import guest_files, package_name, places, registry
from imgconv.windows.driver_database import Published
from imgconv.windows.edits import Edits
from imgconv.windows.versions import FIRST_DRIVER_DATABASE, WindowsVersion
from imgconv.windows.virtio_win import DriverPackage

#: Where older Windows look for drivers, below the system root; one folder for each.
DRIVERS: Final = "Drivers/VirtIO"

#: The key of DevicePath in the SOFTWARE hive, and what it says when nobody changed it.
_DEVICE_PATH_KEY = r"Microsoft\Windows\CurrentVersion"
_DEFAULT_PATH = r"%SystemRoot%\inf"


class IncompletePackage(ImgconvError):
    """A driver package lacks a file that its INF copies."""


def files(reader: Reader, systemroot: str, package: DriverPackage, published: Published | None, *,
          boot: bool, windows: WindowsVersion) -> tuple[WriteFile, ...]:
    """What has to be written for `package`; what is there already is left out.

    `systemroot` is the guest's path ("/c/Windows"). `published` is needed from Windows 8 on. With
    `boot` the drivers themselves go to System32/drivers too, if the INF says so.

    Raises IncompletePackage, BadInf.
    """
    if windows.release < FIRST_DRIVER_DATABASE:
        wanted = {f"{DRIVERS}/{package.name}/{name}": content
                  for name, content in package.files.items()}
    elif published is None:
        raise ValueError("this Windows has a driver store")
    elif published.kept:
        return _kept_drivers(reader, systemroot, package, published, windows) if boot else ()
    else:
        wanted = _store(package, published, windows)
    if boot:
        wanted |= {target: _file(package, source)
                   for target, source in _drivers(package, windows).items()}
    why = f"the driver {package.name} of {package.origin}"
    return tuple(change for place, content in wanted.items()
                 for change in guest_files.write(reader, f"{systemroot}/{place}", content, why))


def device_path(software: Edits, packages: Iterable[DriverPackage]) -> None:
    """Make Windows 7 and older look into the folders of `packages` for drivers."""
    key = software.hive.key(_DEVICE_PATH_KEY)
    now = (key.text("DevicePath") if key is not None else None) or _DEFAULT_PATH
    folders = [folder for folder in now.split(";") if folder]
    known = {folder.upper().rstrip("\\") for folder in folders}
    folders += [folder for package in packages
                if (folder := _device_folder(package)).upper() not in known]
    software.set(_DEVICE_PATH_KEY, (registry.expand_sz("DevicePath", ";".join(folders)),),
                 "Windows finds the drivers when it meets their devices")


def _device_folder(package: DriverPackage) -> str:
    return "\\".join(("%SystemRoot%", *DRIVERS.split("/"), package.name))


def _store(package: DriverPackage, published: Published,
           windows: WindowsVersion) -> dict[str, bytes]:
    """The package as Windows' driver store has it."""
    folder = f"{places.FILE_REPOSITORY}/{published.package_folder}"
    wanted = {f"{folder}/{name}": content for name, content in package.files.items()}
    wanted[f"INF/{published.inf_name}"] = _file(package, package.inf.name)
    catalog = package.inf.version(windows).catalog
    if catalog:
        stem = published.inf_name.rpartition(".")[0]
        wanted[f"{places.CATALOGS}/{stem}.cat"] = _file(package, catalog)
    return wanted


def _kept_drivers(reader: Reader, systemroot: str, package: DriverPackage, published: Published,
                  windows: WindowsVersion) -> tuple[WriteFile, ...]:
    """The guest's own drivers, where its package was imported but never met a device, or where
    System32/drivers has another build than the package that Windows takes it for."""
    changes: list[WriteFile] = []
    for target, source in _drivers(package, windows).items():
        stored = guest_files.spelled(reader, "/".join((
            systemroot, places.FILE_REPOSITORY, published.package_folder, source)))
        changes += guest_files.write(
            reader, f"{systemroot}/{target}", reader.read(stored, guest_files.FILE_LIMIT),
            f"the driver {package.name}, which the guest has in its driver store")
    return tuple(changes)


def _drivers(package: DriverPackage, windows: WindowsVersion) -> dict[str, str]:
    """What the INF copies to System32/drivers: places below the system root, and files' names.

    Nothing where Windows loads the driver from the driver store: so do those of virtio-win for 11,
    whose INFs say dirid 13. Raises IncompletePackage when the INF has no driver at all.
    """
    drivers = package_name.drivers(package, windows)
    stored = [target.removeprefix(package_name.PACKAGE) for target in drivers
              if target.startswith(package_name.PACKAGE)
              and windows.release >= FIRST_DRIVER_DATABASE]
    for name in stored:
        _file(package, name)
    wanted = {target: source for target, source in drivers.items()
              if not target.startswith(package_name.PACKAGE)}
    if not wanted and not stored:
        raise IncompletePackage(f"{package.inf.name} of {package.origin} copies no driver",
                                hint="take the package from a complete virtio-win")
    return wanted


def _file(package: DriverPackage, name: str) -> bytes:
    content = package.files.get(name.lower())
    if content is None:
        raise IncompletePackage(f"{name} is missing in {package.origin}",
                                hint="take the package from a complete virtio-win")
    return content
