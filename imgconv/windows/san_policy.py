"""Data disks come online on the new machine.

Windows Server keeps disks that it has not seen before offline when they hang on a bus that could be
shared, as SCSI does (the policy OfflineShared); on a new controller every disk is new. The number
is that of VDS_SAN_POLICY, and stands where diskpart's `san policy=` puts it; Windows 7, 8.1 and 10
have 1 there.
"""

from __future__ import annotations

import re
from typing import Final

from imgconv.model import Inspection
from imgconv.windows import control_sets
from imgconv.windows.edits import Edits
from imgconv.windows.registry import dword
from imgconv.windows.versions import WindowsVersion

#: VDS_SP_ONLINE.
_ONLINE_ALL: Final = 1

#: "sda" of /dev/sda1: the appliance's disks.
_DISK = re.compile(r"/dev/([a-z]+)\d*")


def plan(edits: Edits, inspection: Inspection, windows: WindowsVersion) -> tuple[str, ...]:
    """Edit the SYSTEM hive for a guest with several disks; returns warnings."""
    if disks(inspection) < 2 or windows.release < (6, 0):
        return ()
    current = control_sets.current(edits.hive)
    if edits.hive.key(rf"{current}\Services\ClusSvc") is not None:
        # A member of a cluster must not take disks that another one may have.
        return ("this is a member of a failover cluster, whose disks are left as they are: bring "
                "them online in the cluster's manager",)
    for name in control_sets.names(edits.hive):
        edits.set(rf"{name}\Services\partmgr\Parameters", (dword("SanPolicy", _ONLINE_ALL),),
                  "data disks would stay offline, because their controller is new")
    return ()


def disks(inspection: Inspection) -> int:
    """How many disks the guest has."""
    return len({match[1] for filesystem in inspection.filesystems
                if (match := _DISK.fullmatch(filesystem.device)) is not None})
