"""Reading an initramfs as the kernel does, and writing the archive that is appended to one.

An initramfs is a chain of cpio archives in the "newc" format, each raw or compressed, often early
microcode first (Documentation/driver-api/early-userspace/buffer-format.rst in the kernel's source).
A later entry replaces an earlier one of the same name. Raw archives are aligned to 4 bytes.
"""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from imgconv.errors import HostileInput, ImgconvError
from imgconv.linux.initramfs import compression

#: More entries than this is no initramfs (distributions ship 1,000 to 10,000), nor are more
#: archives behind each other or deeper folders.
MAX_ENTRIES = 200_000
MAX_MEMBERS = 1000
MAX_DEPTH = 100
#: The largest file inside that is ever looked into: a module.
MAX_READ = 64 << 20
_HEADER = 110
_FIELDS = re.compile(rb"07070[12]([0-9a-fA-F]{104})")
_MAGICS = (b"070701", b"070702")
_TRAILER = b"TRAILER!!!"
_MAX_LINKS = 40
#: A path of up to so many folders and links is found for nothing; a longer one counts as further
#: entries, because a small archive may hold any number of them.
_FREE_STEPS = 16
#: The longest name and the longest target of a symbolic link that the kernel unpacks.
_PATH_MAX = 4096


@dataclass(slots=True)
class Entry:
    """One file of the unpacked tree: its mode (type and permissions) and, for files, content.

    A symbolic link's `data` is its target. Hard links are one Entry under several names.
    """

    mode: int
    data: memoryview

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


@dataclass(frozen=True, slots=True)
class Member:
    """One archive of the chain: "cpio" when raw, else its compression; its unpacked size in bytes
    and the offset in the file at which it ends."""

    kind: str
    unpacked: int
    end: int


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
        return _resolve(self.entries, path)[0]

    def read(self, path: str) -> bytes | None:
        """The content of the regular file at `path` (links followed), None when there is none.

        Raises HostileInput when it is larger than anything in there that is to be read.
        """
        entry = self.entries.get(self.resolve(path))
        if entry is None or not stat.S_ISREG(entry.mode):
            return None
        if len(entry.data) > MAX_READ:
            raise HostileInput(f"{path} inside an initramfs has {len(entry.data):,} bytes")
        return bytes(entry.data)

    def has(self, path: str) -> bool:
        return self.resolve(path) in self.entries

    def below(self, folder: str) -> Iterator[str]:
        """Names of everything below `folder`, as they stand in the archive."""
        prefix = self.resolve(folder) + "/"
        return (name for name in self.entries if name.startswith(prefix))


def _resolve(entries: Mapping[str, Entry], path: str) -> tuple[str, int]:
    """`path` with its symbolic links followed, and how many steps that took."""
    todo = path.split("/")[::-1]
    done: list[str] = []
    links = steps = 0
    while todo:
        part = todo.pop()
        steps += 1
        if part in ("", "."):
            continue
        if part == "..":
            del done[-1:]
            continue
        entry = entries.get("/".join([*done, part]))
        if entry is None or not stat.S_ISLNK(entry.mode):
            done.append(part)
            if len(done) > MAX_DEPTH:
                raise HostileInput(f"an initramfs has folders deeper than {MAX_DEPTH}")
            continue
        links += 1
        if links > _MAX_LINKS:
            raise HostileInput(f"an initramfs has a loop of symbolic links at {path}")
        target = bytes(entry.data).split(b"\0")[0].decode("utf-8", "surrogateescape")
        if target.startswith("/"):
            done = []
        todo += target.split("/")[::-1]
    return "/".join(done), steps


