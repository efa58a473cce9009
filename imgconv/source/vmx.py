"""VMware's .vmx: lines of `key = "value"`."""

from __future__ import annotations

import re
from typing import BinaryIO

from imgconv.errors import HostileInput, ImgconvError
from imgconv.model import Firmware, Hardware, Nic, SourceDisk
from imgconv.source import values

NAME = "vmx"

_KNOWN = re.compile(rb"^[ \t]*(\.encoding|config\.version|virtualhw\.version|displayname|memsize)"
                    rb"[ \t]*=", re.MULTILINE | re.IGNORECASE)

#: VMware writes the file in the host's encoding and names it. Python knows more "encodings" than
#: character sets, and some of those take very long.
_ENCODING = re.compile(rb'^[ \t]*\.encoding[ \t]*=[ \t]*"?([A-Za-z0-9_-]{1,20})', re.MULTILINE)
_CHARACTER_SETS = re.compile(r"utf-?8|us-ascii|windows-\d+|cp\d+|iso-8859-\d+|gb\w+|big5|shift_jis|"
                             r"euc-\w+|koi8-r", re.IGNORECASE)

_MAX_LINES = 20_000

#: VMware's BIOS starts the first disk of the first controller; among controllers of several kinds
#: it takes SCSI's first, and IDE's, which only old machines have beside them, last.
_CONTROLLERS = ("scsi", "sata", "nvme", "ide")
_DISK = re.compile(r"((scsi|sata|nvme|ide)([0-9]{1,2}):([0-9]{1,3}))\.filename")
_NIC = re.compile(r"ethernet([0-9]{1,2})\.present")


def recognises(head: bytes) -> bool:
    return _KNOWN.search(head) is not None


def parse(file: BinaryIO) -> Hardware:
    """The machine that VMware made of the file. Raises ImgconvError."""
    found = dictionary(values.whole(file))
    disks = _disks(found)
    _check_readable(found, disks)
    nics = _nics(found)
    values.check_counts(len(disks), len(nics))
    return Hardware(
        name=values.name(found.get("displayname", "")),
        memory=values.number(found.get("memsize", "0"), "memory (memsize)", values.MAX_MEMORY),
        cpus=values.number(found.get("numvcpus", "1"), "number of processors (numvcpus)",
                           values.MAX_CPUS),
        firmware=(Firmware.UEFI if found.get("firmware", "").lower() == "efi" else Firmware.BIOS),
        secure_boot=_is_true(found, "uefi.secureboot.enabled"),
        # Since Workstation 17 a machine may ask for a TPM without being encrypted as a whole.
        tpm=_is_true(found, "vtpm.present") or found.get("managedvm.autoaddvtpm") == "software",
        nics=nics,
        disks=disks,
        os=values.printable(found.get("guestos", "")),
    )


def dictionary(data: bytes) -> dict[str, str]:
    """Every key, in lower case because VMware does not tell them apart, and its value.

    Raises HostileInput for a key with two values, which VMware refuses, too.
    """
    found: dict[str, str] = {}
    lines = _decoded(data).splitlines()
    if len(lines) > _MAX_LINES:
        raise HostileInput(f"it has more than {_MAX_LINES:,} lines", hint="is it the right file?")
    for line in lines:
        key, equals, value = line.partition("=")
        key = key.strip().lower()
        if not equals or not key or key.startswith("#"):
            continue
        value = _unescaped(value.strip())
        if found.setdefault(key, value) != value:
            raise HostileInput(f"{values.printable(key)} is defined twice, differently",
                               hint="remove the line that is wrong")
    return found


def _decoded(data: bytes) -> str:
    """Undecodable bytes of UTF-8 are kept, as Python keeps them in names of files."""
    match = _ENCODING.search(data)
    name = match[1].decode() if match else "utf-8"
    if not _CHARACTER_SETS.fullmatch(name) or name.lower() in ("utf-8", "utf8"):
        return data.decode("utf-8", "surrogateescape")
    try:
        return data.decode(name, "replace")
    except LookupError:
        return data.decode("utf-8", "surrogateescape")


def _unescaped(value: str) -> str:
    """The value without its quotes; `|22` stands for a quote, `|7C` for the bar itself."""
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = value[1:-1]
    return re.sub(r"\|([0-9A-Fa-f]{2})", lambda match: chr(int(match[1], 16)), value)


def _is_true(found: dict[str, str], key: str) -> bool:
    return found.get(key, "").lower() == "true"


def _check_readable(found: dict[str, str], disks: tuple[SourceDisk, ...]) -> None:
    if not disks and any(key.startswith("encryption.") for key in found):
        raise ImgconvError("the machine is encrypted, so what it is made of cannot be read",
                           hint="remove the encryption in VMware (VM settings, Options, Access "
                                "Control), or give the disks without --from")
    if not found.keys() & {"virtualhw.version", "config.version", "memsize", "displayname"}:
        raise values.no_description("VMX file", "it has none of the keys that each has")


def _disks(found: dict[str, str]) -> tuple[SourceDisk, ...]:
    """The disks in the order in which the BIOS takes them: what bios.hddOrder says, then scsi0:0,
    scsi0:1, scsi1:0, sata0:0, nvme0:0, ide0:0..."""
    order = [slot.strip().lower() for slot in found.get("bios.hddorder", "").split(",")]
    slots = []
    for key in found:
        match = _DISK.fullmatch(key)
        if match and _is_disk(found, slot := match[1], match[2] + match[3]):
            place = order.index(slot) if slot in order else len(order)
            slots.append((place, _CONTROLLERS.index(match[2]), int(match[3]), int(match[4]),
                          found[key]))
    return tuple(SourceDisk(name, "vmdk") for *_, name in sorted(slots))


def _is_disk(found: dict[str, str], slot: str, controller: str) -> bool:
    """Whether there is a disk: neither a CD drive nor something that was unplugged."""
    kind = found.get(f"{slot}.devicetype", "disk").lower()
    name = found[f"{slot}.filename"]
    return (_is_true(found, f"{slot}.present") and name != ""
            and found.get(f"{controller}.present", "true").lower() != "false"
            and "cdrom" not in kind and not name.lower().endswith(".iso"))


def _nics(found: dict[str, str]) -> tuple[Nic, ...]:
    numbers = sorted(int(match[1]) for key in found
                     if (match := _NIC.fullmatch(key)) and _is_true(found, key))
    return tuple(values.nic(found.get(f"ethernet{n}.virtualdev", ""),
                            _address(found, f"ethernet{n}.")) for n in numbers)


def _address(found: dict[str, str], nic: str) -> str:
    """A static address is in one key, VMware's own (`generated`, `vpx`) in another."""
    static, generated = found.get(nic + "address", ""), found.get(nic + "generatedaddress", "")
    if found.get(nic + "addresstype", "").lower() == "static":
        return static or generated
    return generated or static
