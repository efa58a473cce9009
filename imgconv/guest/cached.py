"""A Reader that remembers, for a phase in which nobody writes.

Planning and verification each look at one initramfs from several sides; through the appliance every
look costs a transfer.
"""

from __future__ import annotations

from imgconv.guest.protocols import CONFIG_LIMIT, Reader


class Cached:
    """Implements `Reader` by asking another one once for each thing."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._contents: dict[str, bytes] = {}
        self._sizes: dict[str, int | None] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._folders: dict[str, bool] = {}

    def read(self, path: str, limit: int = CONFIG_LIMIT) -> bytes:
        if path not in self._contents:
            self._contents[path] = self._reader.read(path, limit)
        if len(self._contents[path]) > limit:
            return self._reader.read(path, limit)  # which says what is wrong
        return self._contents[path]

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        return self._reader.read_range(path, offset, size)

    def size(self, path: str) -> int | None:
        if path not in self._sizes:
            self._sizes[path] = self._reader.size(path)
        return self._sizes[path]

    def names(self, path: str) -> tuple[str, ...]:
        if path not in self._names:
            self._names[path] = self._reader.names(path)
        return self._names[path]

    def is_dir(self, path: str) -> bool:
        if path not in self._folders:
            self._folders[path] = self._reader.is_dir(path)
        return self._folders[path]
