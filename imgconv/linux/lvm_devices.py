"""LVM's devices file: the only devices that LVM looks at, where it exists (lvmdevices(8)), as on
Enterprise Linux 9.

    IDTYPE=sys_wwid IDNAME=t10.ATA_QEMU_HARDDISK_QM00001 DEVNAME=/dev/sda2 PVID=iQ6...7x PART=2

A disk's serial number and WWID are not the same on another bus. IDTYPE=devname makes LVM look for
the PVID on other devices, too, when the name is not the right one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.config import Check, Verdict
from imgconv.linux.device_names import Renamer, hangs_on_bus
from imgconv.linux.edit import edit, lines
from imgconv.model import Bus, Change, Filesystem

_FOLDER = "/etc/lvm/devices"

#: Those that are of the disk as it hangs on its bus, or of its controller.
_OF_BUS = ("sys_wwid", "sys_serial", "devname", "wwid_naa", "wwid_eui", "wwid_t10")

_FIELD = re.compile(r"(?<!\S)(?P<key>[A-Z]{1,16})=(?P<value>\S*)")


def _paths(reader: Reader) -> tuple[str, ...]:
    return tuple(f"{_FOLDER}/{name}" for name in reader.names(_FOLDER)
                 if name.endswith(".devices"))


def _fields(line: str) -> dict[str, str]:
    return {} if line.lstrip().startswith("#") else {
        match["key"]: match["value"] for match in _FIELD.finditer(line)}


def _volume(fields: dict[str, str], renamer: Renamer) -> Filesystem | None:
    """The physical volume that an entry is about: by the UUID that LVM wrote into it."""
    wanted = fields.get("PVID", "").replace("-", "")
    for filesystem in renamer.filesystems:
        if wanted and filesystem.uuid.replace("-", "") == wanted:
            return filesystem
    return renamer.filesystem(fields.get("DEVNAME", ""))


def rewrite(text: str, renamer: Renamer) -> str:
    return "".join(_line(line, renamer) for line in lines(text))


def _line(line: str, renamer: Renamer) -> str:
    fields = _fields(line)
    volume = _volume(fields, renamer) if fields.get("IDTYPE") in _OF_BUS else None
    # Names of LVM, md and crypt devices stay.
    if volume is None or not hangs_on_bus(volume.device):
        return line
    name = renamer.rename_disk(volume.device)
    new = {"IDTYPE": "devname", "IDNAME": name, "DEVNAME": name}
    return _FIELD.sub(lambda match: f"{match['key']}={new.get(match['key'], match['value'])}", line)


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    return tuple(change for path in _paths(reader) for change in edit(
        reader, path, lambda text: rewrite(text, renamer),
        "LVM looks at no other devices than these"))


def checks(reader: Reader, renamer: Renamer) -> Iterator[Check]:
    if renamer.bus in (Bus.IDE, Bus.SATA):
        return  # it is where it was
    for path in _paths(reader):
        for line in lines(read_text(reader, path) or ""):
            fields = _fields(line)
            if fields.get("IDTYPE") not in _OF_BUS:
                continue
            volume = _volume(fields, renamer)
            if volume is None or not hangs_on_bus(volume.device):
                continue
            right = fields["IDTYPE"] == "devname" and renamer.resolves(
                fields.get("IDNAME", "")) == volume
            yield Check(path, Verdict.RIGHT if right else Verdict.WRONG,
                        f"the physical volume {fields.get('PVID', '')[:64]} is " + (
                            f"found as {fields.get('IDNAME')}" if right else
                            f"looked for as {fields['IDTYPE']} {fields.get('IDNAME', '')[:64]}, "
                            f"which it is not on {renamer.bus}"))
