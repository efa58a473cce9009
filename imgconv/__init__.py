"""imgconv: make legacy virtual machine disks boot from virtio, offline, undamaged and proven.

For other programs, in the names below (docs/batch.md has an example):

    report = convert(Job(disks=(Path("disk.qcow2"),)))

What is not named here may change at any time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from imgconv.errors import CannotConvert, ImgconvError, NotProven, UsageError
    from imgconv.model import Bus, Finding, InitramfsMode, Level, Names, Options, Report
    from imgconv.pipeline import Job
    from imgconv.pipeline import virtio_ize as convert

__all__ = [
    "Bus", "CannotConvert", "Finding", "ImgconvError", "InitramfsMode", "Job", "Level", "Names",
    "NotProven", "Options", "Report", "UsageError", "__version__", "convert",
]

_HOMES = {"Job": "pipeline", "convert": "pipeline",
          **dict.fromkeys(("CannotConvert", "ImgconvError", "NotProven", "UsageError"), "errors")}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Names are imported when they are used: `imgconv --version` needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    module = import_module(f"{__name__}.{_HOMES.get(name, 'model')}")
    return getattr(module, "virtio_ize" if name == "convert" else name)
