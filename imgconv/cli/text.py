"""Text that comes from a guest or an image, made fit to be shown."""

from __future__ import annotations


def sanitize(text: str) -> str:
    """`text` with everything but printable characters, newlines and tabs shown as an escape.

    That covers terminal escapes, bidirectional overrides (CVE-2021-42574) and the surrogates that
    stand for bytes which are no UTF-8.
    """
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


def one_line(text: str) -> str:
    """`sanitize` for a name: with a newline in it, it could pass for a line of imgconv's own."""
    return sanitize(text).replace("\n", "\\n").replace("\t", "\\t")
