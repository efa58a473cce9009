"""What values of the DriverDatabase hold: encodings that no document describes.

Found in, and proven with, the real SYSTEM hives of Windows 8.1 and 10 (driver_database.py).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from imgconv.errors import HostileInput

#: PROCESSOR_ARCHITECTURE_* of the Windows SDK.
ARCHITECTURES: Final = {"x86": 0, "amd64": 9, "arm64": 12}

#: How well Windows trusts a signature (SIGNERSCORE_* of the SDK), by the signer's name.
_WHQL = "Microsoft Windows Hardware Compatibility Publisher"
SCORE_WHQL: Final = 0x0D000005
SCORE_AUTHENTICODE: Final = 0x0F000000
SCORE_UNSIGNED: Final = 0x80000000

_EPOCH = datetime(1601, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class VersionValue:
    """The value `Version` of a package; `class_guid` is in small letters, with braces.

    `in_box` is true of what came with Windows. `tail` is not understood: it is zero in 365 of 381
    packages, in all of third parties that the kernel can install by itself (StatusFlags 12)
    among them.
    """

    architecture: int
    class_guid: str
    date: date
    version: tuple[int, int, int, int]
    in_box: bool = False
    tail: bytes = bytes(8)

    def encode(self) -> bytes:
        """48 bytes: origin (2), architecture (2), zero (4), class (16), date (8), version (8),
        tail (8). The version's last part comes first."""
        return struct.pack("<BBHI16sQ4H8s", 0xFF if self.in_box else 0, 0xFF, self.architecture, 0,
                           uuid.UUID(self.class_guid).bytes_le, filetime(self.date),
                           *reversed(self.version), self.tail)


def decode_version(data: bytes) -> VersionValue:
    """The inverse of `VersionValue.encode`. Raises HostileInput."""
    if len(data) != 48:
        raise HostileInput("the version of a driver package does not have 48 bytes")
    origin, _, arch, _, guid, ticks, z, y, x, w, tail = struct.unpack("<BBHI16sQ4H8s", data)
    try:
        day = (_EPOCH + timedelta(microseconds=ticks // 10)).date()
    except OverflowError as error:
        raise HostileInput("the date of a driver package is none") from error
    return VersionValue(arch, f"{{{uuid.UUID(bytes_le=guid)}}}", day, (w, x, y, z),
                        origin == 0xFF, tail)


@dataclass(frozen=True, slots=True)
class IdMatch:
    """The value of an INF under `DeviceIds\\<id>`: how the INF names the id.

    `hardware` and `compatible` say as what (both, when different lines do: 03). `feature_score` is
    the install section's FeatureScore, ff without one (80 in usbxhci.inf, fb in basicdisplay.inf);
    `position` counts the compatible ids of a line from 0, for the best rank that Windows gives.
    """

    hardware: bool
    compatible: bool
    position: int = 0
    feature_score: int = 0xFF

    def encode(self) -> bytes:
        return struct.pack("<BBH", self.hardware | self.compatible << 1, self.feature_score,
                           self.position)


def decode_id_match(data: bytes) -> IdMatch:
    """The inverse of `IdMatch.encode`. Raises HostileInput."""
    if len(data) != 4:
        raise HostileInput("a value below DeviceIds does not have 4 bytes")
    kinds, score, position = struct.unpack("<BBH", data)
    return IdMatch(bool(kinds & 1), bool(kinds & 2), position, score)


def id_matches(models: Iterable[tuple[str, ...]]) -> dict[str, IdMatch]:
    """For each id of an INF's models (the ids of each line), in the INF's order and spelling.

    The first id of a line is the hardware id; input.inf shows 02ff0000, 02ff0100, 02ff0200 for
    those behind it.
    """
    found: dict[str, tuple[str, IdMatch]] = {}
    for ids in models:
        for place, name in enumerate(ids):
            spelled, known = found.get(name.upper(), (name, IdMatch(False, False, 0xFFFF)))
            found[name.upper()] = spelled, IdMatch(
                known.hardware or place == 0, known.compatible or place > 0,
                min(known.position, max(place - 1, 0)))
    return dict(found.values())


def filetime(moment: date | datetime) -> int:
    """Tenths of a microsecond since 1601, UTC; of a date, its beginning."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day, tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1) * 10


def signer_score(signer: str) -> int:
    if not signer:
        return SCORE_UNSIGNED
    return SCORE_WHQL if signer == _WHQL else SCORE_AUTHENTICODE