@dataclass(slots=True)
class _Unpacker:
    """The tree while it is unpacked, by the rules of the kernel's init/initramfs.c.

    What the kernel would silently not create (a file in a folder that is not there, say) is not
    here either, or verification would prove what does not happen.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    children: Counter[str] = field(default_factory=Counter)
    work: int = 0

    def archive(self, data: memoryview, start: int) -> int:
        """Unpack one raw archive; returns the offset behind its trailer."""
        offset = start
        hard_links: dict[tuple[int, int, int], Entry] = {}
        while True:
            header = _FIELDS.match(data[offset:offset + _HEADER])
            if header is None:
                raise HostileInput(f"a cpio archive is damaged: no entry at byte {offset}")
            values = bytes.fromhex(header[1].decode())
            inode, mode, _, _, links, _, size, major, minor, _, _, name_size, _ = (
                int.from_bytes(values[at:at + 4], "big") for at in range(0, 52, 4))
            name_at = offset + _HEADER
            data_at = (name_at + name_size + 3) & ~3
            if not 0 < name_size <= _PATH_MAX or data_at + size > len(data):
                raise HostileInput("a cpio archive ends in the middle of an entry")
            name = bytes(data[name_at:name_at + name_size]).partition(b"\0")[0]
            offset = (data_at + size + 3) & ~3
            if name == _TRAILER:
                return offset
            self._spend(1)
            path = self._place(name.decode("utf-8", "surrogateescape"))
            if path is not None:
                link = (major, minor, inode) if stat.S_ISREG(mode) and links > 1 else None
                self._add(path, mode, data[data_at:data_at + size], link, hard_links)

    def _spend(self, work: int) -> None:
        self.work += work
        if self.work > MAX_ENTRIES:
            raise HostileInput(f"an initramfs has more than {MAX_ENTRIES} entries")

    def _place(self, name: str) -> str | None:
        """Where the kernel puts `name` (symbolic links of earlier entries redirect it); None when
        there is no such folder."""
        parent, _, last = name.rstrip("/").rpartition("/")
        if last in ("", ".", ".."):
            return None
        entry = self.entries.get(parent)
        if entry is None or not entry.is_folder or not parent:
            parent, steps = _resolve(self.entries, parent)
            self._spend(steps // _FREE_STEPS)
            if parent and not ((entry := self.entries.get(parent)) and entry.is_folder):
                return None
        return f"{parent}/{last}" if parent else last

    def _add(self, path: str, mode: int, data: memoryview, link: tuple[int, int, int] | None,
             hard_links: dict[tuple[int, int, int], Entry]) -> None:
        old = self.entries.get(path)
        if old is not None and old.is_folder and (self.children[path] or stat.S_ISDIR(mode)):
            # A folder stays as it is; one that is not empty is in the way of everything else.
            return
        if stat.S_ISLNK(mode) and len(data) > _PATH_MAX:
            return
        if link is not None and link in hard_links:
            # Of several hard-linked names only one, mostly the last, carries the content.
            entry = hard_links[link]
            if len(data):
                entry.data = data
        elif stat.S_ISREG(mode) and old is not None and stat.S_ISREG(old.mode):
            # The old file is overwritten, so its other names show the new content as well.
            entry = old
            entry.data = data
        else:
            entry = Entry(mode, data)
        entry.mode = mode
        if link is not None:
            hard_links.setdefault(link, entry)
        if old is None:
            self.children[path.rpartition("/")[0]] += 1
        self.entries[path] = entry


def read(content: bytes, limit: int = compression.LIMIT) -> Initramfs:
    """Read a whole initramfs from memory.

    Raises HostileInput when it is damaged, unpacks to more than `limit` bytes, or is not what the
    kernel would unpack to the end.
    """
    data = memoryview(content)
    tree = _Unpacker()
    members: list[Member] = []
    offset, left = 0, limit
    while (offset := _skip_zeros(data, offset)) < len(data):
        if len(members) == MAX_MEMBERS:
            raise HostileInput(f"an initramfs has more than {MAX_MEMBERS} members")
        raw = bytes(data[offset:offset + 6]) in _MAGICS
        if offset % 4 and (raw or (members and members[-1].kind == "cpio")):
            raise HostileInput(f"the archive at byte {offset} of an initramfs is not aligned to "
                               "4 bytes, and the kernel reads no further")
        if raw:
            kind, end = "cpio", tree.archive(data, offset)
            unpacked = end - offset
        else:
            kind, inner, used = compression.decompress(data[offset:], left)
            _unpack_member(tree, memoryview(inner))
            unpacked, end = len(inner), offset + used
        members.append(Member(kind, unpacked, min(end, len(data))))
        left = max(0, left - unpacked)
        offset = end
    if not members:
        raise HostileInput("an initramfs is empty")
    return Initramfs(tree.entries, tuple(members), len(content))


def _unpack_member(tree: _Unpacker, data: memoryview) -> None:
    """A compressed member: it may hold several archives behind each other."""
    offset = 0
    while (offset := _skip_zeros(data, offset)) < len(data):
        if offset % 4:
            raise HostileInput("an archive inside an initramfs' compressed data is not aligned to "
                               "4 bytes, and the kernel reads no further")
        tree._spend(1)
        offset = tree.archive(data, offset)


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
    replaces a symbolic link (lib -> usr/lib) by a folder entry of the same name. Raises
    HostileInput where a file of the tree is in the way.
    """
    out = bytearray()
    made: set[str] = set()
    names = Counter(map(id, initramfs.entries.values()))
    inode = 0x7000_0000  # far from those of the archives before: the kernel links equal ones
    for path in sorted(files):
        real = initramfs.resolve(path)
        parts = real.split("/")
        for depth in range(1, len(parts)):
            folder = "/".join(parts[:depth])
            there = initramfs.entries.get(folder)
            if there is not None and not there.is_folder:
                raise HostileInput(f"{folder} inside the initramfs is no folder")
            if there is None and folder not in made:
                made.add(folder)
                inode += 1
                out += _record(inode, folder, stat.S_IFDIR | 0o755, b"")
        old = initramfs.entries.get(real)
        if old is not None and old.is_folder:
            raise HostileInput(f"{real} inside the initramfs is a folder")
        if old is not None and names[id(old)] > 1:
            # The kernel would write into the file that other names share; it does remove one of
            # another type.
            inode += 1
            out += _record(inode, real, stat.S_IFLNK | 0o777, b"/")
        inode += 1
        out += _record(inode, real, _mode(old), files[path])
    return bytes(out) + _record(0, "TRAILER!!!", 0, b"")


