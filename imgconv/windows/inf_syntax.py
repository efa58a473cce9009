"""INF files as text: sections, lines, quoting, continuation, and %strings%.

The rules are those of Microsoft's "General Syntax Rules for INF Files". Nothing here knows what a
section means.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from imgconv.errors import ImgconvError

#: Larger than any INF of a driver, in bytes.
INF_LIMIT: Final = 4 << 20
#: Windows takes no longer field, neither before nor after putting strings in, in characters.
FIELD_LIMIT: Final = 4095

_MOST_LINES = 60_000
_MOST_SECTIONS = 10_000
#: What one question may read, in characters, as sections may be named again and again: each line
#: costs some besides its own. The largest driver of virtio-win comes to some 50,000.
_ALLOWANCE = 8 << 20
_LINE_COST = 64
_HINT = "this driver package is damaged or was not made for Windows: take another one"

_BOMS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"),
         (codecs.BOM_UTF16_BE, "utf-16-be"))
_LINE_END = re.compile(r"\r\n?|\n")
_SECTION = re.compile(r"[ \t]*\[([^\]]*)\]")
_PIECE = re.compile(r'''
    "(?P<quoted>(?:[^"]|"")*+)"?        # a quote in it is doubled; the line's end ends it too
  | (?P<comment>;.*)
  | (?P<continued>\\(?=[ \t]*+(?:;|\Z)))
  | (?P<separator>[,=])
  | [^",=;\\]++ | \\
''', re.VERBOSE | re.DOTALL)
_TOKEN = re.compile(r"%([^%]*)%")
_NUMBER = re.compile(r"(-?)(?:0x([0-9a-f]+)|([0-9]+))", re.IGNORECASE | re.ASCII)
_FILE_NAME = re.compile(r"[^\\/:*?\"<>|\x00-\x1f]{1,255}")
_BLANK = " \t\f\v"


class BadInf(ImgconvError):
    """An INF file that cannot be read."""

    def __init__(self, message: str, *, hint: str = _HINT) -> None:
        super().__init__(message, hint=hint)


@dataclass(frozen=True, slots=True)
class Line:
    """A line as it stands, without quotes and comment: `key` is what is left of "=", else "".

    `number` counts from 1.
    """

    key: str
    fields: tuple[str, ...]
    number: int

    def field(self, index: int) -> str:
        """The field, "" where the line ends before it."""
        return self.fields[index] if index < len(self.fields) else ""


@dataclass(frozen=True, slots=True)
class Document:
    """`sections` are by name in small letters, `strings` by token in small letters."""

    sections: Mapping[str, tuple[Line, ...]]
    strings: Mapping[str, str]

    def section(self, name: str) -> tuple[Line, ...] | None:
        """The lines of all sections of that name, None without one."""
        return self.sections.get(name.strip().lower())

    def expand(self, text: str) -> str:
        """`text` with %token% replaced and %% made %; what is unknown stays as it is.

        A string's own text is not expanded again: Windows does not, so strings cannot loop. Dirids
        become the variable of that folder (`%12%` is `%SystemRoot%\\System32\\drivers`), as nobody
        here knows the guest's drive letters. %13%, the package's folder in the driver store, stays.
        Raises BadInf when it gets too long.
        """
        if "%" not in text and len(text) <= FIELD_LIMIT:
            return text
        parts: list[str] = []
        end = length = 0
        for match in _TOKEN.finditer(text):
            for part in (text[end:match.start()], self._value(match)):
                parts.append(part)
                length += len(part)
            end = match.end()
            if length > FIELD_LIMIT:
                break
        if length + len(text) - end > FIELD_LIMIT:
            raise BadInf(f"a field of the INF is longer than {FIELD_LIMIT} characters")
        return "".join((*parts, text[end:]))

    def _value(self, match: re.Match[str]) -> str:
        token = match[1].lower()
        return "%" if not token else self.strings.get(token, DIRIDS.get(token, match[0]))


class Reader:
    """Reads a document's sections with strings put in, until it has been too much."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._left = _ALLOWANCE

    def section(self, name: str) -> tuple[Line, ...] | None:
        """As Document.section. Raises BadInf."""
        found = self._document.section(name)
        self.spend(_LINE_COST + 16 * len(found or ()))
        return found

    def text(self, text: str) -> str:
        """As Document.expand. Raises BadInf."""
        expanded = self._document.expand(text)
        self.spend(len(text) + len(expanded))
        return expanded

    def fields(self, line: Line) -> tuple[str, ...]:
        """The line's fields, expanded; there is at least one. Raises BadInf."""
        self.spend(_LINE_COST)
        return tuple(self.text(field) for field in line.fields)

    def spend(self, amount: int) -> None:
        """Raises BadInf."""
        self._left -= amount
        if self._left < 0:
            raise BadInf("the INF says too much")


#: What a dirid is in a text (not in DestinationDirs, where it is a number).
DIRIDS: Final[Mapping[str, str]] = {
    "10": "%SystemRoot%", "11": "%SystemRoot%\\System32", "12": "%SystemRoot%\\System32\\drivers",
    "17": "%SystemRoot%\\INF", "18": "%SystemRoot%\\Help", "20": "%SystemRoot%\\Fonts",
    "24": "%SystemDrive%", "30": "%SystemDrive%", "50": "%SystemRoot%\\System",
    "16419": "%ProgramData%", "16422": "%ProgramFiles%", "16426": "%ProgramFiles(x86)%",
    "16427": "%CommonProgramFiles%"}


