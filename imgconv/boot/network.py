"""What the guest sends on its isolated network, from the capture that QEMU writes (libpcap)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from imgconv.model import NetworkActivity

#: No more of a capture is read, in bytes; and so much of each frame is captured.
CAPTURE_LIMIT = 8 << 20
FRAME_LIMIT = 400

_FILE_HEADER = 24
_RECORD = struct.Struct("<IIII")
#: Of libslirp, QEMU's user network, every address begins so (52:55, then its IP address).
_SLIRP = b"\x52\x55"
_IPV4, _ARP, _UDP = 0x0800, 0x0806, 17
_DHCP_SERVER = 67
#: DHCP's option 60 (vendor class) of firmware: PXE 2.1 and UEFI 2.10 (24.7) specifications.
_FIRMWARE = (b"PXEClient", b"HTTPClient")


@dataclass(slots=True)
class Capture:
    """Reads a capture while it grows. The frames are the guest's own work, and so hostile.

    `full` says whether more has been captured than will be read.
    """

    path: Path
    full: bool = False
    _offset: int = _FILE_HEADER
    _frames: int = 0
    _dhcp: int = 0
    _arp: int = 0

    def read(self) -> NetworkActivity:
        """What the guest has sent up to now."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(max(0, CAPTURE_LIMIT - self._offset))
        except FileNotFoundError:
            data = b""
        self.full = self._offset + len(data) >= CAPTURE_LIMIT
        self._offset += self._take(data)
        return NetworkActivity(self._frames, self._dhcp, self._arp)

    def _take(self, data: bytes) -> int:
        """Count the whole frames of `data`; returns how many bytes they are."""
        at = 0
        while at + _RECORD.size <= len(data):
            _, _, size, _ = _RECORD.unpack_from(data, at)
            if at + _RECORD.size + size > len(data):
                break
            self._frame(data[at + _RECORD.size:at + _RECORD.size + size])
            at += _RECORD.size + size
        return at

    def _frame(self, frame: bytes) -> None:
        if len(frame) < 14 or frame[6:8] == _SLIRP or any(name in frame for name in _FIRMWARE):
            return
        self._frames += 1
        kind = int.from_bytes(frame[12:14], "big")
        self._arp += kind == _ARP
        self._dhcp += kind == _IPV4 and _is_dhcp(frame[14:])


def _is_dhcp(packet: bytes) -> bool:
    if len(packet) < 24 or packet[9] != _UDP:
        return False
    header = 4 * (packet[0] & 0xF)
    return int.from_bytes(packet[header + 2:header + 4], "big") == _DHCP_SERVER
