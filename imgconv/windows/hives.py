"""A guest's registry hives: read with what their logs hold, and what it takes to edit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from imgconv.errors import CannotConvert
from imgconv.guest.hive_edits import check_edit
from imgconv.guest.protocols import Reader
from imgconv.model import Change, DeleteRegistryKey, SetRegistry, WriteFile
from imgconv.windows.hive_check import check
from imgconv.windows.hive_logs import LOG_LIMIT, replay
from imgconv.windows.registry import BIG_SEGMENT, HIVE_LIMIT, REMEDY, CorruptHive, Hive

__all__ = ["LoadedHive", "check", "load"]

#: The first is the only log of XP; later it is empty, but there.
_SUFFIXES: Final = (".LOG", ".LOG1", ".LOG2")


@dataclass(frozen=True, slots=True)
class LoadedHive:
    """The hive that is the file `path`, as Windows would see it after starting.

    `changes` complete its file from its logs, and `neutralise` are the changes that keep the logs
    from ever undoing an edit; both are () where nothing is to be done, and neither has a place in
    a plan that does not edit this hive: `finish` joins them. `data` is what `hive` reads.
    """

    path: str
    hive: Hive
    data: bytes
    changes: tuple[Change, ...] = ()
    neutralise: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()

    def finish(self, edits: Sequence[SetRegistry | DeleteRegistryKey]) -> tuple[Change, ...]:
        """All that a plan with these edits of this hive has to do to it; () without edits.

        Raises CannotConvert when the hive is damaged, or an edit cannot be carried out.
        """
        if not edits:
            return ()
        _must_be_sound(self.path, self.data, dirty=self.hive.dirty)
        for edit in edits:
            assert edit.hive == self.path
            check_edit(edit)
            self._check_room(edit)
        return (*self.changes, *edits, *self.neutralise)

    def _check_room(self, edit: SetRegistry | DeleteRegistryKey) -> None:
        """hivex writes all the values of a key anew, each in one cell, however large: where
        Windows wants large ones in segments, it could not read them any more."""
        key = self.hive.key(edit.key)
        values = key.values() if key is not None and isinstance(edit, SetRegistry) else ()
        for value in values if self.hive.segments_large_values else ():
            if len(value.data) > BIG_SEGMENT:
                raise CannotConvert(
                    f"the registry key {edit.key} of {self.path} would have to be edited, but its "
                    f"value {value.name!r} is too large ({len(value.data):,} bytes) to be kept",
                    hint="see what made that value, and delete it if nobody needs it")


def load(reader: Reader, path: str) -> LoadedHive:
    """Read the hive `path` (as the guest's filesystem spells it) and, if it is dirty, its logs.

    Raises CannotConvert for one that cannot be read, GuestFileMissing, HostileInput for one too
    large. Whether it is sound is only looked at by `finish`, before it is edited.
    """
    data = reader.read(path, HIVE_LIMIT)
    logs = _logs(reader, path)
    neutralise = tuple(
        # Empty, as they are before Windows first writes them; it makes them as large as it likes.
        # Windows only looks into them when a hive is dirty, which it is not after an edit, but
        # when it crashes later, an old log must not be the one that fits.
        WriteFile(name, b"", content, f"what it holds is in {path}, or older than that")
        for name, content in logs.items())
    try:
        hive = _hive(data)
        if hive is not None and not hive.dirty:
            return LoadedHive(path, hive, data, neutralise=neutralise)
        replayed = replay(data, tuple(logs.values()))
        if replayed is None:
            return LoadedHive(path, Hive(data), data, (), neutralise, (
                f"Windows has not finished writing {path}, and no log of it holds what is missing: "
                "changes from just before it stopped may be lost",))
        hive = Hive(replayed.data)
    except CorruptHive as error:
        raise _damaged(path, error.message) from error
    warnings = (f"a log of {path} lacks a part: changes from just before Windows stopped are lost",
                ) if replayed.gap else ()
    writes = f"{replayed.writes} write{'s' if replayed.writes > 1 else ''}"
    return LoadedHive(path, hive, replayed.data, (WriteFile(
        path, replayed.data, data, f"Windows left {writes} to this hive in its logs"),
    ), neutralise, warnings)


def _hive(data: bytes) -> Hive | None:
    """The hive, None when its header is so damaged that only a log can help."""
    try:
        return Hive(data)
    except CorruptHive:
        return None


def _logs(reader: Reader, path: str) -> dict[str, bytes]:
    """The logs that hold something, by the names that they have."""
    found = (reader.find(path + suffix) for suffix in _SUFFIXES)
    return {name: reader.read(name, LOG_LIMIT) for name in found
            if name is not None and reader.size(name)}


def _must_be_sound(path: str, data: bytes, *, dirty: bool = False) -> None:
    problems = [problem for problem in check(data)
                if not (dirty and problem.startswith("its sequence numbers differ"))]
    if problems:
        raise _damaged(path, problems[0])


def _damaged(path: str, problem: str) -> CannotConvert:
    return CannotConvert(f"the registry hive {path} is damaged: {problem}", hint=REMEDY)