def read(data: bytes) -> Document:
    """The sections of an INF file. Raises BadInf."""
    sections: dict[str, list[Line]] = {}
    lines = 0
    for section, line in _parsed(_decoded(data)):
        if section not in sections:
            sections[section] = []
            if len(sections) > _MOST_SECTIONS:
                raise BadInf(f"the INF has more than {_MOST_SECTIONS} sections")
        if line is not None:
            sections[section].append(line)
            lines += 1
            if lines > _MOST_LINES:
                raise BadInf(f"the INF has more than {_MOST_LINES} lines")
    return Document({name: tuple(found) for name, found in sections.items()}, _strings(sections))


def number(text: str) -> int:
    """A number as INF files have it: decimal, or hexadecimal behind 0x. Raises BadInf."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None or len(text) > 40:
        raise BadInf(f"the INF has {text[:40]!r} where a number must be")
    value = int(match[2], 16) if match[2] else int(match[3])
    return -value if match[1] else value


def unsigned(text: str, most: int = 0xFFFFFFFF) -> int:
    """A number from 0 to `most`. Raises BadInf."""
    value = number(text)
    if not 0 <= value <= most:
        raise BadInf(f"the INF has {text[:40]!r} where a number up to {most} must be")
    return value


def file_name(text: str) -> str:
    """`text`, when it is a name that a file (or service, or folder) can have. Raises BadInf."""
    if not _FILE_NAME.fullmatch(text) or not text.strip(". "):
        raise BadInf(f"{text[:80]!r} of the INF is no name of a file")
    return text


def _decoded(data: bytes) -> str:
    if len(data) > INF_LIMIT:
        raise BadInf(f"an INF of more than {INF_LIMIT >> 20} MiB is none")
    # Without a BOM it is in the code page of whoever wrote it; drivers' are in western ones.
    # A NUL in the first character is UTF-16 that lost its BOM.
    bom, encoding = next(((bom, name) for bom, name in _BOMS if data.startswith(bom)),
                         (b"", "utf-16-le" if data[1:2] == b"\0" else "cp1252"))
    # Ctrl-Z ends a text of DOS.
    text = data[len(bom):].decode(encoding, "replace").partition("\x1a")[0]
    if "\0" in text:
        raise BadInf("the INF is no text")
    return text


def _parsed(text: str) -> Iterator[tuple[str, Line | None]]:
    """Each section's name when it begins, and its lines."""
    section: str | None = None
    builder = _Builder()
    for at, line in enumerate(_LINE_END.split(text), 1):
        if builder.empty and line.lstrip(_BLANK)[:1] in ("", ";"):
            continue
        if builder.empty and (match := _SECTION.match(line)):
            section = match[1].strip(_BLANK).strip('"').strip().lower()
            yield section, None
            continue
        if builder.empty and line.lstrip(_BLANK).startswith("["):
            raise BadInf(f"line {at} of the INF begins a section whose name does not end")
        if builder.add(line, at):
            continue
        done = builder.line()
        if done is not None and section is None:
            raise BadInf(f"line {at} of the INF is in no section")
        if done is not None and section is not None:
            yield section, done
    done = builder.line()
    if done is not None and section is not None:
        yield section, done


class _Builder:
    """Puts a line together, from as many lines of the file as it goes over."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.empty = True
        self._key: str | None = None
        self._fields: list[str] = []
        # The field that is being read: texts that were quoted, and texts that were not, in turn.
        self._parts: list[tuple[list[str], bool]] = []
        self._number = 0

    def add(self, text: str, number: int) -> bool:
        """Take one line of the file; True when it goes on in the next."""
        if self.empty:
            self._number = number
        for match in _PIECE.finditer(text if self.empty else text.lstrip(_BLANK)):
            if match["comment"]:
                break
            self.empty = False
            if match["continued"]:
                return True
            self._take(match)
        return False

    def _take(self, match: re.Match[str]) -> None:
        if match["separator"] == ",":
            self._fields.append(self._text())
        elif match["separator"] and self._key is None and not self._fields:
            self._key = self._text()
        else:
            quoted = match["quoted"] is not None
            if not self._parts or self._parts[-1][1] != quoted:
                self._parts.append(([], quoted))
            self._parts[-1][0].append(match["quoted"].replace('""', '"') if quoted else match[0])

    def _text(self) -> str:
        """The field that was read, without the blanks around it that are not quoted."""
        parts = [("".join(pieces), quoted) for pieces, quoted in self._parts]
        self._parts = []
        if parts and not parts[0][1]:
            parts[0] = parts[0][0].lstrip(_BLANK), False
        if parts and not parts[-1][1]:
            parts[-1] = parts[-1][0].rstrip(_BLANK), False
        return "".join(text for text, _ in parts)

    def line(self) -> Line | None:
        """What was put together, None when it is nothing."""
        fields = (*self._fields, self._text())
        found = (Line(self._key or "", fields, self._number)
                 if self._key is not None or any(fields) else None)
        self._reset()
        return found


def _strings(sections: Mapping[str, list[Line]]) -> dict[str, str]:
    """The strings: those of no language first, then the English ones, then any other's.

    Windows takes those of its own language, which must be complete; nobody here knows it, and what
    matters to a driver (numbers, names of registry values) is the same in all.
    """
    names = [name for name in sections if name == "strings" or name.startswith("strings.")]
    order = {"strings": 0, "strings.0409": 1, "strings.0009": 2}
    strings: dict[str, str] = {}
    for name in sorted(names, key=lambda name: order.get(name, 3)):
        for line in sections[name]:
            if line.key:
                strings.setdefault(line.key.lower(), line.field(0))
    return strings
