"""What may keep Windows from taking the new drivers, though they are all in place: only said.

Nothing here is changed: a policy is its administrator's, and antivirus programs guard their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from imgconv.errors import ImgconvError
from imgconv.guest.protocols import Reader
from imgconv.model import Inspection, WindowsOs
from imgconv.windows import control_sets
from imgconv.windows.registry import SZ, Hive, Key, integer, string

_RESTRICTIONS = r"Policies\Microsoft\Windows\DeviceInstall\Restrictions"

#: Setup classes of virtio's devices: storage controllers, network adapters, the rest.
_CLASSES: Final = ("{4d36e97b-e325-11ce-bfc1-08002be10318}",
                   "{4d36e972-e325-11ce-bfc1-08002be10318}",
                   "{4d36e97d-e325-11ce-bfc1-08002be10318}")
_VENDOR: Final = "ven_1af4"

#: Load-order groups of what looks at every driver before it may load.
_GUARDS: Final = ("early-launch", "fsfilter anti-virus")
_WINDOWS_OWN: Final = {"wdboot", "wdfilter", "mpfilter"}

#: A policy lists this many classes or devices at most; more are not looked at.
_MANY: Final = 1000

#: Where code integrity policies lie, below the system root.
_CODE_INTEGRITY: Final = ("System32/CodeIntegrity/SIPolicy.p7b",
                          "System32/CodeIntegrity/CiPolicies/Active")


def warnings(reader: Reader, inspection: Inspection, system: Hive, software: Hive | None
             ) -> tuple[str, ...]:
    """What an administrator should know before the new drivers are needed; `software` is None when
    it cannot be read."""
    current = system.key(control_sets.current(system))
    assert current is not None
    assert isinstance(inspection.os, WindowsOs)
    return (*(_software(software) if software is not None else ()), *_guards(current),
            *_isolation(current), *_code_integrity(reader, inspection.os.systemroot),
            *_to_go(current))


def not_looked_at(error: ImgconvError) -> str:
    """What to say when SOFTWARE cannot be read; nothing else depends on it."""
    return f"the policies were not looked at: {error.message}"


def _software(software: Hive) -> tuple[str, ...]:
    try:
        return (*_restrictions(software), *_unsigned(software))
    except ImgconvError as error:
        return (not_looked_at(error),)


def _restrictions(software: Hive) -> Iterator[str]:
    """Group Policy's device installation restrictions."""
    key = software.key(_RESTRICTIONS)
    if key is None:
        return
    blocked = []
    if key.number("DenyUnspecified"):
        blocked.append("every device that it does not list")
    if key.number("DenyDeviceClasses") and _lists(key, "DenyDeviceClasses", _is_our_class):
        blocked.append("a class of virtio's devices")
    if key.number("DenyDeviceIDs") and _lists(key, "DenyDeviceIDs", _is_ours):
        blocked.append("virtio's devices")
    if blocked:
        yield (f"Group Policy forbids the installation of {' and '.join(blocked)} "
               f"(HKLM\\SOFTWARE\\{_RESTRICTIONS}): allow PCI\\VEN_1AF4 before the guest is moved, "
               "or its network will be missing")


def _is_our_class(guid: str) -> bool:
    return guid in _CLASSES


def _is_ours(device: str) -> bool:
    return _VENDOR in device or device in ("pci", "pci\\*")


def _lists(key: Key, name: str, wanted: Callable[[str], bool]) -> bool:
    below = key.key(name)
    values = below.values()[:_MANY] if below is not None else ()
    return any(wanted(string(value.data).lower()) for value in values if value.type == SZ)


def _unsigned(software: Hive) -> Iterator[str]:
    """What XP and 2003 do with drivers whose signature is not Microsoft's own: 2 is "block"."""
    for path in (r"Policies\Microsoft\Windows NT\Driver Signing", r"Microsoft\Driver Signing"):
        key = software.key(path)
        for name in ("BehaviorOnFailedVerify", "Policy"):
            value = key.value(name) if key is not None else None
            if value is not None and integer(value.data[:4]) == 2:
                yield ("this Windows refuses drivers without Microsoft's signature: allow them "
                       "under System Properties, Hardware, Driver Signing, before the guest moves")
                return


def _guards(control_set: Key) -> Iterator[str]:
    """Antivirus and the like that start with Windows."""
    services = control_set.key("Services")
    found = sorted(key.name for key in (services.subkeys() if services is not None else ())
                   if (key.text("Group") or "").lower() in _GUARDS
                   and key.number("Start") in (0, 1) and key.name.lower() not in _WINDOWS_OWN)
    if found:
        yield (f"security software starts with Windows ({', '.join(found)}), and may block drivers "
               "that it does not know: allow virtio's in its console if they do not start")


def _isolation(control_set: Key) -> Iterator[str]:
    """Memory integrity (HVCI) takes only drivers that are made for it; and needs virtualization."""
    guard = control_set.key(r"Control\DeviceGuard")
    if guard is None:
        return
    integrity = guard.key(r"Scenarios\HypervisorEnforcedCodeIntegrity")
    if (integrity is not None and integrity.number("Enabled")) or guard.number(
            "HypervisorEnforcedCodeIntegrity"):
        yield ("memory integrity (HVCI) is on: old virtio drivers do not load with it, and the "
               "virtual machine needs nested virtualization for it")
    elif guard.number("EnableVirtualizationBasedSecurity"):
        yield ("virtualization-based security is on: without nested virtualization in the virtual "
               "machine it stays off")


def _code_integrity(reader: Reader, system_root: str) -> Iterator[str]:
    """Windows Defender Application Control: a policy says whose drivers load."""
    for path in _CODE_INTEGRITY:
        found = reader.find(f"{system_root}/{path}")
        if found is not None and (reader.size(found) is not None or reader.names(found)):
            yield ("a code integrity policy (WDAC) is in force: allow virtio's drivers in it if "
                   "they do not load")
            return


def _to_go(control_set: Key) -> Iterator[str]:
    control = control_set.key("Control")
    if control is not None and control.number("PortableOperatingSystem"):
        yield ("this is Windows To Go (PortableOperatingSystem), which starts every bus's drivers "
               "itself and keeps the machine's own disks offline")
