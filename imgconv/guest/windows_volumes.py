"""The NTFS volumes of a Windows guest before they are mounted for writing."""

from __future__ import annotations

from functools import partial

from imgconv.errors import CannotConvert
from imgconv.guest.appliance import Appliance
from imgconv.model import Inspection, Mount
from imgconv.windows import ntfs


def prepare(appliance: Appliance, inspection: Inspection, *, discard_hibernation: bool) -> bool:
    """Refuse volumes that must not be written, while nothing is mounted yet.

    ntfs-3g would mount a hibernated volume read-only without an error, and empty the journal of one
    that was not shut down. Returns whether a hibernated session was given up, which deletes
    hiberfil.sys. Raises CannotConvert, BadNtfs.
    """
    root = inspection.root
    state = _state(appliance, root)
    session = ntfs.check(state, _hiberfil(appliance, root),
                         discard_hibernation=discard_hibernation)
    if session:
        _give_up(appliance, root, state)
    types = {filesystem.device: filesystem.type for filesystem in inspection.filesystems}
    for device in (mount.device for mount in inspection.mounts if mount.device != root):
        if types.get(device) == "ntfs":
            state = _state(appliance, device)
            if session and not state.log_clean:  # it belongs to the session, too
                _give_up(appliance, device, state)
            else:
                ntfs.check(state, b"", discard_hibernation=False, name=device)
    return session


def _state(appliance: Appliance, device: str) -> ntfs.State:
    return ntfs.state(partial(_read, appliance, device))


def _read(appliance: Appliance, device: str, offset: int, size: int) -> bytes:
    return bytes(appliance.call("pread_device", device, size, offset))


def _hiberfil(appliance: Appliance, device: str) -> bytes:
    """The beginning of a volume's hiberfil.sys, b"" without one."""
    appliance.mount([Mount(device, "/c")], writable=False)
    path = appliance.find("/c/hiberfil.sys")
    header = (appliance.read_range(path, 0, ntfs.HIBERFIL_HEADER)
              if path is not None and appliance.size(path) else b"")
    appliance.call("umount_all")
    return header


def _give_up(appliance: Appliance, device: str, state: ntfs.State) -> None:
    """Make a hibernated volume one that can be written, and have Windows run chkdsk on it.

    The journal belongs to the session. ntfs-3g does not mount a volume with a journal of Windows 8
    for writing, and does not empty it either while there is a session: but it empties one that
    begins with nothing.
    """
    if not state.log_clean:
        appliance.call("pwrite_device", device, bytes(ntfs.LOG_PAGES), state.log)
    appliance.call("mount_options", "remove_hiberfile", device, "/")
    appliance.call("umount_all")
    if not state.log_clean:
        appliance.call("ntfsfix", device)  # marks it as dirty
    if _hiberfil(appliance, device):
        raise CannotConvert("the hibernated session cannot be given up: ntfs-3g keeps to it",
                            hint="start Windows there and shut it down with: shutdown /s /t 0")
