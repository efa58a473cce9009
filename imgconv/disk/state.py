"""Where the journals and undo packs of a disk are.

A disk's *home* is the folder `.NAME.imgconv` beside it, which moves along with it and is found by
whoever uses the disk; where that cannot be (block devices, folders without write permission) it is
in `$XDG_STATE_HOME/imgconv`. A commit has a numbered folder in the home of the guest's first disk
(or in `--state-dir`). In the homes of the guest's other disks, and in every home when the folder is
elsewhere, a file `NUMBER.link` leads to it. So each disk leads to the others.

A journal is obeyed only for disks whose own home holds it or leads to it: a folder that came with
an image from elsewhere cannot make imgconv write to any other file.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from imgconv.disk import durable
from imgconv.disk.journal import DONE, PENDING, Journal
from imgconv.disk.steps import reached
from imgconv.errors import ImgconvError

_WRITTEN = "written.json"
_MAX_NAME = 255  # bytes, in all common filesystems
_MAX_LINK = 1 << 16

# For each file of an image its size in bytes and its time of change in ns
Written = list[list[int]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A commit as one disk sees it: this disk is the `index`-th of the journal in `folder`."""

    number: int
    folder: Path
    index: int
    home: Path

    @property
    def pending(self) -> bool:
        return (self.folder / PENDING).exists()


# --- finding --------------------------------------------------------------------------------------


def entries(disk: Path, state_dir: Path | None = None) -> list[Entry]:
    """The commits of a disk that are under way or can be undone, oldest first."""
    try:
        homes = _homes(disk, state_dir)
        found: dict[tuple[Path, int], Entry] = {}
        for home in (*homes, *_orphans(disk)):
            for entry in _in_home(home):
                if any((entry.folder / name).exists() for name in (PENDING, DONE)):
                    found.setdefault((entry.folder.resolve(), entry.index), entry)
    except OSError as error:
        raise ImgconvError(f"{error.filename}, where an undo of {disk} would be, cannot be read: "
                           f"{error.strerror}",
                           hint="run imgconv as the user who converted the disk") from error
    return sorted(found.values(), key=lambda entry: entry.number)


def locate(entry: Entry, journal: Journal, disk: Path, given: Sequence[Path],
           state_dir: Path | None = None) -> tuple[Path, ...]:
    """The disks of the journal that `entry`, found at `disk`, leads to, in their order.

    They are looked for among the `given`, where they were as seen from the journal, and where they
    were. Raises ImgconvError when one is not there or does not lead to this journal.
    """
    paths = []
    for index, source in enumerate(journal.disks):
        candidates = (*given, entry.folder / source.relative, Path(source.path))
        if index == entry.index:
            candidates = (disk,)
        path = next((path for path in candidates
                     if path.exists() and entry_of(path, entry.folder, index, state_dir)), None)
        if path is None:
            raise ImgconvError(
                f"{disk} was written together with {source.path}, which is not there",
                hint="give all disks of the guest in one command, where they are now")
        paths.append(path)
    return tuple(paths)


def entry_of(disk: Path, folder: Path, index: int, state_dir: Path | None) -> Entry | None:
    """`disk`'s entry for the commit in `folder`, if it has one."""
    for entry in entries(disk, state_dir):
        if entry.index == index and entry.folder.resolve() == folder.resolve():
            return entry
    return None


def _homes(disk: Path, state_dir: Path | None) -> list[Path]:
    """Where a disk's home may be, best first."""
    real = disk.resolve()
    name = f".{real.name}.imgconv"
    beside = [] if real.is_block_device() or len(os.fsencode(name)) > _MAX_NAME else [
        real.parent / name]
    named = state_dir or os.environ.get("IMGCONV_STATE_DIR")
    places = [_default(), *([Path(named).absolute()] if named else [])]
    return [*beside, *(place / _key(real) for place in places)]


def _default() -> Path:
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "imgconv"


def _key(real: Path) -> str:
    """A name for the disk that is the same tomorrow: /dev/sdb and /dev/dm-3 need not be."""
    identity = os.fsencode(real)
    if real.is_block_device():
        by_id = Path("/dev/disk/by-id")
        links = sorted(by_id.iterdir()) if by_id.is_dir() else []
        identity = os.fsencode(next((link for link in links if link.resolve() == real), real))
    digest = hashlib.sha256(identity).hexdigest()[:16]
    return f"{digest}-{os.fsdecode(os.fsencode(real.name)[:64])}"


def _orphans(disk: Path) -> Iterator[Path]:
    """Homes beside the disk whose disk is gone, and that speak of this inode: it was renamed."""
    from imgconv.disk import journal

    real = disk.resolve()
    if real.is_block_device():
        return
    for home in real.parent.glob(".*.imgconv"):
        if home.with_name(home.name[1:-len(".imgconv")]).exists():
            continue
        with contextlib.suppress(PermissionError):  # another user's disk, then
            for entry in _in_home(home):
                for name in (PENDING, DONE):
                    with contextlib.suppress(ImgconvError, IndexError):
                        source = journal.read(entry.folder / name).disks[entry.index]
                        if source.inode == real.stat().st_ino:
                            yield home


