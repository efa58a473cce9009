"""What an install section of an INF does: services, registry values, files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from imgconv.windows import inf_registry, registry
from imgconv.windows.inf_syntax import BadInf, Document, Line, Reader, file_name, number, unsigned
from imgconv.windows.inf_target import decorated
from imgconv.windows.inf_types import Addition, File, Installation, Service
from imgconv.windows.versions import WindowsVersion

#: Sections that may stand behind an install section's name and are not carried out here.
_OTHER_SECTIONS: Final = (
    "CoInstallers", "Wdf", "Interfaces", "Events", "Components", "Software", "Filters", "FactDef",
    "LogConfigOverride", "SoftwareSettings", "GeneralConfigData", "COM", "PosDup")
#: What is carried out in each kind of section, or is no work.
_NO_WORK: Final = frozenset({"addreg", "include", "needs", ""})
_INSTALL_READ: Final = _NO_WORK | {"copyfiles", "driverver"}
_SERVICES_READ: Final = frozenset({"addservice", "include", "needs", ""})
_SERVICE_READ: Final = frozenset({
    "servicetype", "starttype", "errorcontrol", "servicebinary", "loadordergroup", "displayname",
    "dependencies", "description", "addreg", ""})

#: Where dirids are, below the system root. 13 is the package's folder in the driver store.
_FOLDERS: Final = {
    10: "", 11: "System32", 12: "System32/drivers", 13: "{package}", 17: "INF", 18: "Help",
    20: "Fonts", 23: "System32/spool/drivers/color", 50: "System", 51: "System32/spool",
    52: "System32/spool/drivers", 55: "System32/spool/prtprocs"}
#: CSIDL_SYSTEMX86: where 32-bit programs find their System32.
_SYSTEM_X86: Final = 16425

_SYSTEM_ROOT = "%systemroot%\\"
_DRIVERS = "system32\\drivers\\"
#: SERVICE_KERNEL_DRIVER, SERVICE_FILE_SYSTEM_DRIVER, SERVICE_RECOGNIZER_DRIVER.
_DRIVER_TYPES: Final = 0x1 | 0x2 | 0x8
#: SERVICE_DISABLED.
_LAST_START: Final = 4

_DEEPEST_NEEDS = 16


def installation(document: Document, install: str, windows: WindowsVersion) -> Installation:
    """What `install` (without decoration) does. Raises BadInf."""
    for name in decorated(install, windows):
        if document.section(name) is not None:
            return _Installer(document, windows, name).installation()
    raise BadInf(f"the INF has no section [{install[:80]}]")


class _Installer:
    """Collects what one install section does."""

    def __init__(self, document: Document, windows: WindowsVersion, section: str) -> None:
        self._reader = Reader(document)
        self._windows = windows
        self._section = section
        # An ordered set.
        self._unsupported: dict[str, None] = {}

    def installation(self) -> Installation:
        main = self._with_needs(self._section)
        hardware = self._with_needs(f"{self._section}.HW")
        services = self._with_needs(f"{self._section}.Services")
        self._name_others(main, _INSTALL_READ, "")
        self._name_others(hardware, _NO_WORK, "HW.")
        self._name_others(services, _SERVICES_READ, "Services.")
        for name in _OTHER_SECTIONS:
            if self._reader.section(f"{self._section}.{name}") is not None:
                self._cannot(name)
        return Installation(self._section, tuple(self._services(services)),
                            self._additions(hardware), self._additions(main),
                            tuple(self._files(main)), tuple(self._unsupported))

    # --- lines ----------------------------------------------------------------------------------

    def _with_needs(self, name: str) -> tuple[Line, ...]:
        """The lines of a section and of those of this INF that it needs, which go first."""
        found: list[Line] = []
        self._collect(name, found, set(), 0)
        return tuple(found)

    def _collect(self, name: str, found: list[Line], seen: set[str], depth: int) -> None:
        lines = self._reader.section(name) or ()
        if name.lower() in seen:
            return
        if depth > _DEEPEST_NEEDS:
            raise BadInf("sections of the INF need each other too deeply")
        seen.add(name.lower())
        included = ", ".join(self._lists(lines, "Include"))
        for needed in self._lists(lines, "Needs"):
            if self._reader.section(needed) is not None:
                self._collect(needed, found, seen, depth + 1)
            else:
                self._cannot(f"Needs={needed}" + (f" of {included}" if included else ""))
        found.extend(lines)

    def _lists(self, lines: tuple[Line, ...], directive: str) -> Iterator[str]:
        """What all lines of a directive list."""
        for line in lines:
            if line.key.lower() == directive.lower():
                yield from filter(None, self._reader.fields(line))

    def _cannot(self, what: str) -> None:
        self._reader.spend(64 + len(what))
        self._unsupported[what] = None

    def _name_others(self, lines: tuple[Line, ...], known: frozenset[str], where: str) -> None:
        for line in lines:
            if line.key.lower() not in known:
                self._cannot(where + line.key)

    # --- the registry ---------------------------------------------------------------------------

    def _additions(self, lines: tuple[Line, ...]) -> tuple[Addition, ...]:
        return tuple(self._addition_lines(lines))

    def _addition_lines(self, lines: tuple[Line, ...]) -> Iterator[Addition]:
        for section in self._lists(lines, "AddReg"):
            listed = self._reader.section(section)
            if listed is None:
                self._cannot(f"AddReg={section}, which is missing")
            for line in listed or ():
                if line.key:
                    raise BadInf(f"line {line.number} of the INF is none of an AddReg section")
                added = inf_registry.addition(self._reader.fields(line))
                if added is None:
                    self._cannot("AddReg that deletes")
                else:
                    yield added

    def _services(self, lines: tuple[Line, ...]) -> Iterator[Service]:
        for line in lines:
            if line.key.lower() == "addservice":
                fields = self._reader.fields(line)
                name, flags, section, log, log_type, log_name, *_ = (*fields, *[""] * 6)
                # A device that needs no driver has "AddService = ,2".
                if name:
                    yield self._service(file_name(name), unsigned(flags or "0"), section,
                                        self._event_log(name, log, log_type, log_name))

    def _service(self, name: str, flags: int, section: str, log: tuple[Addition, ...]) -> Service:
        lines = self._reader.section(section)
        if lines is None:
            raise BadInf(f"the INF has no section [{section[:80]}] for the service {name}")
        self._name_others(lines, _SERVICE_READ, "Service.")
        first: dict[str, str] = {}
        for line in lines:
            if line.key.lower() in _SERVICE_READ:
                first.setdefault(line.key.lower(), self._reader.fields(line)[0])
        kind = unsigned(first.get("servicetype", ""))
        description = (Addition("HKR", "", "Description", registry.SZ,
                                registry.sz("", first["description"]).data)
                       ,) if first.get("description") else ()
        return Service(name, flags, kind, unsigned(first.get("starttype", ""), _LAST_START),
                       unsigned(first.get("errorcontrol", "")),
                       _binary(first.get("servicebinary", ""), driver=bool(kind & _DRIVER_TYPES)),
                       first.get("loadordergroup", ""), first.get("displayname", ""),
                       tuple(self._lists(lines, "Dependencies")),
                       description + self._additions(lines), log)

    def _event_log(self, service: str, section: str, kind: str, name: str) -> tuple[Addition, ...]:
        """Only the usual log and name are carried out; both may be omitted."""
        lines = self._reader.section(section) if section else ()
        if kind.lower() not in ("", "system") or name.lower() not in ("", service.lower()):
            self._cannot(f"AddService event log {kind}\\{name}")
            return ()
        if lines is None:
            self._cannot(f"the event log section {section}, which is missing")
            return ()
        self._name_others(lines, _NO_WORK, "EventLog.")
        return self._additions(lines)

    # --- files ----------------------------------------------------------------------------------

    def _files(self, lines: tuple[Line, ...]) -> Iterator[File]:
        folders = self._destinations()
        for listed in self._lists(lines, "CopyFiles"):
            if listed.startswith("@"):
                yield from self._file(listed[1:], "", folders.get("defaultdestdir", ""))
                continue
            section = self._reader.section(listed)
            if section is None:
                self._cannot(f"CopyFiles={listed}, which is missing")
            folder = folders.get(listed.lower(), folders.get("defaultdestdir", ""))
            for line in section or ():
                name, source, *_ = (*self._reader.fields(line), "")
                yield from self._file(name, source, folder)

    def _destinations(self) -> dict[str, str]:
        """Where the files of each section go: its name in small letters, and "dirid,folder"."""
        found: dict[str, str] = {}
        for line in self._reader.section("DestinationDirs") or ():
            dirid, folder, *_ = (*self._reader.fields(line), "")
            found.setdefault(self._reader.text(line.key).lower(), f"{dirid},{folder}")
        return found

    def _file(self, name: str, source: str, destination: str) -> Iterator[File]:
        dirid, _, below = destination.partition(",")
        if not dirid:
            raise BadInf(f"the INF does not say where {name[:80]!r} goes")
        folder = self._folder(number(dirid))
        below_names = [file_name(part) for part in below.split("\\") if part]
        if folder is None:
            self._cannot(f"CopyFiles to dirid {number(dirid)}")
        else:
            target = "/".join(filter(None, (folder, *below_names, file_name(name))))
            yield File(file_name(source or name), target)

    def _folder(self, dirid: int) -> str | None:
        if dirid == _SYSTEM_X86:
            return "System32" if self._windows.arch == "x86" else "SysWOW64"
        return _FOLDERS.get(dirid)


def _binary(text: str, *, driver: bool) -> str:
    """A service's ImagePath; `text` has its dirid expanded. Raises BadInf."""
    if not text.strip() or any(part.strip(' "') == ".." for part in re.split(r"[\\/]", text)):
        raise BadInf(f"the INF gives a service the program {text[:80]!r}")
    if not driver or not text.lower().startswith(_SYSTEM_ROOT):
        return text
    below = text[len(_SYSTEM_ROOT):]
    if below.lower().startswith(_DRIVERS):
        return _DRIVERS + below[len(_DRIVERS):]
    return "\\SystemRoot\\" + below
