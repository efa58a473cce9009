"""Which entry of a grub.cfg GRUB 2 starts by itself: the rules of "default" in GRUB's manual."""

from __future__ import annotations

import re

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.edit import lines

_DEFAULT = re.compile(r"""\s*set\s+default=["']?(?P<value>[^"']*)["']?\s*$""")
_ITEM = re.compile(r"""(?P<indent>\s*)(?P<kind>menuentry|submenu)\s+(?P<quote>['"])(?P<title>.*?)"""
                   r"""(?P=quote)(?P<rest>.*)\{\s*$""")
_ID = re.compile(r"""(?:\$\{?menuentry_id_option\}?|--id)[\s=]+['"]?(?P<id>[^\s'"]+)""")
_SAVED = re.compile(r"^saved_entry=(?P<value>.+)$", re.MULTILINE)

#: Matching a longer line, which no menu has, would take time that grows with its square.
_LONGEST = 4096


def default_line(reader: Reader, source: str, text: str) -> int | None:
    """The number of the line (from 0) with the `menuentry` that the configuration `text` at
    `source` starts by default; None when that cannot be told, and GRUB takes the first."""
    chosen = _chosen(reader, source, text)
    names: dict[str, int] = {}
    path: list[tuple[str, ...]] = []  # the names of the menus that are open
    counts = [0]
    depths: list[int] = []
    depth = 0
    for number, line in enumerate(lines(text)):
        if len(line) <= _LONGEST and (match := _ITEM.match(line)):
            ident = _ID.search(match["rest"])
            own = (str(counts[-1]), match["title"], ident["id"] if ident else match["title"])
            counts[-1] += 1
            if match["kind"] == "menuentry":
                for index, name in enumerate(own):
                    above = [menu[index] for menu in path]
                    names.setdefault(">".join([*above, name]), number)
            else:
                path.append(own)
                counts.append(0)
                depths.append(depth)
            depth += 1
        elif line.rstrip().endswith("{"):
            depth += 1
        elif line.strip() == "}":
            depth -= 1
            if depths and depth == depths[-1]:
                depths.pop()
                path.pop()
                counts.pop()
    # A submenu's number alone means its first entry.
    return names.get(chosen, names.get(f"{chosen}>0"))


def _chosen(reader: Reader, source: str, text: str) -> str:
    """A number, title or id, or several joined by ">" for an entry in a submenu."""
    values = [match["value"] for line in lines(text) if (match := _DEFAULT.match(line))]
    value = next((value for value in reversed(values) if "next_entry" not in value), "0")
    if "saved_entry" in value:
        grubenv = read_text(reader, source.rpartition("/")[0] + "/grubenv") or ""
        match = _SAVED.search(grubenv)
        return match["value"] if match else "0"
    return value or "0"
