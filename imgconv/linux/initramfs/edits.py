"""Small edits that several tools make: inside an initramfs, and to the tools' configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

from imgconv.errors import HostileInput, ImgconvError
from imgconv.guest.protocols import Reader, read_text, to_bytes
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.modinfo import normalise
from imgconv.model import WriteFile

#: What the configuration inside an initramfs may come to, in bytes; it is mostly less than 1 KiB.
LIMIT = 4 << 20

WHY = "the guest's own next initramfs must keep the drivers"

_DEVICE = re.compile(r"/dev/[^\s\"'`;,:=()\\]++")


def rewritten(initramfs: Initramfs, names: Iterable[str],
              transform: Callable[[str], str]) -> dict[str, bytes]:
    """Those of the files `names` inside `initramfs` that `transform` changes, as it makes them.

    Missing ones are left missing. Raises HostileInput when they are larger than configuration is.
    """
    files: dict[str, bytes] = {}
    left = LIMIT
    for name in names:
        content = initramfs.read(name)
        if content is None:
            continue
        left -= len(content)
        if left < 0:
            raise HostileInput("the configuration inside an initramfs is too large")
        before = content.decode("utf-8", "surrogateescape")
        after = transform(before)
        if after != before:
            files[name] = to_bytes(after)
    return files


def text(initramfs: Initramfs, name: str) -> str:
    """A text file inside `initramfs`, "" when there is none. Raises HostileInput."""
    content = initramfs.read(name) or b""
    if len(content) > LIMIT:
        raise HostileInput(f"{name} inside the initramfs is too large")
    return content.decode("utf-8", "surrogateescape")


def script(initramfs: Initramfs) -> str:
    """The text of /init where that is a script, else ""."""
    entry = initramfs.entries.get(initramfs.resolve("init"))
    if entry is None or bytes(entry.data[:2]) != b"#!":
        return ""
    return text(initramfs, "init")


def devices(text: str, renamer: Renamer) -> str:
    """`text` with every /dev/... that is one of the guest's disks renamed, by device name: most of
    what reads these files knows no UUID=."""
    return _DEVICE.sub(lambda match: renamer.rename(match[0], by_uuid=False), text)


def listed(text: str, comments: str = "#") -> set[str]:
    """The modules in a list with one a line, arguments behind it."""
    lines = (line.split() for line in text.split("\n") if line.strip()[:1] not in tuple(comments))
    return {normalise(words[0].partition("#")[0]) for words in lines if words}


def with_lines(text: str, modules: Sequence[str]) -> str:
    """Such a list with those of `modules` added that are missing."""
    return appended(text, "".join(f"{name}\n" for name in modules if name not in listed(text)))


def appended(text: str, added: str) -> str:
    """`text` with lines `added` at its end, which no backslash there draws into the last one."""
    if not added:
        return text
    if text.endswith("\\"):
        text += "\n"
    if text.endswith("\\\n") or (text and not text.endswith("\n")):
        text += "\n"
    return text + added


def put(reader: Reader, path: str, transform: Callable[[str], str],
        why: str = WHY) -> tuple[WriteFile, ...]:
    """Like `linux.edit.edit`, but a missing file is made ("" is its text before).

    Raises ImgconvError when the change would not be seen in the changed file.
    """
    before = read_text(reader, path)
    after = transform(before or "")
    if after == (before or ""):
        return ()
    if transform(after) != after:
        raise ImgconvError(f"{path} is written in a way that imgconv cannot add to",
                           hint="mend it in the guest: it may lack a bracket or a quote")
    return (WriteFile(path, to_bytes(after), None if before is None else to_bytes(before), why),)


def program(reader: Reader, *names: str) -> bool:
    """Whether each of the programs `names` is installed."""
    return all(any(reader.size(f"{folder}/{name}") is not None
                   for folder in ("/usr/bin", "/usr/sbin", "/sbin", "/bin")) for name in names)
