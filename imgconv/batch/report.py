"""The page about a batch: one file with everything in it, and nothing from the network.

What guests say is on it, so Jinja2 escapes all of it, control characters are shown as escapes, and
the page's own policy (CSP) lets no script run but its one, which it names by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from imgconv import __version__
from imgconv.batch.ledger import Entry, Ledger
from imgconv.batch.tasks import State
from imgconv.cli.text import sanitize
from imgconv.errors import ImgconvError
from imgconv.redact import redact

_PNG = b"\x89PNG\r\n\x1a\n"
_MAX_PICTURE = 2 << 20  # bytes
_MAX_PICTURES = 64 << 20  # bytes of all of them: a browser shall open the page
_MAX_LINES = 400  # of one diff
_MANY = 1000  # with more guests, what was changed is left out for those that are done
_LANES = 64  # workers on the chart

PHASES = ("open", "launch", "inspect", "plan", "apply", "verify", "boot", "commit", "emit")


@dataclass(frozen=True, slots=True)
class Lane:
    """What one worker did: (left and width in percent of the time, state, what a pointer sees)."""

    worker: str
    bars: tuple[tuple[float, float, str, str], ...]


def write(ledger: Ledger, path: Path) -> None:
    """Write the page; it appears under its name when it is complete. Raises ImgconvError."""
    text = page(list(ledger.entries()), ledger.attempts(), title=ledger.path.name,
                begun=ledger.begun, counts=ledger.counts())
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=path.absolute().parent,
                                         prefix=f".{path.name}.", delete=False) as file:
            try:
                file.write(text)
                Path(file.name).chmod(0o666 & ~_umask())
                Path(file.name).replace(path)
            except BaseException:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ImgconvError(f"the report {path} cannot be written: {error.strerror}",
                           hint="imgconv batch status --report PATH writes it elsewhere") from error


def page(entries: Sequence[Entry], attempts: Sequence[tuple[str, str, float, float, str]], *,
         title: str, begun: float, counts: Mapping[str, int]) -> str:
    """The page as text. `attempts` are those of `Ledger.attempts`."""
    import jinja2

    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    script = (folder / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    pictures = _Pictures()
    last = max((a[3] for a in attempts), default=begun)
    done = counts[State.DONE]
    survey = bool(entries) and all("--dry-run" in entry.task.arguments for entry in entries)
    return environment.get_template("report.html.j2").render(
        title=title, version=__version__, script=script, digest=digest,
        style=(folder / "report.css").read_text(encoding="utf-8"),
        written=_clock(time.time()), begun=_clock(begun), counts=counts, total=len(entries),
        done=done, verb="can be converted" if survey else "converted", span=_duration(last - begun),
        rate=f"{done / (last - begun) * 3600:.0f}" if done and last > begun else "",
        lanes=_lanes(attempts), length=_duration(_reach(attempts)[1]),
        guests=[_guest(entry, pictures, brief=len(entries) > _MANY) for entry in entries],
        phases=PHASES)


def _umask() -> int:
    """The process' own; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _shown(value: object) -> object:
    """Every value on its way into the page: no control characters, no secrets."""
    if isinstance(value, str) and type(value) is str:
        return sanitize(redact(value))
    return value


# --- one guest ------------------------------------------------------------------------------------


def _guest(entry: Entry, pictures: _Pictures, *, brief: bool) -> dict[str, Any]:
    """What the page says of a guest; a report that is not as it should be is shown as far as it
    is."""
    report = entry.report
    inspection = report.get("inspection") or {}
    plan = report.get("plan") or {}
    machine = report.get("machine") or {}
    changes = [] if brief and entry.state is State.DONE else plan.get("changes", ())
    return {
        "entry": entry,
        "system": (inspection.get("os") or {}).get("product", ""),
        "arch": inspection.get("arch", ""), "firmware": inspection.get("firmware", ""),
        "bus": machine.get("bus", ""), "machine": machine,
        "disks": [(image["path"], image["format"], f"{image['virtual_size'] / 2**30:.1f} GiB")
                  for image in report.get("images", ())],
        "outputs": report.get("outputs", ()),
        "warnings": [*plan.get("warnings", ()), *report.get("warnings", ()),
                     *machine.get("notes", ())],
        "changes": [_change(change) for change in changes], "left_out": brief and not changes,
        "findings": report.get("findings", ()),
        "boots": [{**boot, "picture": pictures.take(boot.get("screenshot"))}
                  for boot in report.get("boots", ())],
        "phases": _phases(report.get("seconds") or {}),
        "took": _duration(entry.seconds) if entry.seconds is not None else "",
        "when": _clock(entry.began) if entry.began else "",
        "committed": report.get("committed", False),
    }


