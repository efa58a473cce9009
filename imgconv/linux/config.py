"""What a check of a configuration file says."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Verdict(Enum):
    """`LATER` is what only breaks when the guest changes something itself: its next update, say."""

    RIGHT = "right"
    WRONG = "wrong"
    LATER = "later"
    DOUBTFUL = "doubtful"


@dataclass(frozen=True, slots=True)
class Check:
    """One fact of the file `path`."""

    path: str
    verdict: Verdict
    message: str
    evidence: str = ""
