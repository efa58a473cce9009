"""`scripts/fetch-virtio-win`: downloads a virtio-win ISO, whole and checked, or not at all.

Only the standard library is used, so it runs before imgconv is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import http.client
import os
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from imgconv.errors import ImgconvError, UsageError

VERSION: Final = "0.1.271"
URL: Final = ("https://fedorapeople.org/groups/virt/virtio-win/direct-downloads/archive-virtio/"
              f"virtio-win-{VERSION}-1/virtio-win-{VERSION}.iso")
#: Its publisher gives no checksum: this is the one that many independent packagings of this version
#: have pinned.
SHA256: Final = "bbe6166ad86a490caefad438fef8aa494926cb0a1b37fa1212925cfd81656429"

_TIMEOUT = 60.0  # seconds without a byte
_TRIES = 3
_LARGEST = 8 << 30
_CHUNK = 1 << 20


def main(arguments: Sequence[str]) -> int:
    """Returns the status to exit with."""
    parser = argparse.ArgumentParser(
        prog="scripts/fetch-virtio-win",
        description=f"Download the drivers for Windows guests: virtio-win {VERSION}, or the ISO at "
                    "--url. An interrupted download goes on where it stopped; the file gets its "
                    "name only after its checksum was right.")
    parser.add_argument("--url", help="another ISO; needs --sha256")
    parser.add_argument("--sha256", metavar="HEX", help="what its SHA-256 checksum must be")
    parser.add_argument("--to", metavar="FOLDER", type=Path,
                        default=Path(__file__).parents[2] / "drivers",
                        help="where to put it (this checkout's drivers/, where imgconv looks)")
    options = parser.parse_args(arguments)
    try:
        path = fetch(options.url or URL, _checksum(options.url, options.sha256), options.to)
    except ImgconvError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"hint: {error.hint}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; run it again to go on", file=sys.stderr)
        return 130
    print(path)
    return 0


def _checksum(url: str | None, sha256: str | None) -> str:
    if sha256 is None and url is None:
        return SHA256
    if sha256 is None:
        raise UsageError("--url needs --sha256: nothing is used that was not checked",
                         hint="give the checksum that you know from elsewhere")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise UsageError(f"{sha256} is no SHA-256 checksum", hint="it has 64 hexadecimal digits")
    return sha256.lower()


def fetch(url: str, sha256: str, folder: Path) -> Path:
    """The path of the file at `url`, which has the checksum `sha256`, in `folder`.

    Raises ImgconvError; what was downloaded until then is kept as .NAME.part, unless it is wrong.
    """
    parts = urllib.parse.urlsplit(url)
    name = urllib.parse.unquote(parts.path.rpartition("/")[2])
    if parts.scheme not in ("http", "https") or not re.fullmatch(r"\w[\w.+-]*", name):
        raise UsageError(f"{url} cannot be downloaded", hint="give a http(s) URL of a file")
    target = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists():
            return _already(target, sha256)
        return _download(url, sha256, target)
    except OSError as error:
        raise ImgconvError(f"{error.filename or folder}: {error.strerror}",
                           hint="make room there, or name another folder: --to FOLDER") from None


def _already(target: Path, sha256: str) -> Path:
    with target.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ImgconvError(f"{target} exists, but its checksum is {found}, not {sha256}",
                           hint="remove it, then run this again")
    return target


def _download(url: str, sha256: str, target: Path) -> Path:
    partial = target.with_name(f".{target.name}.part")
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(descriptor, "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImgconvError(f"{target.name} is being downloaded already",
                               hint="wait until that ends") from None
        for tries_left in reversed(range(_TRIES)):
            why = _receive(url, file.fileno())
            if not why:
                break
            if not tries_left:
                raise ImgconvError(f"{url}: the download was interrupted: {why}",
                                   hint="run this again: it goes on where it stopped")
        file.seek(0)
        found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            partial.unlink()
            raise ImgconvError(f"{url} has the checksum {found}, not {sha256}; it was deleted",
                               hint="run this again; if it stays so, that is another file than the "
                                    "one that was meant: do not use it")
        os.fsync(file.fileno())
        partial.replace(target)
    return target


def _receive(url: str, descriptor: int) -> str:
    """Get the rest of the file; returns what interrupted that, "" when it is complete."""
    have = os.fstat(descriptor).st_size
    request = urllib.request.Request(url, headers={"User-Agent": "imgconv"})  # noqa: S310 - http(s)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310
            if not (response.status == 206 and response.headers.get(
                    "Content-Range", "").startswith(f"bytes {have}-")):
                have = 0  # this server begins anew
            os.ftruncate(descriptor, have)
            length = response.headers.get("Content-Length", "")
            whole = have + int(length) if length.isascii() and length.isdigit() else None
            return _copy(response, descriptor, have, whole)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing is left; the checksum tells whether that is right
            return ""
        raise ImgconvError(f"{url}: {error.code} {error.reason}",
                           hint="look for another version, and give --url and --sha256"
                           if error.code == 404 else "try again later") from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError,
            ConnectionError) as error:
        return str(getattr(error, "reason", "") or error or type(error).__name__)


def _copy(response: http.client.HTTPResponse, descriptor: int, have: int, whole: int | None) -> str:
    while True:
        data = response.read(_CHUNK)
        if not data:
            break
        os.pwrite(descriptor, data, have)
        have += len(data)
        if have > _LARGEST:
            raise ImgconvError("the download is larger than any ISO of drivers",
                               hint="check the URL")
        if whole and sys.stderr.isatty():
            print(f"\r{have >> 20} of {whole >> 20} MiB ", end="\n" * (have == whole), flush=True,
                  file=sys.stderr)
    return "" if whole is None or have == whole else f"{have} of {whole} bytes were sent"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
