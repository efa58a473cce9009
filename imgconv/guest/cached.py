"""A Reader that remembers, for a phase in which nobody writes, and that has limits.

Planning and verification each look at one initramfs from several sides; through the appliance every
look costs a transfer. And since the guest decides where they look, what they may look at in all is
limited here.
"""

from __future__ import annotations

from imgconv.errors import HostileInput
from imgconv.guest.protocols import CONFIG_LIMIT, Reader

#: What is remembered at most, in bytes: two or three initramfs.
_KEPT = 512 << 20

#: What one phase may read of a guest, in bytes, and how many questions it may ask (each takes some
#: milliseconds). A guest with ten kernels needs less than a tenth of both.
_BYTES = 8 << 30
_QUESTIONS = 20_000


class Cached:
    """Implements `Reader` by asking another one once for each thing.

    Raises HostileInput when the guest makes it ask for more than it should.
    """

    def __init__(self, reader: Reader, *, kept: int = _KEPT, total: int = _BYTES,
                 questions: int = _QUESTIONS) -> None:
        self._reader = reader
        self._contents: dict[str, bytes] = {}
        self._sizes: dict[str, int | None] = {}
        self._names: dict[str, tuple[str, ...]] = {}
        self._folders: dict[str, bool] = {}
        self._found: dict[str, str | None] = {}
        self._kept = kept
        self._bytes_left = total
        self._questions_left = questions

    def read(self, path: str, limit: int = CONFIG_LIMIT) -> bytes:
        content = self._contents.get(path)
        if content is None:
            self._ask()
            content = self._spend(self._reader.read(path, limit))
            self._keep(path, content)
        if len(content) > limit:
            return self._reader.read(path, limit)  # which says what is wrong
        return content

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        self._ask()
        return self._spend(self._reader.read_range(path, offset, size))

    def size(self, path: str) -> int | None:
        if path not in self._sizes:
            self._ask()
            self._sizes[path] = self._reader.size(path)
        return self._sizes[path]

    def names(self, path: str) -> tuple[str, ...]:
        if path not in self._names:
            self._ask()
            self._names[path] = self._reader.names(path)
        return self._names[path]

    def is_dir(self, path: str) -> bool:
        if path not in self._folders:
            self._ask()
            self._folders[path] = self._reader.is_dir(path)
        return self._folders[path]

    def find(self, path: str) -> str | None:
        if path not in self._found:
            self._ask()
            self._found[path] = self._reader.find(path)
        return self._found[path]

    def read_device(self, device: str, offset: int, size: int) -> bytes:
        self._ask()
        return self._spend(self._reader.read_device(device, offset, size))

    def device_size(self, device: str) -> int:
        self._ask()
        return self._reader.device_size(device)

    def _ask(self) -> None:
        self._questions_left -= 1
        if self._questions_left < 0:
            raise HostileInput("the guest's configuration refers to too many files",
                               hint="this is no guest that anybody set up; look at its "
                                    "boot loader's configuration")

    def _spend(self, content: bytes) -> bytes:
        self._bytes_left -= len(content)
        if self._bytes_left < 0:
            raise HostileInput("the guest's kernels and initramfs come to too many bytes")
        return content

    def _keep(self, path: str, content: bytes) -> None:
        """Remember it, and forget the oldest of what is too much then."""
        self._contents[path] = content
        while self._contents and sum(map(len, self._contents.values())) > self._kept:
            del self._contents[next(iter(self._contents))]
