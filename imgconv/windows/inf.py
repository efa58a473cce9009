"""INF files: what a driver package says of itself.

`parse` gives an `Inf`, which answers for one Windows at a time. The modules beside this one have
the parts: inf_syntax.py the text, inf_target.py the choice of sections, inf_install.py and
inf_registry.py what is installed, inf_types.py what comes out. The rules are those that Microsoft's
reference of INF sections and directives documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from imgconv.windows import inf_install, inf_syntax, inf_target
from imgconv.windows.inf_syntax import INF_LIMIT, BadInf, Document, Reader, file_name
from imgconv.windows.inf_types import Addition, File, Installation, Model, Service, Version
from imgconv.windows.versions import WindowsVersion

__all__ = ["INF_LIMIT", "Addition", "BadInf", "File", "Inf", "Installation", "Model", "Service",
           "Version", "parse"]

_SIGNATURES: Final = ("$windows nt$", "$windows 95$", "$chicago$")
_GUID = re.compile(r"\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}", re.IGNORECASE | re.ASCII)
_DATE = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4})", re.ASCII)
_VERSION = re.compile(r"\d{1,5}(?:\.\d{1,5}){0,3}", re.ASCII)
#: FILETIME, in which the registry has the date, begins then.
_FIRST_YEAR: Final = 1601


@dataclass(frozen=True, slots=True)
class Inf:
    """A parsed INF; `name` is the file's own ("viostor.inf").

    `strings` are by token in small letters, without percent signs, as the DriverDatabase has them.
    """

    name: str
    strings: Mapping[str, str] = field(default_factory=dict)
    _document: Document = field(default_factory=lambda: Document({}, {}), repr=False)

    def version(self, windows: WindowsVersion) -> Version:
        """Raises BadInf."""
        lines = self._document.section("Version") or ()
        values = {line.key.lower(): line for line in reversed(lines)}

        def text(key: str, index: int = 0) -> str:
            line = values.get(key.lower())
            return self._document.expand(line.field(index)) if line is not None else ""

        guid = text("ClassGuid")
        if not _GUID.fullmatch(guid):
            raise BadInf(f"{self.name} names no device class")
        catalog = next(filter(None, map(text, inf_target.decorated("CatalogFile", windows))), "")
        return Version(text("Class"), guid, text("Provider"), _date(text("DriverVer")),
                       _version(text("DriverVer", 1)), file_name(catalog) if catalog else "")

    def models(self, windows: WindowsVersion) -> tuple[Model, ...]:
        """The models for that Windows, () when the INF has none for it. Raises BadInf."""
        return tuple(self._models(windows))

    def installation(self, install: str, windows: WindowsVersion) -> Installation:
        """What a model's install section does on that Windows. Raises BadInf."""
        return inf_install.installation(self._document, install, windows)

    def sources(self, windows: WindowsVersion) -> tuple[str, ...]:
        """The files that the package has besides INF and catalog, co-installers and all."""
        reader = Reader(self._document)
        names = [file_name(reader.text(line.key or line.field(0)))
                 for section in (f"SourceDisksFiles.{windows.arch}", "SourceDisksFiles")
                 for line in reader.section(section) or ()]
        return tuple({name.lower(): name for name in names}.values())

    def _models(self, windows: WindowsVersion) -> Iterator[Model]:
        reader = Reader(self._document)
        for line in reader.section("Manufacturer") or ():
            # A line without "=" names the section and the manufacturer at once.
            token = line.key or line.field(0)
            manufacturer = reader.text(token)
            name, *decorations = reader.fields(line)
            section = inf_target.models_section(name, decorations, windows)
            for model in (reader.section(section) or ()) if section is not None else ():
                install, *ids = reader.fields(model)
                yield Model(reader.text(model.key), model.key, manufacturer, token, install,
                            tuple(filter(None, ids)))


def parse(data: bytes, name: str) -> Inf:
    """Raises BadInf."""
    document = inf_syntax.read(data)
    signature = next((line.field(0) for line in document.section("Version") or ()
                      if line.key.lower() == "signature"), "")
    if signature.lower() not in _SIGNATURES:
        raise BadInf(f"{name} is no INF file of Windows")
    return Inf(name, document.strings, document)


def _date(text: str) -> date:
    match = _DATE.fullmatch(text.strip())
    try:
        if match is not None and int(match[3]) >= _FIRST_YEAR:
            return date(int(match[3]), int(match[1]), int(match[2]))
    except ValueError:
        pass
    raise BadInf(f"the INF has the date {text[:40]!r} in DriverVer, where month/day/year must be")


def _version(text: str) -> tuple[int, int, int, int]:
    """Parts that are missing are 0, as is the whole."""
    if text and not _VERSION.fullmatch(text):
        raise BadInf(f"the INF has the version {text[:40]!r} in DriverVer")
    parts = [int(part) for part in text.split(".")] if text else []
    if any(part > 0xFFFF for part in parts):
        raise BadInf(f"the INF has the version {text[:40]!r} in DriverVer")
    one, two, three, four = (*parts, 0, 0, 0, 0)[:4]
    return one, two, three, four
