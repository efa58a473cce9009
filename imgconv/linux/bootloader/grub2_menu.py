"""Which entry of a grub.cfg GRUB 2 starts by itself: the rules of "default" in GRUB's manual."""

from __future__ import annotations

import re

from imgconv.guest.protocols import Reader, read_text
from imgconv.linux.edit import lines

# Possessive, because a line may be long and of nothing but blanks or quotes.
_DEFAULT = re.compile(r"""\s*+set\s++default=["']?+(?P<value>[^"']*+)["']?+\s*+$""")
_ITEM = re.compile(r"""\s*+(?P<kind>menuentry|submenu)\s++"""
                   r"""(?:'(?P<single>[^']*+)'|"(?P<double>[^"]*+)")(?P<rest>.*)""")
_ID = re.compile(r"""(?:\$\{?menuentry_id_option\}?|--id)[\s=]+['"]?(?P<id>[^\s'"]+)""")
_SAVED = re.compile(r"^saved_entry=(?P<value>.+)$", re.MULTILINE)

#: No menu has a longer line, or submenus that are nested deeper.
_LONGEST = 4096
_DEEPEST = 50


def default_line(reader: Reader, source: str, text: str) -> int | None:
    """The number of the line (from 0) with the `menuentry` that the configuration `text` at
    `source` starts by default; None when that cannot be told, and GRUB takes the first."""
    chosen = chosen_name(reader, source, text)
    names: dict[str, int] = {}
    path: list[tuple[str, ...]] = []  # the names of the menus that are open
    counts = [0]
    depths: list[int] = []
    depth = 0
    for number, line in enumerate(lines(text)):
        opens = line.rstrip().endswith("{")
        if opens and len(line) <= _LONGEST and (match := _ITEM.match(line)):
            ident = _ID.search(match["rest"])
            title = match["single"] or match["double"] or ""
            own = (str(counts[-1]), title, ident["id"] if ident else title)
            counts[-1] += 1
            if match["kind"] == "menuentry":
                for index, name in enumerate(own):
                    above = [menu[index] for menu in path]
                    names.setdefault(">".join([*above, name]), number)
            else:
                path.append(own)
                counts.append(0)
                depths.append(depth)
                if len(path) > _DEEPEST:
                    return None
            depth += 1
        elif opens:
            depth += 1
        elif line.strip() == "}":
            depth -= 1
            if depths and depth == depths[-1]:
                depths.pop()
                path.pop()
                counts.pop()
    # A submenu's number alone means its first entry.
    return names.get(chosen, names.get(f"{chosen}>0"))


def chosen_name(reader: Reader, source: str, text: str) -> str:
    """What names the default in the configuration `text` at `source`: a number, title or id, or
    several joined by ">" for an entry in a submenu."""
    values = [match["value"].strip() for line in lines(text) if (match := _DEFAULT.match(line))]
    value = next((value for value in reversed(values) if "next_entry" not in value), "0")
    if "saved_entry" in value:
        grubenv = read_text(reader, source.rpartition("/")[0] + "/grubenv") or ""
        match = _SAVED.search(grubenv)
        return match["value"] if match else "0"
    return value or "0"
