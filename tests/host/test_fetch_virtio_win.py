"""Downloading a payload: whole and checked, or not at all. The server is real, on the loopback."""

from __future__ import annotations

import hashlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imgconv.windows import payload_fetch

SCRIPT = Path(__file__).parents[2] / "scripts/fetch-virtio-win"
CONTENT = bytes(range(256)) * 9000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """Serves CONTENT as /drivers.iso; `breaks_at` ends each answer after so many bytes."""

    breaks_at: int | None = None
    ranges: bool = True
    asked: list[str | None] = field(default_factory=list)
    url: str = ""


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            state.asked.append(wanted)
            if self.path != "/drivers.iso":
                self.send_error(404)
                return
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if (
                wanted and state.ranges) else 0
            if wanted and start >= len(CONTENT):
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            if start:
                end = len(CONTENT)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{end}")
            self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start:][:state.breaks_at])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as real:
        state.url = f"http://127.0.0.1:{real.server_address[1]}/drivers.iso"
        thread = threading.Thread(target=real.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        real.shutdown()
        thread.join()


def fetch(*arguments: str, to: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, "--to", to, *arguments], capture_output=True, text=True,
                          check=False, timeout=60)


def test_good(server: Server, tmp_path: Path) -> None:
    to = tmp_path / "new/folder"
    done = fetch("--url", server.url, "--sha256", SHA256.upper(), to=to)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{to / 'drivers.iso'}\n", "")
    [path] = to.iterdir()
    assert path.read_bytes() == CONTENT
    assert fetch("--url", server.url, "--sha256", SHA256, to=to).returncode == 0
    assert server.asked == [None]  # the second time there was nothing to do


def test_wrong_checksum(server: Server, tmp_path: Path) -> None:
    done = fetch("--url", server.url, "--sha256", "0" * 64, to=tmp_path)
    assert done.returncode == 1
    assert f"has the checksum {SHA256}, not {'0' * 64}" in done.stderr
    assert "hint: " in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_not_there(server: Server, tmp_path: Path) -> None:
    done = fetch("--url", f"{server.url}x", "--sha256", SHA256, to=tmp_path)
    assert done.returncode == 1
    assert "404" in done.stderr
    assert "--url" in done.stderr
    assert not (tmp_path / "drivers.isox").exists()


def test_no_server(tmp_path: Path) -> None:
    done = fetch("--url", "http://127.0.0.1:1/drivers.iso", "--sha256", SHA256, to=tmp_path)
    assert done.returncode == 1
    assert "interrupted: [Errno 111]" in done.stderr


def test_interrupted_and_resumed(server: Server, tmp_path: Path) -> None:
    server.breaks_at = 500_000
    done = fetch("--url", server.url, "--sha256", SHA256, to=tmp_path)
    assert done.returncode == 1
    assert "interrupted" in done.stderr
    assert "run this again" in done.stderr
    assert server.asked == [None, "bytes=500000-", "bytes=1000000-"]
    assert [path.name for path in tmp_path.iterdir()] == [".drivers.iso.part"]
    assert fetch("--url", server.url, "--sha256", SHA256, to=tmp_path).returncode == 0
    assert (tmp_path / "drivers.iso").read_bytes() == CONTENT
    assert server.asked[3:] == ["bytes=1500000-", "bytes=2000000-"]


def test_a_server_without_ranges(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    (tmp_path / ".drivers.iso.part").write_bytes(b"x" * 1000)
    assert fetch("--url", server.url, "--sha256", SHA256, to=tmp_path).returncode == 0
    assert (tmp_path / "drivers.iso").read_bytes() == CONTENT


@pytest.mark.parametrize(("rest", "status"), [(CONTENT, 0), (CONTENT + b"x", 1)])
def test_nothing_is_left_to_get(server: Server, rest: bytes, status: int, tmp_path: Path) -> None:
    (tmp_path / ".drivers.iso.part").write_bytes(rest)
    assert fetch("--url", server.url, "--sha256", SHA256, to=tmp_path).returncode == status
    assert [path.name for path in tmp_path.iterdir()] == ["drivers.iso"] * (not status)


def test_what_is_there_is_not_overwritten(server: Server, tmp_path: Path) -> None:
    (tmp_path / "drivers.iso").write_bytes(b"mine")
    done = fetch("--url", server.url, "--sha256", SHA256, to=tmp_path)
    assert done.returncode == 1
    assert "exists, but its checksum is" in done.stderr
    assert (tmp_path / "drivers.iso").read_bytes() == b"mine"


@pytest.mark.parametrize(("arguments", "said"), [
    (["--url", "http://127.0.0.1/a.iso"], "--url needs --sha256"),
    (["--sha256", "123"], "no SHA-256"),
    (["--url", "file:///etc/passwd", "--sha256", SHA256], "cannot be downloaded"),
    (["--url", "http://127.0.0.1/", "--sha256", SHA256], "cannot be downloaded"),
])
def test_usage(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = fetch(*arguments, to=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "hint: " in done.stderr


def test_the_pinned_version_is_one() -> None:
    assert payload_fetch.URL.endswith(f"/virtio-win-{payload_fetch.VERSION}.iso")
    assert payload_fetch._checksum(None, None) == payload_fetch.SHA256
    readme = (SCRIPT.parents[1] / "drivers/README.md").read_text()
    assert payload_fetch.VERSION in readme
