"""Boots a machine with its own emitted command, on throw-away overlays, and judges what it sees.

`runner.boot` is all there is to call. What it watches, each in a module of its own:

    console.py    text: of the serial port and of the screen     signs.py    what lines mean
    screen.py     the screen: text memory, pixels, PNG           glyphs.py   text in pixels
    activity.py   what the guest asks of its disks               network.py  what it sends
    qmp.py        QEMU's monitor: resets, panics                 verdict.py  what it all proves

The evidence comes from the guest, so it is hostile: it is stripped of everything but printable
characters, cut to limits, and believed only about the guest itself.
"""

from imgconv.boot.runner import KVM_TIMEOUT, TCG_TIMEOUT, boot
from imgconv.model import BootEvidence, Verdict

__all__ = ["KVM_TIMEOUT", "TCG_TIMEOUT", "BootEvidence", "Verdict", "boot"]
