"""A guest that is a dict of path -> content: planning runs on it in a millisecond."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imgconv.errors import GuestFileMissing, HostileInput
from imgconv.guest.hive_edits import carry_out
from imgconv.guest.protocols import CONFIG_LIMIT
from imgconv.model import DeleteRegistryKey, PatchDevice, RegistryValue, SetRegistry, WriteFile


def _can_be(path: str) -> bool:
    """Whether guestfs takes `path`, which a registry may have made up."""
    try:
        return b"\0" not in path.encode()
    except UnicodeEncodeError:
        return False


class FakeGuest:
    """Implements `Guest`; a value of type str given to the constructor is encoded as UTF-8."""

    def __init__(self, files: Mapping[str, bytes | str]) -> None:
        self.files: dict[str, bytes] = {
            path: content.encode() if isinstance(content, str) else content
            for path, content in files.items()}
        self._indexed: tuple[str, ...] = ()
        self._places: dict[str, str] = {}
        #: What there is of disks and partitions, by the appliance's name.
        self.devices: dict[str, bytes] = {}
        self.ran: list[tuple[str, ...]] = []

    def read(self, path: str, limit: int = CONFIG_LIMIT) -> bytes:
        if self.size(path) is None:
            raise GuestFileMissing(f"{path} does not exist in the guest")
        if len(self.files[path]) > limit:
            raise HostileInput(f"{path} is larger than {limit} bytes")
        return self.files[path]

    def read_range(self, path: str, offset: int, size: int) -> bytes:
        return self.read(path, 1 << 40)[offset:offset + size]

    def size(self, path: str) -> int | None:
        return len(self.files[path]) if path in self.files and _can_be(path) else None

    def names(self, path: str) -> tuple[str, ...]:
        if not _can_be(path):
            return ()
        prefix = path.rstrip("/") + "/"
        return tuple(sorted({f[len(prefix):].split("/")[0]
                             for f in self.files if f.startswith(prefix)}))

    def is_dir(self, path: str) -> bool:
        return bool(self.names(path))

    def find(self, path: str) -> str | None:
        if not _can_be(path):
            return None
        paths = tuple(self.files)
        if self._indexed != paths:  # Windows guests have hundreds, and are asked hundreds of times
            names = {"/".join(parts[:n]) for parts in (file.split("/") for file in paths)
                     for n in range(2, len(parts) + 1)}
            self._indexed = paths
            self._places = {name.lower(): name for name in sorted(names, reverse=True)}
        return self._places.get(path.lower())

    def edit_registry(self, hive: str, edits: Sequence[SetRegistry | DeleteRegistryKey]) -> None:
        """As the appliance does it: with hivex."""
        import hivex

        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(self.files[hive])
            handle = hivex.Hivex(file.name, write=True)
            carry_out(_OpenHive(handle), edits)
            handle.commit(None)
            self.files[hive] = Path(file.name).read_bytes()

    def write(self, path: str, content: bytes, mode: int) -> None:
        if not _can_be(path):
            raise HostileInput("the guest names a file that cannot be")
        self.files[path] = content

    def read_device(self, device: str, offset: int, size: int) -> bytes:
        return self.devices.get(device, b"")[offset:offset + size]

    def device_size(self, device: str) -> int:
        return len(self.devices.get(device, b""))

    def patch_device(self, patch: PatchDevice) -> None:
        assert self.read_device(patch.device, patch.offset, len(patch.before)) == patch.before
        content = bytearray(self.devices[patch.device])
        content[patch.offset:patch.offset + len(patch.after)] = patch.after
        self.devices[patch.device] = bytes(content)

    def create(self, files: Sequence[WriteFile]) -> None:
        for file in files:
            self.write(file.path, file.content, file.mode)

    def append(self, path: str, content: bytes) -> None:
        self.files[path] += content

    def run(self, argv: tuple[str, ...]) -> str:
        self.ran.append(argv)
        return ""


class _OpenHive:
    def __init__(self, handle: Any) -> None:  # noqa: ANN401  it has no types
        self._handle = handle

    def root(self) -> int:
        return int(self._handle.root())

    def child(self, key: int, name: str) -> int:
        return self._handle.node_get_child(key, name) or 0

    def add(self, key: int, name: str) -> int:
        return int(self._handle.node_add_child(key, name))

    def set(self, key: int, value: RegistryValue) -> None:
        self._handle.node_set_value(key, {"key": value.name, "t": value.type, "value": value.data})

    def delete(self, key: int) -> None:
        self._handle.node_delete_child(key)
