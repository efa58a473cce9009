"""What the module of an initramfs tool looks like: one file a tool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from imgconv.guest.protocols import Reader
from imgconv.linux.device_names import Renamer
from imgconv.linux.initramfs.cpio import Initramfs
from imgconv.linux.initramfs.layout import Layout
from imgconv.linux.kernels import Kernel
from imgconv.model import Change, RunInGuest, WriteFile


class InitramfsTool(Protocol):
    """A module of this package."""

    NAME: str

    #: Where its images have their modules, and by what they are found.
    LAYOUT: Layout

    def detect(self, reader: Reader) -> bool:
        """Whether this tool is installed in the guest."""
        ...

    def built(self, initramfs: Initramfs) -> bool:
        """Whether this tool has made `initramfs`, by what is in there."""
        ...

    def persist(self, reader: Reader, renamer: Renamer,
                drivers: Sequence[str]) -> tuple[WriteFile, ...]:
        """Configuration edits that keep `drivers` (and the right names of disks) in every
        initramfs that the guest builds itself from now on."""
        ...

    def loads(self, initramfs: Initramfs, driver: str) -> str | None:
        """What, inside `initramfs`, this tool's own scripts load `driver` by ("conf/modules"); None
        when nothing does. udev and its like are not meant: they are the layout's."""
        ...

    def additions(self, initramfs: Initramfs, renamer: Renamer,
                  drivers: Sequence[str]) -> Mapping[str, bytes]:
        """Files (name -> content) that, added to `initramfs`, make its scripts load `drivers` and
        look for disks by the right names; {} when all is well already. `drivers` is what the layout
        wants to be listed (`to_load`), () for the names alone."""
        ...

    def rebuild(self, reader: Reader, kernel: Kernel,
                drivers: Sequence[str]) -> tuple[tuple[Change, ...], RunInGuest]:
        """The guest's own command that builds the initramfs of `kernel` anew with `drivers` (its
        modules; those that are built in are left out), and the edits it
        needs to come out right in the appliance, whose devices are not the guest's."""
        ...
