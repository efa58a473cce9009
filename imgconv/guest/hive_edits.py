"""Carrying out edits of a registry hive with hivex, wherever it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from imgconv.errors import ImgconvError
from imgconv.model import DeleteRegistryKey, RegistryValue, SetRegistry

#: Windows' limits for the names of keys and values, in characters.
_LONGEST_KEY: Final = 255
_LONGEST_VALUE_NAME: Final = 16_383

#: Windows keeps more data in segments, which hivex does not make, in bytes.
_LARGEST: Final = 16_344


class OpenHive(Protocol):
    """A hive that hivex has open; keys are its handles, 0 is none."""

    def root(self) -> int: ...

    def child(self, key: int, name: str) -> int: ...

    def add(self, key: int, name: str) -> int: ...

    def set(self, key: int, value: RegistryValue) -> None: ...

    def delete(self, key: int) -> None: ...


def carry_out(hive: OpenHive, edits: Sequence[SetRegistry | DeleteRegistryKey]) -> None:
    """Carry out edits in order. Raises ImgconvError, also for what hivex would do wrongly."""
    for edit in edits:
        check_edit(edit)
    keys = _Keys(hive)
    for edit in edits:
        match edit:
            case SetRegistry():
                key = keys.made(edit.key)
                for value in edit.values:
                    hive.set(key, value)
            case DeleteRegistryKey():
                keys.delete(edit.key)


class _Keys:
    """The handles of keys by path: looking one up among thousands takes the appliance its time."""

    def __init__(self, hive: OpenHive) -> None:
        self._hive = hive
        self._known: dict[str, int] = {"": hive.root()}

    def made(self, path: str) -> int:
        """The handle of a key, which is made where it is missing."""
        return self._key(path, create=True)

    def delete(self, path: str) -> None:
        """Delete a key, when it is there, with all below it."""
        key = self._key(path, create=False)
        if not key:
            return
        self._hive.delete(key)
        gone = path.upper()
        self._known = {known: handle for known, handle in self._known.items()
                       if known != gone and not known.startswith(gone + "\\")}

    def _key(self, path: str, *, create: bool) -> int:
        key, known = self._known[""], ""
        for name in path.split("\\") if path else ():
            known = f"{known}\\{name.upper()}" if known else name.upper()
            child = self._known.get(known) or self._hive.child(key, name)
            if not child:
                if not create:
                    return 0
                _check_new_key(name, path)
                child = self._hive.add(key, name)
            self._known[known] = key = child
        return key


def check_edit(edit: SetRegistry | DeleteRegistryKey) -> None:
    """Raises ImgconvError for an edit that hivex would not carry out as Windows needs it."""
    names = edit.key.split("\\") if edit.key else []
    if isinstance(edit, DeleteRegistryKey) and not names:
        raise _cannot(edit.key, "it is the hive's root, which cannot be deleted")
    for name in names:
        if not 0 < len(name) <= _LONGEST_KEY or "\0" in name:
            raise _cannot(edit.key, "a name in it is empty or too long, or holds a NUL")
    for value in edit.values if isinstance(edit, SetRegistry) else ():
        if len(value.name) > _LONGEST_VALUE_NAME or "\0" in value.name:
            raise _cannot(edit.key, "the name of a value is too long, or holds a NUL")
        if len(value.data) > _LARGEST:
            raise _cannot(edit.key, f"its value {value.name!r} is too large "
                                    f"({len(value.data):,} bytes)")


def _check_new_key(name: str, path: str) -> None:
    """Windows finds keys by their order and by a hash of their names, and hivex gets both wrong
    for letters beyond ASCII."""
    if not name.isascii() or not name.isprintable():
        raise _cannot(path, "hivex can make no key with such a name where Windows would find it")


def _cannot(key: str, why: str) -> ImgconvError:
    return ImgconvError(f"the registry key {key!r} cannot be edited: {why}",
                        hint="this is no edit that imgconv should have planned; please report it")
