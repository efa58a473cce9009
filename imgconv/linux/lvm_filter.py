"""lvm.conf: filters that say which devices LVM looks at (lvm.conf(5), devices/filter).

A list of patterns, each to accept (a) or reject (r); of each name of a device the first that
matches counts. One that accepts /dev/sda and rejects all else leaves no volume group on another
bus. A pattern for the new name goes first then, and all others stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from imgconv.errors import HostileInput, ImgconvError
from imgconv.guest.protocols import Reader, read_text
from imgconv.linux import lvm_regex
from imgconv.linux.config import Check, Verdict
from imgconv.linux.device_names import DiskName, Renamer, parse
from imgconv.linux.edit import edit, lines
from imgconv.model import Bus, Change, Filesystem

_PATHS = ("/etc/lvm/lvm.conf", "/etc/lvm/lvmlocal.conf")

_START = re.compile(r"[ \t]*+(?:devices/)?+(?P<name>global_filter|filter)[ \t]*+=[ \t]*+")
_STRING = re.compile(r'"(?P<value>(?:[^"\\]|\\.)*+)"', re.DOTALL)
_SKIP = re.compile(r"(?:[\s,]++|#[^\n]*+)*+")

#: More patterns than this are no filter; what they are asked for is each physical volume.
_MOST = 256
_OF_DISKS = re.compile(r"/dev/disk/by-(?:id|path)")


@dataclass(frozen=True, slots=True)
class Filter:
    """One list in lvm.conf. `start` and `end` are where its value is in the text; `patterns` as
    they are written: "a|^/dev/sda2$|"."""

    name: str
    start: int
    end: int
    patterns: tuple[str, ...]


def parse_filters(text: str) -> list[Filter]:
    """The filters of an lvm.conf that are not comments. Raises HostileInput when there are too many
    patterns."""
    found: list[Filter] = []
    at, done = 0, 0
    for line in lines(text):
        match = _START.match(line) if at >= done else None
        if match:
            value = _value(text, at + match.end())
            if value is not None:
                done, patterns = value
                found.append(Filter(match["name"], at + match.end(), done, patterns))
        at += len(line)
    return found


def _value(text: str, start: int) -> tuple[int, tuple[str, ...]] | None:
    """Where the list (or the string) at `start` ends, and what is in it."""
    if match := _STRING.match(text, start):
        return match.end(), (_unescaped(match),)
    if text[start:start + 1] != "[":
        return None
    patterns: list[str] = []
    at = start + 1
    while True:
        if skipped := _SKIP.match(text, at):
            at = skipped.end()
        if text[at:at + 1] == "]":
            return at + 1, tuple(patterns)
        match = _STRING.match(text, at)
        if match is None:
            return None
        patterns.append(_unescaped(match))
        if len(patterns) > _MOST:
            raise HostileInput("a filter of LVM has too many patterns")
        at = match.end()


def _unescaped(match: re.Match[str]) -> str:
    return re.sub(r"\\(.)", r"\1", match["value"])


def accepts(patterns: Sequence[str], names: Sequence[str]) -> bool:
    """Whether a device with these names passes: when one of them meets an "a" before an "r", or
    none meets any. Raises HostileInput when a pattern is none."""
    compiled = []
    for pattern in patterns:
        ends = {"(": ")", "[": "]", "{": "}"}
        if len(pattern) < 3 or pattern[0] not in "ar" or pattern[-1] != ends.get(
                pattern[1], pattern[1]):
            raise HostileInput("a filter of LVM has a pattern that is none")
        compiled.append((pattern[0], lvm_regex.parse(pattern[2:-1])))
    verdicts = {next((kind for kind, regex in compiled if regex.search(name)), "")
                for name in names}
    return "a" in verdicts or "r" not in verdicts


def _names(name: DiskName, prefix: str, volume: Filesystem) -> list[str]:
    """What a physical volume is called on a bus, with those of udev's links that stay."""
    return [name.on(prefix), f"/dev/disk/by-id/lvm-pv-uuid-{volume.uuid}",
            *([f"/dev/disk/by-partuuid/{volume.partuuid}"] if volume.partuuid else [])]


def _lost(found: Filter, renamer: Renamer) -> list[str]:
    """New names of the physical volumes that passed under a name of old, and do not now."""
    lost = []
    for volume in renamer.filesystems:
        name = parse(volume.device)
        if volume.type != "LVM2_member" or name is None:
            continue
        new = renamer.rename_disk(volume.device)
        now = _names(name, renamer.bus.disk_prefix, volume)
        if accepts(found.patterns, now):
            continue
        part = "" if name.partition is None else f"p{name.partition}"
        old = [*(name.on(prefix) for prefix in ("sd", "hd", "xvd", "vd")),
               *(f"/dev/{disk}{part}" for disk in (f"nvme{name.disk}n1", f"cciss/c0d{name.disk}",
                                                   f"ida/c0d{name.disk}"))]
        before = any(accepts(found.patterns, [one, *now[1:]]) for one in old)
        if before or any(_OF_DISKS.search(pattern) for pattern in found.patterns
                         if pattern.startswith("a")):
            lost.append(new)
    return lost


def rewrite(text: str, renamer: Renamer) -> str:
    """Raises HostileInput when a filter cannot be understood."""
    for found in reversed(parse_filters(text)):
        lost = _lost(found, renamer)
        if not lost:
            continue
        more = ", ".join(f'"a|^{name}$|"' for name in lost)
        value = text[found.start:found.end]
        value = f"[ {more},{value[1:]}" if value.startswith("[") else f"[ {more}, {value} ]"
        text = text[:found.start] + value + text[found.end:]
    return text


def plan(reader: Reader, renamer: Renamer) -> tuple[Change, ...]:
    def transform(text: str) -> str:
        try:
            return rewrite(text, renamer)
        except ImgconvError:
            return text  # verification says what is wrong with it
    return tuple(change for path in _PATHS for change in edit(
        reader, path, transform, "LVM looks only at devices that its filter accepts"))


def checks(reader: Reader, renamer: Renamer) -> Iterator[Check]:
    if renamer.bus in (Bus.IDE, Bus.SATA):
        return  # it is where it was
    for path in _PATHS:
        try:
            filters = parse_filters(read_text(reader, path) or "")
            for found in filters:
                lost = _lost(found, renamer)
                for name in lost:
                    yield Check(path, Verdict.WRONG, f"{found.name} hides the physical volume "
                                f"{name}", ", ".join(found.patterns)[:200])
                if not lost:
                    yield Check(path, Verdict.RIGHT, f"{found.name} hides no physical volume that "
                                "it did not")
        except HostileInput as error:
            yield Check(path, Verdict.DOUBTFUL, error.message)