def _change(change: Mapping[str, Any]) -> dict[str, Any]:
    """A change of `cli.show.as_document`, as a headline and lines with their kind."""
    kind = change["kind"]
    target = (change.get("path") or change.get("device") or " ".join(change.get("argv", ()))
              or f"{change['hive'].rpartition('/')[2]}\\{change['key']}")
    lines = list(change.get("diff", ()))
    if kind == "append":
        lines = [f"+ {name}" for name in change["adds"]]
        kind = f"append {change['bytes']:,} bytes to"
    elif kind == "patch-device":
        lines = [f"-{change['before']}", f"+{change['after']}"]
    if kind == "write":
        kind = "edit" if lines and not lines[0].startswith("--- /dev/null") else "write"
    return {"head": f"{kind.replace('-', ' ')} {target}", "why": change["why"],
            "more": max(0, len(lines) - _MAX_LINES),
            "lines": [(_LINES.get(line[:1], ""), line) for line in lines[:_MAX_LINES]]}


_LINES = {"+": "plus", "-": "minus", "@": "hunk", "[": "hunk"}


def _phases(seconds: Mapping[str, float]) -> list[tuple[str, float, str]]:
    """(phase, percent of the whole, time) of those that took any."""
    whole = sum(seconds.values())
    return [(name, 100 * seconds[name] / whole, f"{seconds[name]:.1f} s")
            for name in PHASES if seconds.get(name, 0) > 0 and whole > 0]


class _Pictures:
    """Pictures of screens, as data URLs, as long as there is room."""

    def __init__(self) -> None:
        self._left = _MAX_PICTURES

    def take(self, path: object) -> str:
        """"" where there is none, it is none, or it is too large."""
        if not isinstance(path, str):
            return ""
        with suppress(OSError, ValueError):
            if Path(path).is_file() and Path(path).stat().st_size <= min(_MAX_PICTURE, self._left):
                content = Path(path).read_bytes()
                if content.startswith(_PNG):
                    self._left -= len(content)
                    return "data:image/png;base64," + base64.b64encode(content).decode()
        return ""


# --- the chart ------------------------------------------------------------------------------------


def _reach(attempts: Sequence[tuple[str, str, float, float, str]]) -> tuple[float, float]:
    """When the first attempt began, and the seconds until the last one ended."""
    if not attempts:
        return 0.0, 0.0
    first = min(began for _, _, began, _, _ in attempts)
    return first, max(ended for _, _, _, ended, _ in attempts) - first


def _lanes(attempts: Sequence[tuple[str, str, float, float, str]]) -> list[Lane]:
    first, length = _reach(attempts)
    workers = sorted(dict.fromkeys(worker for _, worker, *_ in attempts))[:_LANES]
    return [Lane(worker, tuple(_bars(attempts, worker, first, length or 1.0)))
            for worker in workers]


def _bars(attempts: Sequence[tuple[str, str, float, float, str]], worker: str, first: float,
          length: float) -> Iterator[tuple[float, float, str, str]]:
    for guest, by, began, ended, state in attempts:
        if by == worker:
            yield (round(100 * (began - first) / length, 3),
                   round(max(0.2, 100 * (ended - began) / length), 3), state,
                   f"{guest}: {state}, {_duration(ended - began)}")


def _clock(moment: float) -> str:
    return datetime.fromtimestamp(moment).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes
            else f"{seconds:.1f} s")
