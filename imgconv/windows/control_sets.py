"""The control sets of a SYSTEM hive: one is used, another is what "Last Known Good" takes."""

from __future__ import annotations

import re

from imgconv.errors import CannotConvert
from imgconv.windows.registry import Hive

_NAME = re.compile(r"ControlSet\d{3}", re.IGNORECASE)


def names(system: Hive) -> tuple[str, ...]:
    """Every control set there is ("ControlSet001"), so that all are written."""
    return tuple(key.name for key in system.root.subkeys() if _NAME.fullmatch(key.name))


def current(system: Hive) -> str:
    """The one that Windows starts with. Raises CannotConvert when the hive names none."""
    select = system.key("Select")
    number = select.number("Current") if select is not None else None
    name = f"ControlSet{number:03}" if number is not None else ""
    if system.key(name) is None or not name:
        raise CannotConvert("the registry does not say which control set Windows starts with",
                            hint="this SYSTEM hive is damaged, or none that Windows starts from")
    return name
