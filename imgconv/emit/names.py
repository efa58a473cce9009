"""Names that other platforms accept, made from a machine's name."""

from __future__ import annotations

import re

#: RFC 1123 as Kubernetes, Proxmox VE and Incus read it.
_LABEL_LENGTH = 63


def dns_label(name: str, *, suffix: str = "") -> str:
    """`name` as a DNS label that begins with a letter, `suffix` behind it: at most 63 of a-z, 0-9
    and "-", the last no "-"."""
    label = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
    if not label[:1].isalpha():
        label = f"vm-{label}" if label else "vm"
    return label[:_LABEL_LENGTH - len(suffix)].rstrip("-") + suffix
