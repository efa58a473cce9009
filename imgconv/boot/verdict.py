"""What the evidence of a boot proves."""

from __future__ import annotations

from dataclasses import dataclass, field

from imgconv.boot import activity
from imgconv.boot.console import Watch
from imgconv.model import DiskActivity, NetworkActivity, Verdict

#: So many different signs of trouble are reported.
SIGN_LIMIT = 5
#: A guest may reset itself: Windows between the stages of its setup, SELinux after it has
#: labelled everything. One that does it more often goes round in circles.
RESET_LIMIT = 3


@dataclass(slots=True)
class Observed:
    """What was seen besides the consoles."""

    disk: DiskActivity = field(default_factory=DiskActivity)
    network: NetworkActivity = field(default_factory=NetworkActivity)
    resets: int = 0
    panicked: bool = False

    @property
    def looping(self) -> bool:
        return self.resets > RESET_LIMIT

    @property
    def alive(self) -> bool:
        """Whether a guest that says nothing must be up, since its kernel works on its disk, and
        its programs on the network.

        One alone does not prove it: an initramfs may ask for an address before it misses its
        root filesystem, and a guest in emergency mode writes to its disk. Only DHCP and ARP count:
        UEFI firmware that tries to boot from the network speaks IPv6 as well.
        """
        return activity.by_kernel(self.disk) and self.network.dhcp + self.network.arp > 0


def judge(watch: Watch, observed: Observed, ending: str) -> tuple[Verdict, str]:
    """The verdict and its reasons; `ending` is the reason for one that nothing else gives a
    reason for."""
    down = dict(watch.down)
    if observed.panicked:
        down.setdefault("panic", "the guest's kernel reported that it panicked")
    if observed.looping:
        down.setdefault("loop", f"the guest reset itself more than {RESET_LIMIT} times: it goes "
                                "round in circles")
    said = [*watch.up.values(), *down.values(), *watch.trouble.values()][:SIGN_LIMIT]
    if observed.resets and not observed.looping:
        said.append(f"the guest reset itself {_times(observed.resets)}")
    if watch.up and not down:
        return Verdict.BOOTED, "; ".join(said)
    if down and not watch.up:
        return Verdict.NOT_BOOTED, "; ".join(said)
    if down:
        # Consoles that say both prove nothing.
        return Verdict.NOT_PROVEN, "; ".join(["the console contradicts itself", *said])
    if observed.alive:
        return Verdict.BOOTED, "; ".join([_wrote(observed.disk), _sent(observed.network), *said])
    seen = [_wrote(observed.disk)] if activity.by_kernel(observed.disk) else []
    seen += [_sent(observed.network)] if observed.network.frames else []
    return Verdict.NOT_PROVEN, "; ".join([ending, *seen, *said])


def _wrote(disk: DiskActivity) -> str:
    return (f"the guest's kernel wrote {disk.written >> 10:,} KiB to its disk and flushed it "
            f"{_times(disk.flushes)}")


def _sent(network: NetworkActivity) -> str:
    kinds = [f"{count} of them {what}" for count, what in
             ((network.dhcp, "to ask for an address by DHCP"), (network.arp, "ARP")) if count]
    frames = "1 frame" if network.frames == 1 else f"{network.frames:,} frames"
    return f"its network card sent {frames}" + (f" ({', '.join(kinds)})" if kinds else "")


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
