"""QEMU's monitor (QMP): what is asked, answered and told over a socket, without ever blocking."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import Any

#: A longer line is nothing that QEMU would say, in bytes.
LINE_LIMIT = 4 << 20


@dataclass(slots=True)
class Qmp:
    """One connection. `events` are those that came, oldest first."""

    connection: socket.socket
    open: bool = True
    events: list[dict[str, Any]] = field(default_factory=list)
    _answers: dict[int, dict[str, Any]] = field(default_factory=dict)
    _last: int = 0
    _partial: bytes = b""

    def fileno(self) -> int:
        return self.connection.fileno()

    def send(self, command: str, arguments: dict[str, Any]) -> int:
        """Ask; returns the number that `answer` takes. Closes with QEMU."""
        self._last += 1
        message = {"execute": command, "arguments": arguments, "id": self._last}
        try:
            self.connection.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            self.open = False
        return self._last

    def answer(self, number: int) -> dict[str, Any] | None:
        """QEMU's answer, with "return" or "error" in it, when it has come."""
        return self._answers.pop(number, None)

    def receive(self) -> None:
        """Take what has come: call it when the socket is readable."""
        try:
            data = self.connection.recv(1 << 16)
        except OSError:
            data = b""
        self.open = bool(data) and len(self._partial) < LINE_LIMIT
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in filter(None, map(bytes.strip, lines)):
            message = json.loads(line)
            if "event" in message:
                self.events.append(message)
            elif "id" in message:
                self._answers[message["id"]] = message
