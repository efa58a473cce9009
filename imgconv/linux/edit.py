"""Turning "this text becomes that text" into a change."""

from __future__ import annotations

import io
from collections.abc import Callable

from imgconv.guest.protocols import Reader, read_text, to_bytes
from imgconv.model import WriteFile


def lines(text: str) -> list[str]:
    """The lines of `text`, each with its end.

    Only "\\n" ends a line, as for the guest's programs; str.splitlines knows a dozen more ends.
    """
    return list(io.StringIO(text, newline="\n"))


def edit(reader: Reader, path: str, transform: Callable[[str], str],
         why: str) -> tuple[WriteFile, ...]:
    """The change that applies `transform` to the text of `path`; () when it changes nothing.

    A missing file is left missing. Bytes that are no UTF-8 survive.
    """
    before = read_text(reader, path)
    if before is None:
        return ()
    after = transform(before)
    if after == before:
        return ()
    return (WriteFile(path, to_bytes(after), to_bytes(before), why),)
