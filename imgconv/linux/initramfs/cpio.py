"""Reading an initramfs as the kernel does, and writing the archive that is appended to one.

An initramfs is a chain of cpio archives in the "newc" format, each raw or compressed, often early
microcode first (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source).
A later entry replaces an earlier one of the same name. Raw archives are aligned to 4 bytes.
"""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from imgconv.errors import HostileInput
from imgconv.linux.initramfs import compression

#: More entries than this is no initramfs (distributions ship 1,000 to 10,000).
MAX_ENTRIES = 200_000
_HEADER = 110
_MAGICS = (b"070701", b"070702")
_MAX_LINKS = 40


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in the unpacked tree: its mode (type and permissions) and, for files, content.

    A symbolic link's `data` is its target.
    """

    mode: int
    data: memoryview


@dataclass(frozen=True, slots=True)
class Member:
    """One archive of the chain: "cpio" when raw, else its compression; unpacked size in bytes."""

    kind: str
    unpacked: int


@dataclass(frozen=True, slots=True)
class Initramfs:
    """The tree as the kernel unpacks it: name (no leading slash) -> entry.

    `members` is the chain, `size` is the file's in bytes.
    """

    entries: Mapping[str, Entry]
    members: tuple[Member, ...]
    size: int

    def resolve(self, path: str) -> str:
        """`path` with every symbolic link on the way followed; a missing tail is kept.

        Raises HostileInput on a loop of links.
        """
        todo = [part for part in path.split("/") if part]
        done: list[str] = []
        links = 0
        while todo:
            part = todo.pop(0)
            if part in (".", ".."):
                done = done[:-1] if part == ".." else done
                continue
            entry = self.entries.get("/".join([*done, part]))
            if entry is None or not stat.S_ISLNK(entry.mode):
                done.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise HostileInput(f"a loop of symbolic links in an initramfs at {path}")
            target = bytes(entry.data).decode("utf-8", "surrogateescape")
            if target.startswith("/"):
                done = []
            todo = [p for p in target.split("/") if p] + todo
        return "/".join(done)

    def read(self, path: str) -> bytes | None:
        """The content of the regular file at `path` (links followed), None when there is none."""
        entry = self.entries.get(self.resolve(path))
        return bytes(entry.data) if entry is not None and stat.S_ISREG(entry.mode) else None

    def has(self, path: str) -> bool:
        return self.resolve(path) in self.entries

    def below(self, folder: str) -> Iterator[str]:
        """Names of everything below `folder`, as they stand in the archive."""
        prefix = self.resolve(folder) + "/"
        return (name for name in self.entries if name.startswith(prefix))


def _normalise(name: bytes) -> str:
    """The kernel unpacks relative to /, so "./a", "/a" and "a" are one."""
    path = posixpath.normpath("/" + name.decode("utf-8", "surrogateescape"))
    return path.lstrip("/")


def _read_archive(data: memoryview, start: int, entries: dict[str, Entry]) -> int:
    """Read one raw archive into `entries`; returns the offset behind its trailer."""
    offset = start
    hard_links: dict[tuple[int, int, int], list[str]] = {}
    while True:
        header = bytes(data[offset:offset + _HEADER])
        if len(header) < _HEADER or header[:6] not in _MAGICS:
            raise HostileInput("an initramfs has a damaged cpio archive: "
                               f"no entry at byte {offset}")
        try:
            fields = [int(header[i:i + 8], 16) for i in range(6, _HEADER, 8)]
        except ValueError as error:
            raise HostileInput("an initramfs has a damaged cpio header") from error
        inode, mode, links, size, name_size = fields[0], fields[1], fields[4], fields[6], fields[11]
        name_at = offset + _HEADER
        data_at = (name_at + name_size + 3) & ~3
        name = bytes(data[name_at:name_at + name_size]).rstrip(b"\0")
        if name == b"TRAILER!!!":
            return data_at
        if data_at + size > len(data) or not 0 < name_size <= 4097:
            raise HostileInput("an initramfs ends in the middle of a cpio entry")
        path = _normalise(name)
        entry = Entry(mode, data[data_at:data_at + size])
        if path:
            path = _place(entries, path)
            entries[path] = entry
        if stat.S_ISREG(mode) and links > 1:
            # Of several hard-linked names only one, mostly the last, carries the content.
            group = hard_links.setdefault((fields[7], fields[8], inode), [])
            group.append(path)
            if size > 0:
                entries.update(dict.fromkeys(group, entry))
            else:
                entries[path] = entries[group[0]]
        if len(entries) > MAX_ENTRIES:
            raise HostileInput(f"an initramfs has more than {MAX_ENTRIES} entries")
        offset = (data_at + size + 3) & ~3


def _place(entries: dict[str, Entry], path: str) -> str:
    """Where the kernel puts `path`: symbolic links of earlier entries redirect it."""
    parent, _, name = path.rpartition("/")
    if not parent or (parent in entries and stat.S_ISDIR(entries[parent].mode)):
        return path
    parent = Initramfs(entries, (), 0).resolve(parent)
    return f"{parent}/{name}" if parent else name


def read(content: bytes, limit: int = compression.LIMIT) -> Initramfs:
    """Read a whole initramfs from memory.

    Raises HostileInput when it is damaged or unpacks to more than `limit` bytes.
    """
    data = memoryview(content)
    entries: dict[str, Entry] = {}
    members: list[Member] = []
    offset = 0
    while (offset := _skip_zeros(data, offset)) < len(data):
        if bytes(data[offset:offset + 6]) in _MAGICS:
            end = _read_archive(data, offset, entries)
            members.append(Member("cpio", end - offset))
            offset = end
            continue
        left = limit - sum(member.unpacked for member in members)
        kind, unpacked, used = compression.decompress(data[offset:], left)
        members.append(Member(kind, len(unpacked)))
        inner, at = memoryview(unpacked), 0
        # One compressed member may hold several archives behind each other.
        while (at := _skip_zeros(inner, at)) < len(inner):
            at = _read_archive(inner, at, entries)
        offset += used
    if not members:
        raise HostileInput("an initramfs is empty")
    return Initramfs(entries, tuple(members), len(content))


def _skip_zeros(data: memoryview, offset: int) -> int:
    """The offset of the next byte that is not zero padding (there may be megabytes of it)."""
    while offset < len(data) and data[offset] == 0:
        stride = bytes(data[offset:offset + 65536])
        offset += len(stride) - len(stride.lstrip(b"\0"))
    return offset


# --- writing ------------------------------------------------------------------------------------


def _record(inode: int, name: str, mode: int, data: bytes) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape") + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (inode, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % value for value in fields) + encoded
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def archive(initramfs: Initramfs, files: Mapping[str, bytes]) -> bytes:
    """A raw cpio archive of `files` (name -> content) that fits into the tree of `initramfs`.

    Names are resolved inside the tree and only missing folders are created, because the kernel
    replaces a symbolic link (lib -> usr/lib) by a folder entry of the same name.
    """
    out = bytearray()
    made: set[str] = set()
    inode = 0x7000_0000  # far from those of the archives before: the kernel links equal ones
    for path in sorted(files):
        real = initramfs.resolve(path)
        parts = real.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            if folder not in initramfs.entries and folder not in made:
                made.add(folder)
                inode += 1
                out += _record(inode, folder, stat.S_IFDIR | 0o755, b"")
        inode += 1
        out += _record(inode, real, stat.S_IFREG | 0o644, files[path])
    return bytes(out) + _record(0, "TRAILER!!!", 0, b"")


def appendix(initramfs: Initramfs, files: Mapping[str, bytes]) -> bytes:
    """The bytes to append to the file of `initramfs` so that it unpacks with `files` added.

    A raw archive is 4-byte aligned in the file; it is not compressed, because modules mostly are
    and every kernel reads it. Only behind lz4 it has to be more lz4 blocks: that format has no end
    mark, and before Linux 5.11 the kernel takes whatever follows for the next block's size.
    """
    added = archive(initramfs, files)
    last = initramfs.members[-1]
    if last.kind == "lz4":
        return compression.lz4_blocks(b"\0" * (-last.unpacked % 4) + added)
    return b"\0" * (-initramfs.size % 4) + added
