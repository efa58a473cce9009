"""hdparm.conf and smartd.conf: settings of real disks, which a virtual one has not. Nothing of the
boot depends on them, so they stay, and it is said that they will do nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.config import Check, Verdict
from imgconv.linux.device_names import Renamer, hangs_on_bus
from imgconv.linux.edit import lines
from imgconv.model import Change

_PATHS = ("/etc/hdparm.conf", "/etc/smartd.conf", "/etc/smartmontools/smartd.conf",
          "/etc/default/smartmontools", "/etc/udev/hdparm.rules")
_NAME = re.compile(r"/dev/[\w/.-]++")


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    return ()


def checks(reader: Reader, renamer: Renamer) -> Iterator[Check]:
    for path in _PATHS:
        text = "".join(line for line in lines(read_text(reader, path) or "")
                       if not line.lstrip().startswith("#"))
        old = sorted({name for name in _NAME.findall(text)
                      if hangs_on_bus(name) and not renamer.is_disk(name)})
        if old:
            yield Check(path, Verdict.DOUBTFUL, "is about real disks, of which the machine has "
                        "none", ", ".join(old[:9]))
