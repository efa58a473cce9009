"""What lines of a guest's consoles mean, and making them safe to show."""

from __future__ import annotations

import math
import re
from typing import NamedTuple

#: Seconds to listen on after a sign that decides: swap is enabled beside the login prompt, and
#: what went wrong is often said in the lines after the first bad one.
SETTLE = 3.0
#: The same where a login prompt is still to be expected, and would say more.
PROMPT_SETTLE = 30.0
#: A quoted line is cut to so many characters.
QUOTE_LIMIT = 200

# ECMA-48: control sequences, strings (titles and such), other escapes.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\|$)|\x1b[ -/]*[0-~]")


class Sign(NamedTuple):
    """`settle` is for how many seconds it is worth listening on."""

    pattern: re.Pattern[str]
    meaning: str
    settle: float


def _signs(*rows: tuple[str, str], settle: float) -> tuple[Sign, ...]:
    return tuple(Sign(re.compile(pattern), meaning, settle) for pattern, meaning in rows)


#: The guest is up. The prompt has no newline after it, but kernel messages may follow.
UP = (
    *_signs((r"^(\S+ )?login: ", "login prompt"), settle=SETTLE),
    # A guest need not have a getty on its serial console.
    *_signs((r"Reached target .*(Multi-User System|Graphical Interface)", "systemd is done"),
            settle=PROMPT_SETTLE),
)

#: The guest will not come up any more. What a pattern matches is quoted in the reason.
DOWN = _signs(
    (r"ALERT!\s.* does not exist", "a device is missing"),  # initramfs-tools
    (r"Gave up waiting for root[ \w]*", "the initramfs found no root filesystem"),
    (r"^\(initramfs\)", "the initramfs ended in a shell"),
    (r'Warning: "?/dev/\S{1,200} does not exist', "a device is missing"),  # dracut
    (r"mounting .* on /sysroot failed.*", "the initramfs found no root filesystem"),  # mkinitfs
    (r"ERROR: device '.*' not found.*", "a device is missing"),  # mkinitcpio
    (r"You are (now )?being dropped into an emergency shell", "the guest is in emergency mode"),
    (r"Entering emergency mode|You are in emergency mode", "the guest is in emergency mode"),
    (r"Kernel panic - not syncing.*", "the kernel gave up"),
    (r"grub rescue>", "GRUB did not find its files"),
    (r"No bootable device|not a bootable disk|could not read the boot disk",  # SeaBIOS
     "the firmware found nothing to boot"),
    (r"UEFI Interactive Shell|BdsDxe: No bootable option", "the firmware found nothing to boot"),
    (r"(BOOTMGR|NTLDR|Bootmgr) is (missing|compressed)", "Windows' boot loader is missing"),
    (r"Windows (failed to start|could not start because).*", "Windows' boot loader gave up"),
    (r"INACCESSIBLE[ _]BOOT[ _]DEVICE", "Windows has no driver for its disk"),
    (r"\*\*\* STOP: 0x.*|[Yy]our (PC|device) ran into a problem.*|A problem has been detected and "
     r"[Ww]indows.*", "Windows stopped"),
    (r"Your PC/Device needs to be repaired|Your PC needs to be repaired|Choose an option$",
     "Windows is in its recovery environment"),
    settle=SETTLE,
)

#: Trouble that a guest may survive; worth a word either way.
TROUBLE = _signs(
    (r"^error: (no such device|no such partition|unknown filesystem|file .* not found).*",
     "GRUB misses something"),
    (r"dracut-initqueue.*timeout.*", "the initramfs waits for a device"),
    (r"Timed out waiting for device.*", "a device is missing"),
    (r"Gave up waiting for suspend/resume device", "the resume device is missing"),
    (r"Dependency failed for.*", "a unit did not start"),
    (r"Unable to find swap-space signature.*|swapon: .*(failed|cannot).*", "swap is not enabled"),
    settle=math.inf,
)

#: The kernel mounts a filesystem. An old btrfs only says what it scanned: no evidence.
MOUNTED = (
    re.compile(r"\bEXT[234]-fs \(([^)\s]+)\): (?:re-?)?mount(?:ed|ing) "),
    re.compile(r"\bXFS \(([^)\s]+)\): (?:Ending clean mount|Mounting)"),
    re.compile(r"\bBTRFS(?: info)? \(device ([^)\s]+)[^)]*\):"),
)
SWAP = re.compile(r"\bAdding \d+k swap on (/\S+?)\.(?:\s|$)")

#: A driver of disks has found one.
DRIVERS = (
    ("virtio_blk", re.compile(r"\bvirtio_blk virtio\d+: ")),
    ("virtio_scsi", re.compile(r"\bscsi host\d+: Virtio SCSI HBA")),
    ("libata", re.compile(r"\bata\d+\.\d\d: ATA-")),
)


def clean(text: str) -> str:
    """One line without escape sequences and anything else that is not printable."""
    return "".join(c if c.isprintable() else " " if c == "\t" else ""
                   for c in _ESCAPES.sub("", text))


def note(seen: dict[str, str], signs: tuple[Sign, ...], line: str, where: str = "") -> None:
    """Keep the first line for each meaning."""
    for sign in signs:
        match = sign.pattern.search(line)
        if match and sign.meaning not in seen:
            seen[sign.meaning] = f"{sign.meaning}{where}: {match[0].strip()[:QUOTE_LIMIT]}"
