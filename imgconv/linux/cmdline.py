"""The kernel command line: the parameters that name a disk."""

from __future__ import annotations

import re

from imgconv.linux.device_names import Renamer, hangs_on_bus

#: A parameter and the device it names, quoted or not: root=/dev/sda1, root=\"/dev/sda1\". It may be
#: inside a list (cryptopts=target=x,source=/dev/sda5), or followed (cryptdevice=/dev/sda2:name), or
#: behind what TuxOnIce calls its kind (resume=swap:/dev/sda2).
#: Possessive, or a long line of nothing would take forever.
_PARAMETER = re.compile(r"""(?<![\w.-])(?P<key>[A-Za-z_][\w.-]*+)=
    (?P<quote>\\?["']?(?:swap:|file:)?+)
    (?P<spec>/dev/disk/by-path/[^\s"',\\]++
           |(?:(?:UUID|LABEL|PARTUUID|PARTLABEL)=)?+[^\s"',:=\\]++(?!=))""", re.VERBOSE)

#: Those for which a UUID=... is understood by what is in an initramfs.
_BY_UUID = ("root", "real_root", "resume", "cryptdevice", "source")


def rewrite(text: str, renamer: Renamer, *, by_uuid: bool = True) -> str:
    """`text` (a command line, or a configuration line around one) with its devices renamed."""
    def parameter(match: re.Match[str]) -> str:
        spec = renamer.rename(match["spec"], by_uuid=by_uuid and match["key"] in _BY_UUID
                              and not match["quote"].endswith(":"))
        return f"{match['key']}={match['quote']}{spec}"
    return _PARAMETER.sub(parameter, text)


def devices(text: str) -> tuple[tuple[str, str], ...]:
    """Every (parameter, device) of a command line: (("root", "UUID=..."), ...)

    Other parameters than root and resume count when they name a disk by its bus.
    """
    return tuple((m["key"], m["spec"]) for m in _PARAMETER.finditer(text)
                 if m["key"] in ("root", "resume") or hangs_on_bus(m["spec"]))
