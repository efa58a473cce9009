"""Fuzz one target: python -m tests.fuzz.run TARGET SECONDS CORPUS... (see scripts/fuzz).

The first CORPUS folder gets the new inputs that reach new code; a fault ends the run and is left in
the folder that -artifact_prefix names.
"""

from __future__ import annotations

import resource
import sys

import atheris

with atheris.instrument_imports(include=["imgconv"]):
    from tests.fuzz import targets

#: Address space in bytes, and seconds for one input.
MEMORY = 3 << 30
TIMEOUT = 10


def main(name: str, seconds: str, *folders: str) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    options = [f"-max_total_time={seconds}", f"-timeout={TIMEOUT}", "-max_len=65536",
               "-print_final_stats=1", "-rss_limit_mb=0", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *options, *folders], lambda data: targets.run(name, data))
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
