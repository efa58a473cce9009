"""Which sections of an INF are for which Windows: the decorations of their names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from imgconv.windows.versions import WindowsVersion

_DECORATION = re.compile(r"nt(x86|ia64|amd64|arm64|arm|)((?:\.(?:0x[0-9a-f]{1,8}|[0-9]{1,9})?)*)",
                         re.IGNORECASE | re.ASCII)
_WORKSTATION: Final = 1
#: Of a server nobody here knows whether it is a domain controller; the first is preferred.
_SERVERS: Final = (3, 2)
#: Before this build, no Windows understood a decoration with a build number.
_FIRST_WITH_BUILD: Final = 14310

Rank = tuple[int, ...]


def rank(decoration: str, windows: WindowsVersion) -> Rank | None:
    """How well a TargetOSVersion decoration ("NTamd64.10.0...16299") fits, None when not at all.

    The greatest rank is the one that Windows takes: the highest version that is not newer than it
    counts first, then the product type. A suite never fits, as nobody here knows the guest's. A
    decoration without architecture is for x86 (since Server 2003 SP1).
    """
    match = _DECORATION.fullmatch(decoration.strip())
    if match is None or match[1].lower() not in _architectures(windows):
        return None
    numbers = [int(part, 0 if part[:2].lower() == "0x" else 10) if part else None
               for part in match[2].split(".")[1:]]
    if len(numbers) > 5:
        return None
    major, minor, product, suite, build = numbers + [None] * (5 - len(numbers))
    release = major or 0, minor or 0
    wanted = _SERVERS if windows.server else (_WORKSTATION,)
    if suite or release > windows.release or (product is not None and product not in wanted):
        return None
    if build is not None and release == windows.release and (
            windows.build < _FIRST_WITH_BUILD or build > windows.build):
        return None
    typed = len(wanted) - wanted.index(product) if product is not None else 0
    return *release, build or 0, typed, int(bool(match[1]))


def models_section(name: str, decorations: Iterable[str], windows: WindowsVersion) -> str | None:
    """The models section of a line of [Manufacturer], None when it has none for that Windows.

    One without decoration is for x86 only, as a last choice.
    """
    ranked = [(found, decoration) for decoration in decorations
              if (found := rank(decoration, windows)) is not None]
    if ranked:
        return f"{name}.{max(ranked)[1].strip()}"
    return name if windows.arch == "x86" else None


def decorated(name: str, windows: WindowsVersion) -> tuple[str, ...]:
    """The names an install section (or CatalogFile...) may have on that Windows, best first."""
    return f"{name}.NT{windows.arch}", f"{name}.NT", name


def _architectures(windows: WindowsVersion) -> tuple[str, ...]:
    return ("x86", "") if windows.arch == "x86" else (windows.arch,)
