"""Where a driver payload is looked for when none is given."""

from __future__ import annotations

import os
import re
from pathlib import Path

#: Without this, a folder that somebody has put a whole disk in would be searched for minutes.
_MOST = 20_000


def user_folder() -> Path:
    """Where `imgconv drivers import` puts payloads."""
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")  # noqa: PTH111
    return Path(data, "imgconv/drivers")


def find() -> Path | None:
    """The virtio-win ISO or folder that is used when `--drivers` is not given, or None.

    $VIRTIO_WIN, when it is set, is right or an error. Otherwise it is looked for in the checkout's
    drivers/, the user's own folder and /usr/share/virtio-win, where the distributions' package of
    that name puts the ISO or the drivers.
    """
    named = os.environ.get("VIRTIO_WIN")
    if named:
        return payload_in(Path(named)) or Path(named)
    places = (Path(__file__).parents[2] / "drivers", user_folder(), Path("/usr/share/virtio-win"))
    return next(filter(None, map(payload_in, places)), None)


def payload_in(place: Path) -> Path | None:
    """What is used of a place: itself, if it is an ISO or has INF files somewhere below; else the
    newest ISO in it. None when there is neither."""
    if place.is_file():
        return place
    if not place.is_dir():
        return None
    count = 0
    for _, folders, files in os.walk(place):
        folders[:] = [folder for folder in folders if not folder.startswith(".")]
        if any(file.lower().endswith(".inf") for file in files):
            return place
        count += len(files) + 1
        if count > _MOST:
            break
    isos = [path for path in place.iterdir()
            if path.suffix.lower() == ".iso" and not path.name.startswith(".") and path.is_file()]
    return max(isos, key=_newest, default=None)


def _newest(path: Path) -> tuple[bool, list[int], str]:
    """virtio-win.iso, a link to the newest, is before those with a version in their name."""
    return (path.name.lower() == "virtio-win.iso",
            [int(number) for number in re.findall(r"\d{1,9}", path.stem)], path.name)
