"""A guest that is a dict of path -> content: planning runs on it in a millisecond."""

from __future__ import annotations

from collections.abc import Mapping

from imgconv.errors import GuestFileMissing, HostileInput
from imgconv.guest.protocols import CONFIG_LIMIT


class FakeGuest:
    """Implements `Guest`; a value of type str given to the constructor is encoded as UTF-8."""

    def __init__(self, files: Mapping[str, bytes | str]) -> None:
        self.files: dict[str, bytes] = {
            path: content.encode() if isinstance(content, str) else content
            for path, content in files.items()}
        self.ran: list[tuple[str, ...]] = []

    def read(self, path: str, limit: int = CONFIG_LIMIT) -> bytes:
        if path not in self.files:
            raise GuestFileMissing(f"{path} does not exist in the guest")
        if len(self.files[path]) > limit:
            raise HostileInput(f"{path} is larger than {limit} bytes")
        return self.files[path]

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        return self.read(path, 1 << 40)[offset:offset + size]

    def size(self, path: str) -> int | None:
        return len(self.files[path]) if path in self.files else None

    def names(self, path: str) -> tuple[str, ...]:
        prefix = path.rstrip("/") + "/"
        return tuple(sorted({f[len(prefix):].split("/")[0]
                             for f in self.files if f.startswith(prefix)}))

    def is_dir(self, path: str) -> bool:
        return bool(self.names(path))

    def write(self, path: str, content: bytes, mode: int) -> None:
        self.files[path] = content

    def append(self, path: str, content: bytes) -> None:
        self.files[path] += content

    def run(self, argv: tuple[str, ...]) -> str:
        self.ran.append(argv)
        return ""
