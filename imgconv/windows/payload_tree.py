"""The files of a driver payload, an ISO image or a folder: names first, contents when asked.

An ISO is neither mounted nor extracted: pycdlib reads its directories once, and contents are then
read in place. Paths are relative, with slashes, and compared without letter case, as Windows does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast

from imgconv.errors import ImgconvError

#: virtio-win's ISO has some 3,000 files, at most four folders deep; the largest have 60 MiB.
MOST_FILES: Final = 50_000
DEEPEST: Final = 12
FILE_LIMIT: Final = 64 << 20

_LONGEST_PATH = 1024
#: What pycdlib may read to know an ISO's directories (virtio-win's have some MiB), and at once: its
#: time may grow with the square of the latter.
_DIRECTORIES = 32 << 20
_AT_ONCE = 1 << 20


class BadPayload(ImgconvError):
    """A driver payload that does not exist, is of no known kind, or is damaged."""


class Tree:
    """The files below `path`; close it (or use it as a context) when nothing more is to be read."""

    def __init__(self, path: Path) -> None:
        """Raises BadPayload."""
        self.path = path
        self._names: dict[str, str] = {}
        for count, name in enumerate(self._walk()):
            if count >= MOST_FILES:
                raise _bad(path, f"it has more than {MOST_FILES} files")
            if len(name) <= _LONGEST_PATH and name.count("/") <= DEEPEST:
                self._names.setdefault(name.lower(), name)

    @property
    def files(self) -> Mapping[str, str]:
        """The path of every file as it is spelled, by the same in small letters."""
        return self._names

    def read(self, path: str, limit: int = FILE_LIMIT) -> bytes:
        """The content of the file at `path` (in any letter case), which is no longer than `limit`
        bytes. Raises BadPayload."""
        name = self._names.get(path.lower())
        if name is None:
            raise _bad(self.path, f"it has no file {path}")
        try:
            data = self._content(name, limit + 1)
        except OSError as error:
            raise _bad(self.path, f"{name} cannot be read: {error.strerror}") from None
        if len(data) > limit:
            raise _bad(self.path, f"{name} is larger than {limit >> 20} MiB")
        return data

    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        self.close()

    def _walk(self) -> Iterator[str]:
        raise NotImplementedError

    def _content(self, name: str, most: int) -> bytes:
        """The first `most` bytes of a file that `_walk` has named. Raises BadPayload, OSError."""
        raise NotImplementedError


def open_tree(path: Path) -> Tree:
    """The tree of an ISO image or a folder. Raises BadPayload."""
    if path.is_dir():
        return FolderTree(path)
    if path.is_file():
        return IsoTree(path)
    raise _bad(path, "it does not exist" if not path.exists() else "it is no file or folder")


def _bad(path: Path, why: str) -> BadPayload:
    return BadPayload(f"{path} is no usable driver payload: {why}",
                      hint="give a complete virtio-win ISO, or the folder of an unpacked one; "
                           "scripts/fetch-virtio-win downloads one")


class FolderTree(Tree):
    """A folder. A link to a file inside of it is followed; other links are not there, and neither
    is what a dot hides."""

    def _walk(self) -> Iterator[str]:
        root = self.path.resolve()
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            relative = Path(folder).relative_to(root)
            if len(relative.parts) >= DEEPEST:
                folders.clear()
            for name in sorted(files):
                path = Path(folder, name)
                if not name.startswith(".") and path.resolve().is_relative_to(root) \
                        and path.is_file():
                    yield (relative / name).as_posix()

    def _content(self, name: str, most: int) -> bytes:
        root = self.path.resolve()
        path = (root / name).resolve()
        if not path.is_relative_to(root):  # since it was listed
            raise _bad(self.path, f"{name} leads out of it")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise _bad(self.path, f"{name} is no regular file")
            return file.read(most)


class IsoTree(Tree):
    """An ISO 9660 image, by its Rock Ridge, Joliet, UDF or plain names: the first that it has."""

    def __init__(self, path: Path) -> None:
        self._extents: dict[str, tuple[tuple[int, int], ...]] = {}
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise _bad(path, str(error.strerror)) from None
        try:
            super().__init__(path)
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        self._file.close()

    def _walk(self) -> Iterator[str]:
        import pycdlib

        image = pycdlib.PyCdlib()
        try:
            image.open_fp(cast(BinaryIO, _Bounded(self._file)))
            kind = ("rr_path" if image.has_rock_ridge() else "joliet_path" if image.has_joliet()
                    else "udf_path" if image.has_udf() else "iso_path")
            for folder, _, files in image.walk(**{kind: "/"}):
                if len(self._extents) > MOST_FILES:
                    break
                for file in files:
                    self._extents.update(_extents(image, kind, f"{folder.rstrip('/')}/{file}"))
            image.close()
        except BadPayload:
            raise
        except Exception as error:  # pycdlib on damaged images: struct.error, IndexError...
            raise _bad(self.path, f"it cannot be read as an ISO image ({error})") from None
        return iter(self._extents)

    def _content(self, name: str, most: int) -> bytes:
        data = b""
        for offset, length in self._extents[name]:
            wanted = min(length, most - len(data))
            self._file.seek(offset)
            part = self._file.read(wanted)
            if len(part) < wanted:
                raise _bad(self.path, f"{name} is cut off: the image is incomplete")
            data += part
        return data


def _extents(image: Any, kind: str, path: str) -> dict[str, tuple[tuple[int, int], ...]]:  # noqa: ANN401
    """Where the file's content is, by its name; nothing for what has none (links, broken names)."""
    from pycdlib.pycdlibexception import PyCdlibException

    name = path.removeprefix("/")
    if kind == "iso_path":  # VIOSTOR.INF;1, LICENSE.;1
        name = name.partition(";")[0].rstrip(".")
    elif ";" in name:  # Joliet, made by some tools
        name = name.removesuffix(";1")
    if any(part in ("", ".", "..") for part in name.split("/")):
        return {}
    try:
        return {name: tuple(image.get_file_byte_extents(**{kind: path}))}
    except PyCdlibException:
        return {}


class _Bounded:
    """A file that gives so much and no more: a crooked ISO must not keep pycdlib busy."""

    mode = "rb"

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = _DIRECTORIES
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        # Reading a little at a time is work as well.
        self._left -= max(size, 256)
        if not 0 <= size <= _AT_ONCE or self._left < 0:
            raise ValueError("its directories are larger than any")
        return self._file.read(size)

    def close(self) -> None:
        """The file stays open: contents are read from it later."""
