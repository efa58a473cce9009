"""Planning the edits of one hive: what is there already is no edit."""

from __future__ import annotations

from collections.abc import Iterable

from imgconv.model import DeleteRegistryKey, RegistryValue, SetRegistry
from imgconv.windows.registry import Hive, fold


class Edits:
    """Collects edits of the hive that is the file `path` in the guest."""

    def __init__(self, hive: Hive, path: str) -> None:
        self.hive = hive
        self.path = path
        self._changes: list[SetRegistry | DeleteRegistryKey] = []

    def set(self, key: str, values: Iterable[RegistryValue], why: str) -> None:
        """Set values of `key`; without values, see to it that the key is there."""
        wanted = tuple(values)
        now = self.hive.key(key)
        there = {fold(value.name): value for value in now.values()} if now is not None else {}
        # A name's letter case is not worth an edit, and hivex would keep the old one anyway.
        left = tuple(value for value in wanted if not _same(there.get(fold(value.name)), value))
        if left or now is None:
            before = tuple(there[fold(value.name)] for value in left if fold(value.name) in there)
            self._add(SetRegistry(self.path, key, left, why, before))

    def delete(self, key: str, why: str) -> None:
        """Delete `key`, when there is one, with everything below it."""
        now = self.hive.key(key)
        if now is not None:
            self._add(DeleteRegistryKey(self.path, key, why, now.values()))

    def _add(self, change: SetRegistry | DeleteRegistryKey) -> None:
        if change not in self._changes:
            self._changes.append(change)

    def changes(self) -> tuple[SetRegistry | DeleteRegistryKey, ...]:
        return tuple(self._changes)


def _same(one: RegistryValue | None, other: RegistryValue) -> bool:
    return one is not None and (one.type, one.data) == (other.type, other.data)
