"""Where the builder's host programs are."""

from __future__ import annotations

import os


def with_sbin() -> dict[str, str]:
    """Return the environment that finds sfdisk, mkswap and mke2fs.

    They live in /usr/sbin, which Debian leaves out of an ordinary user's PATH.
    """
    return {"PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"}
