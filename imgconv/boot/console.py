"""What a guest's consoles, serial port and screen, have shown so far."""

from __future__ import annotations

import codecs
import math
import re
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from imgconv.boot import signs
from imgconv.boot.signs import clean

#: The serial text kept, in characters: the last ones, where the verdict is.
SERIAL_LIMIT = 1 << 20
#: A longer line is cut.
LINE_LIMIT = 1024
#: More swap devices are not listed.
DEVICE_LIMIT = 32
#: So many different lines of the screen are remembered as seen.
SEEN_LIMIT = 20_000


@dataclass(slots=True)
class Watch:
    """Feed it bytes of the serial port as they come, and lines of the screen.

    `up`, `down` and `trouble` hold the first line for each meaning. `enough` is the time
    (time.monotonic) from which on nothing more is expected.
    """

    on_line: Callable[[str], None] | None = None
    up: dict[str, str] = field(default_factory=dict)
    down: dict[str, str] = field(default_factory=dict)
    trouble: dict[str, str] = field(default_factory=dict)
    root: str = ""
    swaps: list[str] = field(default_factory=list)
    drivers: list[str] = field(default_factory=list)
    screen: tuple[str, ...] = ()
    enough: float = math.inf
    _lines: deque[str] = field(default_factory=deque)
    _size: int = 0
    _partial: str = ""
    _seen: set[str] = field(default_factory=set)
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    @property
    def serial(self) -> str:
        """The serial port's text, at most SERIAL_LIMIT characters from its end."""
        return "".join(f"{line}\n" for line in self._lines)

    def feed(self, data: bytes) -> None:
        """Take what came from the serial port, in pieces of any size."""
        *lines, self._partial = re.split(r"[\r\n]+", self._partial + self._decoder.decode(data))
        for line in lines:
            self._finish(line)
        while len(self._partial) > LINE_LIMIT:
            line, self._partial = self._partial[:LINE_LIMIT], self._partial[LINE_LIMIT:]
            self._finish(line)
        # A prompt has no end of line.
        self._decide(clean(self._partial))

    def see(self, lines: Iterable[str]) -> None:
        """Take what the screen shows; the same lines again say nothing new."""
        self.screen = tuple(line for raw in lines if (line := clean(raw[:LINE_LIMIT]).rstrip()))
        for line in self.screen:
            if line not in self._seen and len(self._seen) < SEEN_LIMIT:
                self._seen.add(line)
                # Reading a screen takes the blank behind a prompt away.
                self._understand(line + " ", " (on the screen)")

    def close(self) -> None:
        """Take the last line, that had no end, as it is."""
        if self._partial:
            self._finish(self._partial)
            self._partial = ""

    def settle(self, seconds: float) -> None:
        """Expect nothing more after so many seconds."""
        self.enough = min(self.enough, time.monotonic() + seconds)

    def _finish(self, raw: str) -> None:
        """Take in a whole line of the serial port."""
        line = clean(raw[:LINE_LIMIT])
        if not line.strip():
            return
        self._keep(line.rstrip())
        if self.on_line is not None:
            self.on_line(line.rstrip())
        self._understand(line, "")

    def _keep(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size > SERIAL_LIMIT:
            self._size -= len(self._lines.popleft()) + 1

    def _understand(self, line: str, where: str) -> None:
        self._decide(line)
        for seen, known in ((self.up, signs.UP), (self.down, signs.DOWN),
                            (self.trouble, signs.TROUBLE)):
            signs.note(seen, known, line, where)
        self._devices(line)

    def _decide(self, line: str) -> None:
        """Begin to settle at a sign that decides; the line may still grow."""
        for sign in (*signs.UP, *signs.DOWN):
            if sign.pattern.search(line):
                self.settle(sign.settle)

    def _devices(self, line: str) -> None:
        for pattern in signs.MOUNTED:
            if not self.root and (match := pattern.search(line)):
                self.root = f"/dev/{match[1]}"
        swap = signs.SWAP.search(line)
        if swap and swap[1] not in self.swaps and len(self.swaps) < DEVICE_LIMIT:
            self.swaps.append(swap[1])
        for name, pattern in signs.DRIVERS:
            if name not in self.drivers and pattern.search(line):
                self.drivers.append(name)
