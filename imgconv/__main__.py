"""`python -m imgconv`."""

from __future__ import annotations

from imgconv.cli import main

main()
