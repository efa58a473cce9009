"""Every error that imgconv raises on purpose: what is wrong, and what to do about it."""

from __future__ import annotations


class ImgconvError(Exception):
    """Something is wrong that the user can understand and mend.

    `hint` is the remedy, a sentence or a command; the command line prints it below the message.
    `exit_code` is the status with which the command line ends (DESIGN.md, "The command line").
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(ImgconvError):
    """The command was given wrong or contradictory arguments."""

    exit_code = 2


class CannotConvert(ImgconvError):
    """This guest cannot be converted, whatever the options."""

    exit_code = 3


class NotProven(ImgconvError):
    """The result could not be proven, so nothing was committed."""

    exit_code = 4


class CommitFailed(ImgconvError):
    """Writing the source failed half-way; the journal that completes it is kept."""


class GuestFileMissing(ImgconvError):
    """A path does not exist in the guest (or is not of the kind that was asked for)."""


class HostileInput(ImgconvError):
    """Guest-controlled data exceeds a limit or breaks its format."""
