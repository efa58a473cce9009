"""Secrets that must never be shown: keys of encrypted disks, in logs, messages or commands.

Whoever gets hold of a secret registers it before it is used for anything. libguestfs itself shows
its `Key` parameters as "***" in a trace.
"""

from __future__ import annotations

import json
import shlex

SHOWN = "***"

_secrets: set[str] = set()


def register(secret: str) -> None:
    """From now on `redact` hides `secret`, however it may be quoted. "" is none."""
    quoted = (secret, shlex.quote(secret).strip("'"), repr(secret)[1:-1], json.dumps(secret)[1:-1],
              secret.encode("unicode_escape").decode())
    _secrets.update(filter(None, quoted))


def forget() -> None:
    """Forget every secret (for tests)."""
    _secrets.clear()


def redact(text: str) -> str:
    """`text` with every registered secret in it replaced by ***."""
    for secret in sorted(_secrets, key=len, reverse=True):  # one may be part of another
        text = text.replace(secret, SHOWN)
    return text
