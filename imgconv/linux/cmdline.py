"""The kernel command line: the parameters that name a disk."""

from __future__ import annotations

import re

from imgconv.linux.device_names import Renamer

#: A parameter at the beginning of a word or of a quoted string, and its device.
_PARAMETER = re.compile(r"""(?<![^\s"'=])(?P<key>root|resume)=(?P<spec>[^\s"':]+)""")


def rewrite(text: str, renamer: Renamer, *, by_uuid: bool = True) -> str:
    """`text` (a command line, or a configuration line around one) with its devices renamed."""
    return _PARAMETER.sub(
        lambda m: f"{m['key']}={renamer.rename(m['spec'], by_uuid=by_uuid)}", text)


def devices(text: str) -> tuple[tuple[str, str], ...]:
    """Every (parameter, device) of a command line: (("root", "UUID=..."), ...)"""
    return tuple((m["key"], m["spec"]) for m in _PARAMETER.finditer(text))
