"""The page: everything that guests say is text on it, and nothing else."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from imgconv.batch import report
from imgconv.batch.ledger import Entry
from imgconv.batch.tasks import State, Task

EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>\x1b[31m\u202egnp"


def document(evil: str, picture: Path | None) -> dict[str, Any]:
    """What `virtio-ize --json` prints, with the guest's words in every place."""
    return {
        "images": [{"path": f"/d/{evil}", "format": "qcow2", "virtual_size": 1 << 30,
                    "references": []}],
        "inspection": {"os": {"product": evil}, "arch": evil, "firmware": "bios"},
        "plan": {"warnings": [evil], "capabilities": {}, "changes": [
            {"kind": "write", "path": evil, "why": evil, "diff": ["--- a", f"+{evil}", "-x"]},
            {"kind": "append", "path": evil, "why": evil, "bytes": 12, "adds": [evil]},
            {"kind": "set-registry", "hive": "/S/SYSTEM", "key": evil, "why": "w", "diff": []},
            {"kind": "patch-device", "device": "/dev/sda1", "offset": 0, "before": "00",
             "after": "ff", "why": "w"},
            {"kind": "run", "argv": ["depmod", evil], "why": "w"}]},
        "findings": [{"level": level, "subject": evil, "message": evil, "evidence": evil}
                     for level in ("proven", "warning", "failed")],
        "machine": {"bus": "virtio-blk", "machine_type": "q35", "cpus": 2, "memory": 2048,
                    "notes": [evil]},
        "boots": [{"verdict": "booted", "reason": evil, "root_device": evil, "seconds": 3.0,
                   "bus": "virtio-blk", "screenshot": str(picture) if picture else None}],
        "committed": True, "outputs": [f"/o/{evil}"], "warnings": [], "proven": True,
        "seconds": {"open": 0.5, "launch": 3.0, "commit": 1.0}}


def entry(name: str, state: State, found: dict[str, Any], evil: str = "") -> Entry:
    return Entry(name, Task(name, ("--", f"/d/{name}"), (f"/d/{name}",)), state, found, 1, 1e9,
                 1e9 + 4, 4.0, 0, evil, evil, evil, 700, evil or "worker 1")


class Page(HTMLParser):
    """The tags of a page, with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def page(*entries: Entry) -> str:
    counts = {state.value: sum(e.state is state for e in entries) for state in State}
    attempts = [(e.name, e.worker, e.began or 0, e.ended or 0, e.state.value) for e in entries]
    return report.page(entries, attempts, title="x.sqlite", begun=1e9, counts=counts)


def test_hostile_guests_stay_text(tmp_path: Path) -> None:
    picture = tmp_path / "screen.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\nrest")
    text = page(entry(EVIL, State.FAILED, document(EVIL, picture), EVIL),
                entry("good", State.DONE, document("fine", None)))
    found = Page(text)
    assert sum(tag == "script" for tag, _ in found.tags) == 1
    assert not any(key.startswith("on") for _, attributes in found.tags for key in attributes)
    images = [attributes["src"] or "" for tag, attributes in found.tags if tag == "img"]
    assert len(images) == 1
    assert images[0].startswith("data:image/png;base64,")
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "&lt;script&gt;alert(1)" in text
    # Nothing from the network: no address but those within the page.
    assert not re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?(?!data:)[^\"'\s]", text.replace(
        "&lt;img src=x", ""))


def test_pictures_that_are_none(tmp_path: Path) -> None:
    text = tmp_path / "secret.png"
    text.write_text("no picture")
    huge = tmp_path / "huge.png"
    huge.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(3 << 20))
    for path in (text, huge, tmp_path / "none.png", tmp_path, Path("/dev/zero")):
        made = page(entry("a", State.DONE, document("fine", path)))
        assert "<img" not in made
        assert "is not on this page" in made


def test_what_ended_without_a_report() -> None:
    text = page(entry("a", State.FAILED, {}), entry("b", State.QUEUED, {}))
    assert "0 of 2 guests" in text
    assert "<h3>Plan" not in text
    assert page().count("<tbody") == 0


def test_many_guests_are_shown() -> None:
    found = document("fine", None)
    text = page(*(entry(f"guest-{n}", State.DONE, found) for n in range(1500)))
    assert text.count('class="guest"') == 1500
    assert len(text) < 1500 * 8000
    assert "<h3>Changes" not in text


def test_long_diffs_are_cut() -> None:
    found = document("fine", None)
    found["plan"]["changes"][0]["diff"] = [f"+{n}" for n in range(5000)]
    text = page(entry("a", State.DONE, found))
    assert "4600 lines more" in text
    assert "+4999" not in text
