"""The files inside an initramfs as a `Reader`: LVM and mdadm have copies of their configuration
there, and what plans and proves that of the guest does so with them."""

from __future__ import annotations

from imgconv.errors import GuestFileMissing, HostileInput
from imgconv.guest.protocols import CONFIG_LIMIT, NAMES_LIMIT
from imgconv.linux.initramfs.cpio import Initramfs


class Inside:
    """Implements `Reader`."""

    def __init__(self, content: Initramfs) -> None:
        self._content = content

    def read(self, path: str, limit: int = CONFIG_LIMIT) -> bytes:
        data = self._content.read(path.lstrip("/"))
        if data is None:
            raise GuestFileMissing(f"{path} is not in the initramfs")
        if len(data) > limit:
            raise HostileInput(f"{path} in the initramfs is larger than {limit:,} bytes")
        return data

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        return self.read(path)[offset:offset + size]

    def size(self, path: str) -> int | None:
        data = self._content.read(path.lstrip("/"))
        return None if data is None else len(data)

    def names(self, path: str) -> tuple[str, ...]:
        start = self._content.resolve(path.strip("/")) + "/"
        return tuple(sorted({name.removeprefix(start).partition("/")[0]
                             for name in self._content.below(path.strip("/"))}))[:NAMES_LIMIT]

    def is_dir(self, path: str) -> bool:
        return bool(self.names(path))

    def find(self, path: str) -> str | None:
        return path if self._content.has(path.lstrip("/")) else None

    def read_device(self, device: str, offset: int, size: int) -> bytes:
        raise GuestFileMissing(f"{device} is not in the initramfs")

    def device_size(self, device: str) -> int:
        raise GuestFileMissing(f"{device} is not in the initramfs")
