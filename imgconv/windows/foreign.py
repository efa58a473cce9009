"""What other hypervisors left behind: drivers that would stop the boot are disabled.

Only those. A driver for a device that is not there does nothing, so most of what VMware's,
VirtualBox's, Parallels' and Hyper-V's tools install is only named: they are best uninstalled in the
running guest, which knows how. Xen's are another matter: they filter the keyboard's, the system's
and the disk controllers' devices whether or not there is a Xen below, and stop Windows with 0x7B or
hide the disks. (Reports of that: QubesOS/qubes-issues 1078; virt-v2v on rhelscsi.)
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from imgconv.windows import control_sets
from imgconv.windows.edits import Edits
from imgconv.windows.registry import Hive, Key, dword, multi_sz
from imgconv.windows.versions import WindowsVersion

_DISABLED: Final = 4
_FILTERS: Final = ("UpperFilters", "LowerFilters")


@dataclass(frozen=True, slots=True)
class _Harm:
    """A service (in small letters) that must not start; `until` is the first Windows it spares."""

    service: str
    product: str
    why: str
    until: tuple[int, int] = (99, 0)


_NO_XEN = "filters or replaces the devices that Windows starts from, but there is no Xen any more"

_HARMFUL: Final = (
    *(_Harm(name, "Xen's drivers", _NO_XEN) for name in (
        # Linux Foundation, XenServer 7 and later, XCP-ng, AWS
        "xenfilt", "xenbus", "xenvbd", "xendisk", "xencrsh",
        # XenServer 6 and older
        "xenevtchn", "xevtchn", "xenutil", "scsifilt",
        # GPLPV: xenhide hides QEMU's devices
        "xenpci", "xenhide", "xenscsi",
        # Red Hat's and Novell's
        "rhelfltr", "rhelscsi", "xenblk", "xenscsi6",
    )),
    # It drives the power management of a real processor: stop errors 0x7E and 0xCE without one.
    _Harm("intelppm", "Windows", "stops Windows XP and 2003 on a virtual processor", (6, 0)),
    # Parallels' filter below every disk, which talks to its hypervisor.
    _Harm("prl_strg", "Parallels Tools", "filters the disks, for a hypervisor that is not there"),
)

#: What is installed, by its services in small letters (patterns).
_PRODUCTS: Final = (
    ("VMware Tools", ("vmtools", "vmci", "vmhgfs", "vmmemctl", "vm3dmp*", "vmrawdsk", "vgauth*",
                      "vmvss", "vmupgradehelper", "vsepflt", "vnetflt", "vnetwfp", "vmxnet*",
                      "vmmouse", "vmusbmouse", "vmaudio", "vmdebug")),
    ("VirtualBox Guest Additions", ("vboxguest", "vboxservice", "vboxsf", "vboxmouse",
                                    "vboxvideo*", "vboxwddm")),
    ("Xen's drivers", ("xensvc", "xenagent", "xenbus_monitor", "xenguestagent", "xeniface",
                       "xennet*", "xenvif", "xlguestagent*", "xeninstall", "awsagent", "rhelnet")),
    ("Parallels Tools", ("prl_*", "prltools*", "parallels tools*")),
    ("Virtual PC's Additions", ("vpcs2bus", "1-vmsrvc", "vmsrvc", "vpcmap", "msvmmouf")),
)


def plan(edits: Edits, windows: WindowsVersion) -> tuple[str, ...]:
    """Edit the SYSTEM hive, so that nothing foreign stops the boot; returns warnings.

    Every edit keeps what was there: Start and the lists of filters can be put back.
    """
    disabled: set[str] = set()
    for control_set in control_sets.names(edits.hive):
        harmful = _harmful(edits.hive, control_set, windows)
        for name, (harm, start) in harmful.items():
            if start != _DISABLED:
                disabled.add(name)
                edits.set(rf"{control_set}\Services\{name}", (dword("Start", _DISABLED),),
                          f"{harm.product}: {name} {harm.why}")
        _unfilter(edits, control_set, {name.lower() for name in harmful})
    said = tuple(f"{product} are installed: uninstall them in the guest, once it runs"
                 if product.endswith("s") else f"{product} is installed: uninstall it in the guest"
                 for product in installed(edits.hive))
    if not disabled:
        return said
    return (*said, f"disabled, because they would stop the boot: {', '.join(sorted(disabled))}")


def installed(system: Hive) -> tuple[str, ...]:
    """The tools of other hypervisors that are there."""
    services = [name.lower() for name, key in
                _services(system, control_sets.current(system)).items()
                if key.number("Start") is not None]
    return tuple(product for product, patterns in _PRODUCTS
                 if any(fnmatchcase(service, pattern) for service in services
                        for pattern in patterns))


def _harmful(system: Hive, control_set: str, windows: WindowsVersion
             ) -> dict[str, tuple[_Harm, int]]:
    """The harmful services of a control set, by their names as spelled there, with their Start."""
    services = _services(system, control_set)
    by_name = {harm.service: harm for harm in _HARMFUL if windows.release < harm.until}
    return {name: (by_name[name.lower()], start) for name, key in services.items()
            if name.lower() in by_name and (start := key.number("Start")) is not None}


def _unfilter(edits: Edits, control_set: str, services: set[str]) -> None:
    """Take disabled drivers out of the lists of filters: a device whose filter does not load does
    not start. Both classes of devices and single devices have such lists."""
    for path, key in _filtered(edits.hive, control_set):
        for which in _FILTERS:
            there = key.strings(which)
            left = tuple(name for name in there if name.lower() not in services)
            if left != there:
                gone = ", ".join(name for name in there if name.lower() in services)
                edits.set(path, (multi_sz(which, left),),
                          f"{gone} is disabled, and devices with a missing filter do not start")


def _filtered(system: Hive, control_set: str) -> list[tuple[str, Key]]:
    """The keys that can have lists of filters, with their paths."""
    found = []
    classes = system.key(rf"{control_set}\Control\Class")
    for key in classes.subkeys() if classes is not None else ():
        found.append((rf"{control_set}\Control\Class\{key.name}", key))
    enum = system.key(rf"{control_set}\Enum")
    for bus in enum.subkeys() if enum is not None else ():
        for device in bus.subkeys():
            for instance in device.subkeys():
                found.append((rf"{control_set}\Enum\{bus.name}\{device.name}\{instance.name}",
                              instance))
    return found


def _services(system: Hive, control_set: str) -> dict[str, Key]:
    services = system.key(rf"{control_set}\Services")
    return {key.name: key for key in services.subkeys()} if services is not None else {}