def _mode(old: Entry | None) -> int:
    """A file that is replaced stays as executable as it was: the kernel takes the new mode."""
    return old.mode if old is not None and stat.S_ISREG(old.mode) else stat.S_IFREG | 0o644


def with_files(initramfs: Initramfs, files: Mapping[str, bytes]) -> Initramfs:
    """The tree as it will be with `files` added."""
    places = {initramfs.resolve(path): content for path, content in files.items()}
    added = {place: Entry(_mode(initramfs.entries.get(place)), memoryview(content))
             for place, content in places.items()}
    return Initramfs({**initramfs.entries, **added}, initramfs.members, initramfs.size)


def appendix(initramfs: Initramfs, files: Mapping[str, bytes]) -> bytes:
    """The bytes to append to the file of `initramfs` so that it unpacks with `files` added.

    A raw archive is 4-byte aligned in the file; it is not compressed, because modules mostly are
    and every kernel reads it. Only behind lz4 it has to be more lz4 blocks: that format has no end
    mark, and before Linux 5.11 the kernel takes whatever follows for the next block's size. Raises
    ImgconvError when there is something behind the lz4 blocks already.
    """
    added = archive(initramfs, files)
    last = initramfs.members[-1]
    if last.kind != "lz4":
        return b"\0" * (-initramfs.size % 4) + added
    if last.end != initramfs.size:
        raise ImgconvError("an initramfs has padding behind its lz4 data, which not every kernel "
                           "reads beyond")
    return compression.lz4_blocks(b"\0" * (-last.unpacked % 4) + added)
