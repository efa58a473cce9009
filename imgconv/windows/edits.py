"""Planning the edits of one hive: what is there already is no edit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from imgconv.model import DeleteRegistryKey, RegistryValue, SetRegistry
from imgconv.windows.registry import Hive, fold


class Edits:
    """Collects edits of the hive that is the file `path` in the guest."""

    def __init__(self, hive: Hive, path: str) -> None:
        self.hive = hive
        self.path = path
        self._changes: list[SetRegistry | DeleteRegistryKey] = []
        # Key and value's name, in capitals -> the key as it is spelled, and why.
        self._removed: dict[tuple[str, str], tuple[str, str]] = {}

    def set(self, key: str, values: Iterable[RegistryValue], why: str) -> None:
        """Set values of `key`; without values, see to it that the key is there."""
        wanted = tuple(values)
        now = self.hive.key(key)
        there = self._there(key)
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

    def remove(self, key: str, name: str, why: str) -> None:
        """Remove the value `name` of `key` (spelled as in the hive), when there is one. It is done
        before anything is set."""
        if fold(name) in self._there(key):
            self._removed[fold(key), fold(name)] = key, why

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What was planned in this context is forgotten when an exception leaves it."""
        changes, removed = list(self._changes), dict(self._removed)
        try:
            yield
        except BaseException:
            self._changes, self._removed = changes, removed
            raise

    def changes(self) -> tuple[SetRegistry | DeleteRegistryKey, ...]:
        return (*self._removals(), *self._changes)

    def _removals(self) -> Iterator[SetRegistry | DeleteRegistryKey]:
        """hivex removes no single value: its key is deleted, and all else of it is set again. Keys
        above go first, since what is below them is set again with them."""
        for _, (name, why) in sorted({key: said for (key, _), said
                                      in self._removed.items()}.items()):
            key = self.hive.key(name)
            assert key is not None
            yield DeleteRegistryKey(self.path, name, why, key.values())
            yield SetRegistry(self.path, name, tuple(self._there(name).values()), why)
            for path, below in key.walk():
                if path:
                    yield SetRegistry(self.path, rf"{name}\{path}", below.values(), why)

    def _there(self, key: str) -> dict[str, RegistryValue]:
        """The values of a key that are not removed, by their names in capitals."""
        now = self.hive.key(key)
        return {name: value for value in (now.values() if now is not None else ())
                if (fold(key), name := fold(value.name)) not in self._removed}

    def _add(self, change: SetRegistry | DeleteRegistryKey) -> None:
        if change not in self._changes:
            self._changes.append(change)


def _same(one: RegistryValue | None, other: RegistryValue) -> bool:
    return one is not None and (one.type, one.data) == (other.type, other.data)
