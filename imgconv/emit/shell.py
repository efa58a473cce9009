"""What the outputs that are shell scripts have in common: comments, quoting, arguments."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from imgconv.errors import UsageError


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a script, all of which can be left out.

    `default` is shell code, `allowed` the inside of a shell pattern's brackets: what the argument
    may be made of.
    """

    name: str
    default: str
    allowed: str
    help: str


def comment(text: str) -> str:
    """One line of comment, whatever a guest managed to put into `text`."""
    return ("# " + "".join(c if c.isprintable() else "?" for c in text)).rstrip()


def header(about: Sequence[str], arguments: Sequence[Argument]) -> str:
    """The beginning of a script that takes `arguments` and `--help`.

    `about` is what the help says, a line each. Each argument becomes a variable of its name in
    lower case.
    """
    names = " ".join(argument.name for argument in arguments)
    usage = f"Arguments, which can be left out: {names}"
    help_lines = [*about, "", usage]
    help_lines += [f"  {argument.name:<8}  {argument.help}" for argument in arguments]
    lines = [
        "#!/bin/sh",
        *(comment(line) for line in help_lines),
        "set -eu",
        "",
        # The comment above is the help.
        "case ${1:-} in",
        "    -h | --help)",
        "        sed -n '2,/^set/{/^#/s/^# \\{0,1\\}//p;}' \"$0\"",
        "        exit 0",
        "        ;;",
        "esac",
        f'[ $# -le {len(arguments)} ] || {{ echo "{usage}" >&2; exit 2; }}',
    ]
    for number, argument in enumerate(arguments, 1):
        variable = argument.name.lower()
        lines += [
            f"{variable}=${{{number}:-{argument.default}}}",
            f"case ${variable} in",
            f"    '' | -* | *[!{argument.allowed}]*)",
            f'        echo "this is no {argument.name}: ${variable}" >&2',
            "        exit 2",
            "        ;;",
            "esac",
        ]
    return "\n".join(lines)


def command(words: Sequence[str]) -> str:
    """Words that are shell code already, an option and its value a line."""
    lines: list[str] = []
    for word in words:
        if lines and not word.startswith("-"):
            lines[-1] += " " + word
        else:
            lines.append(word)
    return " \\\n    ".join(lines)


def inside(variable: str, rest: str) -> str:
    """A word that begins with the value of a shell variable."""
    return f'"${variable}"{shlex.quote(rest)}'


def utf8(text: str, reader: str) -> str:
    """`text`; raises UsageError when it cannot be written to a UTF-8 file for `reader`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UsageError(f"{reader} cannot be told of {text!r}: the name is not valid UTF-8",
                         hint="rename the file") from None
    return text


def one_line(text: str, reader: str) -> str:
    """`text`; raises UsageError when it holds what would break a line or a terminal."""
    if not text.isprintable():
        raise UsageError(f"{reader} cannot be told of {text!r}: the name has control characters",
                         hint="rename the file")
    return text