def _in_home(home: Path) -> Iterator[Entry]:
    if not home.is_dir() or home.is_symlink():
        return
    for path in home.iterdir():
        if path.name.isdecimal() and path.is_dir() and not path.is_symlink():
            yield Entry(int(path.name), path, 0, home)
        elif path.suffix == ".link" and path.stem.isdecimal():
            target = _followed(path)
            if target is not None:
                yield Entry(int(path.stem), target[0], target[1], home)


def _followed(link: Path) -> tuple[Path, int] | None:
    """The folder that a link leads to, and which disk this is there; None when it is damaged."""
    if not stat.S_ISREG(link.lstat().st_mode) or link.lstat().st_size > _MAX_LINK:
        return None
    try:
        content = json.loads(link.read_bytes())
        folders = (link.parent / content["relative"], Path(content["folder"]))
        return next((f for f in folders if f.is_dir()), folders[1]), int(content["index"])
    except (ValueError, KeyError, TypeError):
        return None


# --- making and removing --------------------------------------------------------------------------


def create(disks: Sequence[Path], state_dir: Path | None = None) -> Path:
    """A new folder for a commit of `disks`, with their homes leading to it.

    It counts as nothing until a journal is in it. Raises ImgconvError when there is no place.
    """
    homes = [_make_home(disk, state_dir) for disk in disks]
    named = state_dir or os.environ.get("IMGCONV_STATE_DIR")
    place = Path(named).absolute() / _key(disks[0].resolve()) if named else homes[0]
    for home in homes:
        _tidy(home)
    number = 1 + max([entry.number for disk in disks for entry in entries(disk, state_dir)]
                     + [entry.number for home in (place, *homes) for entry in _in_home(home)],
                     default=0)
    folder = place / f"{number:04}"
    try:
        folder.mkdir(parents=True)
        durable.sync(folder.parent)
        durable.sync(folder.parent.parent)
        reached("folder made")
        for index, home in enumerate(homes):
            if home != place or index > 0:
                content = {"folder": str(folder), "relative": os.path.relpath(folder, home),
                           "index": index}
                durable.write(home / f"{number:04}.link", json.dumps(content).encode())
    except OSError as error:
        raise ImgconvError(f"{folder} cannot be made: {error.strerror}",
                           hint="name another place: --state-dir DIR") from error
    return folder


def remove(folder: Path, disks: Sequence[Path], state_dir: Path | None = None) -> None:
    """Forget a commit: its journal first, then everything else. Quiet about what is gone."""
    for name in (DONE, PENDING):
        with contextlib.suppress(FileNotFoundError):
            (folder / name).unlink()
        reached(f"{name} removed")
    if folder.exists():
        durable.sync(folder)
    shutil.rmtree(folder, ignore_errors=True)
    reached("folder removed")
    for home in (home for disk in disks for home in (*_homes(disk, state_dir), folder.parent)):
        if home.is_dir():
            _tidy(home)
            with contextlib.suppress(OSError):  # it is kept as long as something is in it
                if not any(home.glob("[0-9]*")):
                    (home / _WRITTEN).unlink(missing_ok=True)
                home.rmdir()


def give_to_owner(folder: Path, image: Path) -> None:
    """Let those who may read the image read the commit's files, and its owner have them."""
    entry = image.stat()
    homes = [folder.parent] if folder.parent.name.endswith(".imgconv") else []
    for path in (*homes, folder, *folder.iterdir()):
        if path.suffix == ".qcow2":
            path.chmod(entry.st_mode & 0o666 | 0o600)
        if os.geteuid() == 0 and not image.is_block_device():
            os.chown(path, entry.st_uid, entry.st_gid, follow_symlinks=False)


def _make_home(disk: Path, state_dir: Path | None) -> Path:
    reasons = []
    for home in _homes(disk, state_dir):
        try:
            if not home.is_dir():
                home.mkdir(parents=True)
                durable.sync(home.parent)
        except OSError as error:
            reasons.append(f"{home.parent}: {error.strerror}")
            continue
        if os.access(home, os.W_OK):
            return home
        reasons.append(f"{home}: Permission denied")
    raise ImgconvError(f"there is no place for the journal of {disk} ({'; '.join(reasons)})",
                       hint="name one: --state-dir DIR")


def _tidy(home: Path) -> None:
    """Remove what a killed imgconv has left in a home before there was a journal."""
    for partial in home.glob("*.new"):
        partial.unlink(missing_ok=True)
    for entry in list(_in_home(home)):
        if any((entry.folder / name).exists() for name in (PENDING, DONE)):
            continue
        if entry.folder.parent == home:
            shutil.rmtree(entry.folder, ignore_errors=True)
        elif entry.folder.parent.is_dir():  # otherwise it may be on a disk that is not mounted
            (home / f"{entry.number:04}.link").unlink(missing_ok=True)


# --- what imgconv itself wrote last ---------------------------------------------------------------


def remember(home: Path, written: Written) -> None:
    """Note the sizes and times of a disk's files, as imgconv has left them."""
    durable.write(home / _WRITTEN, json.dumps(written).encode())


def forget(home: Path) -> None:
    (home / _WRITTEN).unlink(missing_ok=True)


def remembered(home: Path) -> Written | None:
    try:
        written: Written = json.loads((home / _WRITTEN).read_bytes())
        return written
    except (OSError, ValueError):
        return None
