"""Small real images for the tests of `imgconv.disk`, made and read by QEMU's own tools."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

MIB = 1 << 20
WRITABLE_FORMATS = ("raw", "qcow2", "vmdk", "vdi", "vhdx", "vpc")


def qemu(*argv: str | Path, cwd: Path | None = None) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, cwd=cwd).stdout


def make(path: Path, fmt: str = "qcow2", size: int = 2 * MIB, pattern: int = 0,
         options: str = "") -> Path:
    """An image of `size` bytes; the first 64 KiB hold the byte `pattern` if it is not 0."""
    if fmt == "vpc":
        options = "force_size=on" + ("," + options if options else "")
    qemu("qemu-img", "create", "-q", "-f", fmt, *(["-o", options] if options else []),
         path.absolute(), str(size))
    if pattern:
        write(path, fmt, (pattern, 0, 65536))
    return path


def write(path: Path, fmt: str, *writes: tuple[int, int, int]) -> None:
    """Write through QEMU, each of `writes` a byte, an offset and a length."""
    commands = [word for byte, offset, length in writes
                for word in ("-c", f"write -q -P {byte} {offset} {length}")]
    qemu("qemu-io", "-f", fmt, *commands, path.absolute())


def same(first: Path, first_format: str, second: Path, second_format: str) -> bool:
    """Whether a guest sees the same in both."""
    status = subprocess.run(["qemu-img", "compare", "-q", "-f", first_format, "-F", second_format,
                             first.absolute(), second.absolute()], check=False).returncode
    assert status in (0, 1)
    return status == 0


def content(path: Path, fmt: str, scratch: Path) -> str:
    """The hash of what a guest sees."""
    raw = scratch / f"content-{os.urandom(4).hex()}"
    qemu("qemu-img", "convert", "-f", fmt, "-O", "raw", path.absolute(), raw)
    return digest(raw)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
