"""Files from which the guest makes the command lines of its next boot entries.

/etc/default/grub is not here but in bootloader/grub2.py: there is more in it than command lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import cmdline
from imgconv.linux.bootloader import grub2, grub_legacy
from imgconv.linux.config import Check, Verdict
from imgconv.linux.device_names import Renamer, hangs_on_bus
from imgconv.linux.edit import edit, lines
from imgconv.model import Change

#: Of kernel-install (Fedora, Arch, systemd-boot); Debian's extlinux and U-Boot; Alpine's
#: extlinux; SUSE's perl-Bootloader (DEFAULT_APPEND="resume=/dev/sda1").
_FILES = ("/etc/kernel/cmdline", "/etc/default/extlinux", "/etc/default/u-boot",
          "/etc/update-extlinux.conf", "/etc/sysconfig/bootloader")
_FOLDERS = ("/etc/cmdline.d", "/etc/kernel/cmdline.d", "/etc/default/u-boot.d")

#: Where Enterprise Linux 5 and 6 note what GRUB legacy was installed to. Later ones have a link to
#: /etc/default/grub of this name.
_BOOT = "/etc/sysconfig/grub"
_BOOT_LINE = re.compile(r"^(?P<key>boot=)(?P<spec>/dev/\S+)", re.MULTILINE)

#: More drop-ins than this are no guest's.
_MAX_FILES = 100


def _paths(reader: Reader) -> tuple[str, ...]:
    return (*_FILES, *(f"{folder}/{name}" for folder in _FOLDERS
                       for name in reader.names(folder)[:_MAX_FILES]))


def rewrite(text: str, renamer: Renamer) -> str:
    return "".join(line if line.lstrip().startswith("#") else cmdline.rewrite(line, renamer)
                   for line in lines(text))


def _rewrite_boot(text: str, renamer: Renamer) -> str:
    return _BOOT_LINE.sub(lambda match: match["key"] + renamer.rename_disk(match["spec"]), text)


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    changes = [change for path in _paths(reader) for change in edit(
        reader, path, lambda text: rewrite(text, renamer),
        "the guest's next boot entries must name the same disks")]
    changes += edit(reader, _BOOT, lambda text: _rewrite_boot(text, renamer),
                    "the next installation of GRUB goes by this")
    return tuple(changes)


def checks(reader: Reader, renamer: Renamer) -> Iterator[Check]:
    for path in (grub2.DEFAULTS, *grub2.drop_ins(reader), *_paths(reader)):
        text = "".join(line for line in lines(read_text(reader, path) or "")
                       if not line.lstrip().startswith("#"))
        for key, spec in cmdline.devices(text):
            if hangs_on_bus(spec) and renamer.resolves(spec) is None:
                yield Check(path, Verdict.LATER, "the guest's next boot entries would have "
                            f"{key}={spec}, which is no name on {renamer.bus}")
    names = [*grub_legacy.next_names(reader),
             *((_BOOT, match["spec"]) for match in _BOOT_LINE.finditer(
                 read_text(reader, _BOOT) or ""))]
    for path, spec in names:
        if hangs_on_bus(spec) and renamer.resolves(spec) is None and not renamer.is_disk(spec):
            yield Check(path, Verdict.LATER, f"{spec}, by which GRUB's next update goes, is no "
                        f"name on {renamer.bus}")
