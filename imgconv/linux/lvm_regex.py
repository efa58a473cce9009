"""The regular expressions of LVM's filters: . [] [^] * + ? | () ^ $ and \\ (lvm2's libdm/regex).

They are the guest's, so that they are run in time that is linear in the text, which Python's own
are not: as a set of states that moves over the text.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imgconv.errors import HostileInput

#: A pattern is a name with some dots and stars.
_LONGEST = 512
_DEEPEST = 16


@dataclass(frozen=True, slots=True)
class _Step:
    """`kind` is char (take one of `chars`, or one that is not, when `negated`), begin, end or go.
    `jumps` are the next steps, relative to this one."""

    kind: str
    jumps: tuple[int, ...] = (1,)
    chars: frozenset[str] = frozenset()
    negated: bool = False


_Code = list[_Step]


@dataclass(frozen=True, slots=True)
class Pattern:
    steps: tuple[_Step, ...]

    def search(self, text: str) -> bool:
        """Whether it matches anywhere in `text`."""
        states: set[int] = set()
        for at in range(len(text) + 1):
            states = self._reached([*states, 0], at, len(text))
            if len(self.steps) in states:
                return True
            if at < len(text):
                states = {state + 1 for state in states if state < len(self.steps)
                          and self._takes(self.steps[state], text[at])}
        return False

    @staticmethod
    def _takes(step: _Step, char: str) -> bool:
        return step.kind == "char" and (char in step.chars) is not step.negated

    def _reached(self, states: Iterable[int], at: int, end: int) -> set[int]:
        """All states that these lead to without taking a character."""
        found: set[int] = set()
        todo = list(states)
        while todo:
            state = todo.pop()
            if state in found:
                continue
            found.add(state)
            if state < len(self.steps):
                step = self.steps[state]
                if step.kind == "go" or (step.kind == "begin" and at == 0) or (
                        step.kind == "end" and at == end):
                    todo += [state + jump for jump in step.jumps]
        return found


def parse(text: str) -> Pattern:
    """Raises HostileInput when it is no pattern, or more of one than anybody writes."""
    if len(text) > _LONGEST:
        raise HostileInput("a filter of LVM has too long a pattern")
    parser = _Parser(text)
    code = parser.alternatives(0)
    if parser.at < len(text):
        raise HostileInput("a pattern in a filter of LVM has a parenthesis too many")
    return Pattern(tuple(code))


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def _next(self) -> str:
        return self.text[self.at] if self.at < len(self.text) else ""

    def alternatives(self, depth: int) -> _Code:
        if depth > _DEEPEST:
            raise HostileInput("a pattern in a filter of LVM is nested too deep")
        branches = [self._sequence(depth)]
        while self._next() == "|":
            self.at += 1
            branches.append(self._sequence(depth))
        code = branches.pop()
        for branch in reversed(branches):
            code = [_Step("go", (1, len(branch) + 2)), *branch,
                    _Step("go", (len(code) + 1,)), *code]
        return code

    def _sequence(self, depth: int) -> _Code:
        code: _Code = []
        while self._next() not in ("", "|", ")"):
            atom = self._atom(depth)
            while (sign := self._next()) and sign in "*+?":
                self.at += 1
                size = len(atom)
                if sign == "+":
                    atom = [*atom, _Step("go", (-size, 1))]
                elif sign == "?":
                    atom = [_Step("go", (1, size + 1)), *atom]
                else:
                    atom = [_Step("go", (1, size + 2)), *atom, _Step("go", (-size - 1,))]
            code += atom
        return code

    def _atom(self, depth: int) -> _Code:
        char = self._next()
        self.at += 1
        if char == "(":
            code = self.alternatives(depth + 1)
            if self._next() != ")":
                raise HostileInput("a pattern in a filter of LVM lacks a parenthesis")
            self.at += 1
            return code
        if char == "[":
            return [self._class()]
        if char == ".":
            return [_Step("char", negated=True)]
        if char in "^$":
            return [_Step("begin" if char == "^" else "end")]
        if char == "\\":
            char = self._next()
            self.at += 1
        return [_Step("char", chars=frozenset(char or "\\"))]

    def _class(self) -> _Step:
        negated = self._next() == "^"
        self.at += negated
        end = self.text.find("]", self.at + 1)
        if end < 0:
            raise HostileInput("a pattern in a filter of LVM lacks a bracket")
        inner, self.at = self.text[self.at:end], end + 1
        chars: set[str] = set()
        at = 0
        while at < len(inner):
            if inner[at + 1:at + 2] == "-" and at + 2 < len(inner):
                first, last = min(ord(inner[at]), 255), min(ord(inner[at + 2]), 255)
                chars |= {chr(code) for code in range(first, last + 1)}
                at += 3
            else:
                chars.add(inner[at])
                at += 1
        return _Step("char", chars=frozenset(chars), negated=negated)
