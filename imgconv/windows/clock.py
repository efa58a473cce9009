"""What Windows believes the machine's clock to show."""

from __future__ import annotations

from imgconv.windows import control_sets
from imgconv.windows.registry import Hive


def localtime(system: Hive) -> bool:
    """Whether the clock has to show local time: it has to, unless Windows was told that it is UTC.

    RealTimeIsUniversal is a REG_DWORD, or a REG_QWORD as people set it on 64-bit Windows.
    """
    zone = system.key(rf"{control_sets.current(system)}\Control\TimeZoneInformation")
    return zone is None or not zone.number("RealTimeIsUniversal")
