"""mdadm.conf: which devices are looked at for members of an array (mdadm.conf(5)).

Arrays are found by their UUID among those devices; a DEVICE line with names of the old bus leaves
none, and then not even the root filesystem's array is assembled.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.config import Check, Verdict
from imgconv.linux.device_names import Renamer, hangs_on_bus
from imgconv.linux.edit import edit, lines
from imgconv.model import Change

_PATHS = ("/etc/mdadm/mdadm.conf", "/etc/mdadm.conf")

_WORD = re.compile(r"[^\s,]++")
#: A pattern of names on an old bus: /dev/sd*, /dev/hd[a-d]1, /dev/sd?[12]. It ends as it is.
_PATTERN = re.compile(r"/dev/(?:sd|hd|xvd|cciss/|nvme)(?=[^\s,]*[*?\[])")
_OF_BUS = re.compile(r"/dev/disk/by-(?:id|path)/[^\s,]++")

#: A longer pattern is none; and how many of them are looked at.
_LONGEST = 256
_MOST = 256


def _statement(line: str, before: str) -> str:
    """The keyword that `line` belongs to: one that begins with a blank continues that `before`. A
    keyword may be cut to three letters, in either case."""
    if line[:1] in (" ", "\t"):
        return before
    word = line.split("#")[0].split()[:1]
    return word[0].lower()[:3] if word else ""


def _marked(text: str) -> Iterator[tuple[str, str]]:
    statement = ""
    for line in lines(text):
        if line.strip():
            statement = _statement(line, statement)
        yield statement, line


def rewrite(text: str, renamer: Renamer) -> str:
    return "".join(_rewritten(line, statement, renamer) for statement, line in _marked(text))


def _rewritten(line: str, statement: str, renamer: Renamer) -> str:
    code, mark, comment = line.partition("#")
    if statement == "dev":
        code = _WORD.sub(lambda match: _device(match[0], renamer), code)
    elif statement == "arr":
        code = re.sub(r"(?<=devices=)\S++", lambda match: _WORD.sub(
            lambda one: _device(one[0], renamer), match[0]), code)
    return code + mark + comment


def _device(word: str, renamer: Renamer) -> str:
    new = renamer.bus.disk_prefix
    if _PATTERN.match(word):
        kind = word.removeprefix("/dev/")
        if kind.startswith(("sd", "hd", "xvd")):
            return "/dev/" + re.sub(r"^(?:sd|hd|xvd)", new, kind)
        return f"/dev/{new}*"
    if _OF_BUS.fullmatch(word) and any(letter in word for letter in "*?["):
        return f"/dev/{new}*"
    name = renamer.rename(word, by_uuid=False)
    # A member's filesystem is the array's, so that its name may be all that is known.
    return renamer.rename_disk(word) if name == word and hangs_on_bus(word) else name


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    return tuple(change for path in _PATHS for change in edit(
        reader, path, lambda text: rewrite(text, renamer),
        "members of arrays are looked for among these devices"))


def checks(reader: Reader, renamer: Renamer) -> Iterator[Check]:
    for path in _PATHS:
        text = read_text(reader, path) or ""
        seen: list[str] = []  # what DEVICE lines say
        for statement, line in _marked(text):
            code = line.partition("#")[0]
            if statement == "dev":
                seen += [word for word in code.split() if not word.lower().startswith("dev")]
            elif statement == "arr" and (named := re.search(r"devices=(\S++)", code)):
                for word in named[1].split(","):
                    if hangs_on_bus(word) and not renamer.is_disk(word):
                        yield Check(path, Verdict.WRONG, f"{word[:_LONGEST]}, a member of an array,"
                                    f" is no name on {renamer.bus}")
        if seen and not {"partitions", "containers"} & set(seen):
            yield from _members(path, renamer, seen[:_MOST])


def _members(path: str, renamer: Renamer, seen: list[str]) -> Iterator[Check]:
    for device in (f.device for f in renamer.filesystems if f.type == "linux_raid_member"):
        name = renamer.rename_disk(device)
        found = any(fnmatchcase(name, word) for word in seen if len(word) <= _LONGEST)
        yield Check(path, Verdict.RIGHT if found else Verdict.WRONG,
                    f"{name}, a member of an array, is " + ("" if found else "not ")
                    + "among the devices to look at", " ".join(seen)[:_LONGEST])
