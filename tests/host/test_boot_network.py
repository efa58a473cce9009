from __future__ import annotations

import struct
from pathlib import Path

import pytest

from imgconv.boot import activity, network
from imgconv.boot.network import Capture
from imgconv.model import DiskActivity, NetworkActivity

GUEST, SLIRP = bytes.fromhex("525400123456"), bytes.fromhex("52550a000202")
HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 400, 1)


def frame(source: bytes, kind: int, body: bytes) -> bytes:
    return b"\xff" * 6 + source + kind.to_bytes(2, "big") + body


def record(data: bytes) -> bytes:
    return struct.pack("<IIII", 1, 2, len(data), len(data)) + data


def udp(port: int, body: bytes = b"") -> bytes:
    header = bytes([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17]) + bytes(10)
    return header + struct.pack(">HHHH", 68, port, 8 + len(body), 0) + body


DHCP = frame(GUEST, 0x0800, udp(67, b"\x01" * 300))
ARP = frame(GUEST, 0x0806, b"\0" * 28)


def test_capture_is_read_as_it_grows(tmp_path: Path) -> None:
    path = tmp_path / "net.pcap"
    capture = Capture(path)
    assert capture.read() == NetworkActivity()  # QEMU has not made it yet
    path.write_bytes(HEADER)
    assert capture.read() == NetworkActivity()
    data = record(DHCP) + record(frame(SLIRP, 0x0800, udp(67))) + record(ARP) + record(
        frame(GUEST, 0x86DD, b"\0" * 40)) + record(frame(GUEST, 0x0800, udp(53)))
    for end in range(0, len(data) + 1, 7):
        path.write_bytes(HEADER + data[:end])
        capture.read()
    path.write_bytes(HEADER + data)
    assert capture.read() == NetworkActivity(frames=4, dhcp=1, arp=1)


@pytest.mark.parametrize("who", [b"PXEClient:Arch:00007", b"HTTPClient:Arch:00016"])
def test_firmware_is_not_the_guest(tmp_path: Path, who: bytes) -> None:
    path = tmp_path / "net.pcap"
    path.write_bytes(HEADER + record(frame(GUEST, 0x0800, udp(67, who))))
    assert Capture(path).read() == NetworkActivity()


def test_real_firmware() -> None:
    """OVMF that tried to boot from QEMU's user network, captured as boot-test does."""
    capture = Capture(Path(__file__).parents[1] / "golden" / "uefi-pxe.pcap")
    assert b"PXEClient" in capture.path.read_bytes()
    assert capture.read() == NetworkActivity(frames=3)  # IPv6


@pytest.mark.parametrize("body", [b"", b"\0" * 13, frame(GUEST, 0x0800, b""),
                                  frame(GUEST, 0x0800, b"\x4f" + b"\x11" * 23)])
def test_odd_frames(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "net.pcap"
    path.write_bytes(HEADER + record(body) + record(DHCP))
    assert Capture(path).read().dhcp == 1


def test_a_flood_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "CAPTURE_LIMIT", 1000)
    path = tmp_path / "net.pcap"
    path.write_bytes(HEADER + record(ARP) * 100)
    capture = Capture(path)
    for _ in range(3):
        assert capture.read().frames == 16
    assert capture.full


def stats(node: str, operations: int, size: int, flushes: int) -> dict[str, object]:
    return {"node-name": node, "stats": {"wr_operations": operations, "wr_bytes": size,
                                         "flush_operations": flushes, "rd_bytes": 1}}


def test_disks_are_summed_without_the_firmware() -> None:
    found = activity.parse([stats("disk0", 3, 4096, 1), stats("disk1", 1, 512, 1),
                            stats("vars", 99, 1 << 20, 9)])
    assert found == DiskActivity(writes=4, written=4608, flushes=2)


@pytest.mark.parametrize(("disk", "kernel"), [
    (DiskActivity(37, 1404928, 14), True), (DiskActivity(2, 2048, 0), False),
    (DiskActivity(4, 4096, 2), False), (DiskActivity(100, 1 << 20, 0), False)])
def test_what_only_a_kernel_does(disk: DiskActivity, kernel: bool) -> None:
    assert activity.by_kernel(disk) is kernel
