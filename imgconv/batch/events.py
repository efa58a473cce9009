"""What happens in a batch, as it happens; `--json-lines` writes one of these a line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from imgconv.batch.tasks import Outcome


@dataclass(frozen=True, slots=True)
class BatchBegun:
    """`guests` are to be done, `before` are done already (--resume); `jobs` is how many at once, 0
    where a cluster decides."""

    guests: int
    before: int
    jobs: int
    ledger: str
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class GuestBegun:
    """The first attempt is 1."""

    guest: str
    worker: str
    attempt: int
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class GuestPhase:
    """`fraction` (0..1) of `phase` (of pipeline.PHASES) is done."""

    guest: str
    worker: str
    phase: str
    fraction: float
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class GuestEnded:
    """An attempt is over; `again` says that there will be another. Times are in seconds, `peak` is
    in MiB."""

    guest: str
    worker: str
    state: str
    message: str
    hint: str
    seconds: float
    peak: int
    again: bool
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True)
class BatchEnded:
    """`counts` has the number of guests in each state."""

    counts: dict[str, int]
    seconds: float
    interrupted: bool
    time: float = field(default_factory=time.time)


Event = BatchBegun | GuestBegun | GuestPhase | GuestEnded | BatchEnded
Listener = Callable[[Event], None]

_NAMES = {BatchBegun: "batch-begun", GuestBegun: "guest-begun", GuestPhase: "guest-phase",
          GuestEnded: "guest-ended", BatchEnded: "batch-ended"}


def ended(outcome: Outcome, *, again: bool) -> GuestEnded:
    return GuestEnded(outcome.name, outcome.where, outcome.state, outcome.message, outcome.hint,
                      outcome.seconds, outcome.peak, again)


def as_line(event: Event) -> str:
    """One line of JSON, in ASCII, without its end."""
    return json.dumps({"event": _NAMES[type(event)], **asdict(event)})
