r"""Static IP addresses, which Windows keeps for an adapter that will not be there any more.

They are in Tcpip\Parameters\Interfaces\{GUID of the adapter}; a new adapter gets a new GUID when
Windows first sees it, so nothing can be written for it beforehand: a script at the first start sets
the old addresses on it. It is made only where one adapter with static addresses becomes one new
adapter, and only of values that are addresses; otherwise the addresses are told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv6Address,
    NetmaskValueError,
    ip_interface,
)
from typing import Final

from imgconv.windows import control_sets
from imgconv.windows.registry import MULTI_SZ, SZ, Hive, Key, multi_string, string
from imgconv.windows.versions import WindowsVersion

_NET_CLASS: Final = r"Control\Class\{4d36e972-e325-11ce-bfc1-08002be10318}"
_CONNECTIONS: Final = r"Control\Network\{4d36e972-e325-11ce-bfc1-08002be10318}"
_INTERFACES: Final = r"Services\Tcpip\Parameters\Interfaces"

#: NSI's persistent data of IPv6 (its module's GUID), table 10: unicast addresses.
_IPV6: Final = r"Control\Nsi\{eb004a01-9b1a-11d4-9123-0050047759bc}\10"

#: NCF_PHYSICAL: an adapter of its own, and no tunnel or miniport.
_PHYSICAL: Final = 0x4

#: More addresses, gateways or servers than this are no adapter's.
_MANY: Final = 32

#: PCI vendor of the new adapter: "8086" for QEMU's e1000 and e1000e.
VIRTIO: Final = "1AF4"

#: PowerShell is part of Windows from here on: 7 and Server 2008 R2.
_POWERSHELL: Final = (6, 1)

#: The script waits so often for the adapter, each time so many seconds.
_TRIES, _PAUSE = 60, 5


@dataclass(frozen=True, slots=True)
class StaticAddress:
    """What an adapter was given by hand. `name` is its connection's, as people see it ("Ethernet").

    `addresses` are (address, mask); `mac` is only known where it was set by hand, "" otherwise.
    """

    name: str
    adapter: str
    addresses: tuple[tuple[IPv4Address, IPv4Address], ...]
    gateways: tuple[IPv4Address, ...] = ()
    dns: tuple[IPv4Address, ...] = ()
    mac: str = ""

    def __str__(self) -> str:
        addresses = ", ".join(str(ip_interface(f"{address}/{mask}"))
                              for address, mask in self.addresses)
        gateways = "".join(f", gateway {gateway}" for gateway in self.gateways)
        return f"{addresses}{gateways}" + "".join(f", DNS {server}" for server in self.dns)


def static_addresses(system: Hive) -> tuple[StaticAddress, ...]:
    """The static IPv4 addresses of the adapters, in the order of Windows' own numbering."""
    current = system.key(control_sets.current(system))
    assert current is not None
    found = []
    for guid, adapter in _adapters(current):
        interface = current.key(rf"{_INTERFACES}\{guid}")
        if interface is None or interface.number("EnableDHCP") != 0:
            continue
        addresses = _addresses(interface)
        if addresses:
            connection = current.key(rf"{_CONNECTIONS}\{guid}\Connection")
            name = connection.text("Name") if connection is not None else None
            found.append(StaticAddress(
                name or guid, adapter.text("DriverDesc") or "", addresses,
                tuple(_valid(_texts(interface, "DefaultGateway"))),
                tuple(_valid((interface.text("NameServer") or "").replace(",", " ").split())),
                _mac(adapter)))
    return tuple(found)


def ipv6_addresses(system: Hive) -> tuple[str, ...]:
    """The IPv6 addresses that were set by hand, which are not carried over.

    They are the names of values: eight bytes of the adapter's LUID and the address, in hexadecimal,
    as in the real hives' list for IPv4.
    """
    current = system.key(control_sets.current(system))
    key = current.key(_IPV6) if current is not None else None
    found = []
    for value in key.values()[:_MANY] if key is not None else ():
        with suppress(ValueError):
            address = IPv6Address(bytes.fromhex(value.name)[8:24])
            if len(value.name) == 48 and not address.is_link_local and int(address) > 1:
                found.append(str(address))
    return tuple(found)


def plan(statics: tuple[StaticAddress, ...], windows: WindowsVersion, nics: int = 1,
         vendor: str = VIRTIO, ipv6: tuple[str, ...] = ()
         ) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The lines of a PowerShell script for the first start, () when there is nothing to do or no
    knowing what; and warnings. `nics` is how many adapters the new machine has, of which vendor."""
    said = (f"set these IPv6 addresses again by hand: {', '.join(ipv6)}",) if ipv6 else ()
    if not statics:
        return (), said
    if len(statics) == nics == 1 and windows.release >= _POWERSHELL:
        return script(statics[0], vendor), said
    told = "; ".join(f"{static.name}: {static}" for static in statics)
    return (), (f"set the static addresses of the new network adapters by hand ({told})", *said)


def script(static: StaticAddress, vendor: str = VIRTIO) -> tuple[str, ...]:
    """PowerShell 2 (of Windows 7) that gives the addresses to the one adapter of that PCI vendor.

    It waits until Windows has installed the adapter, does nothing where there are several, and can
    run again: `set` replaces, and an address that is there already is no harm. The exit code is 0
    when it is done, 1 when not. Nothing of the guest's is in it but addresses.
    """
    (address, mask), *more = static.addresses
    gateway = f"gateway={static.gateways[0]} gwmetric=1" if static.gateways else "gateway=none"
    lines = [
        "$nics = @()",
        f"for ($i = 0; $i -lt {_TRIES} -and $nics.Count -eq 0; $i++) {{",
        f"    if ($i) {{ Start-Sleep -Seconds {_PAUSE} }}",
        "    $nics = @(Get-WmiObject Win32_NetworkAdapter | Where-Object {",
        rf"        $_.PNPDeviceID -like 'PCI\VEN_{vendor}*' -and $_.NetConnectionID }})",
        "}",
        "if ($nics.Count -ne 1) { exit 1 }",
        "$nic = $nics[0].InterfaceIndex",
        f'& netsh interface ipv4 set address "name=$nic" source=static address={address} '
        f"mask={mask} {gateway}",
        "$failed = $LASTEXITCODE",
        *(f'& netsh interface ipv4 add address "name=$nic" address={address} mask={mask}'
          for address, mask in more),
        *(f'& netsh interface ipv4 add address "name=$nic" gateway={gateway} gwmetric=2'
          for gateway in static.gateways[1:]),
    ]
    if static.dns:
        lines.append('& netsh interface ipv4 set dnsservers "name=$nic" source=static '
                     f"address={static.dns[0]} register=primary validate=no")
    lines += [f'& netsh interface ipv4 add dnsservers "name=$nic" address={server} index={index} '
              "validate=no" for index, server in enumerate(static.dns[1:], 2)]
    return (*lines, "if ($failed) { exit 1 }", "exit 0")


def _adapters(control_set: Key) -> Iterator[tuple[str, Key]]:
    """The physical adapters' GUIDs and keys; also those of hardware that has gone, which Windows
    keeps without saying so."""
    adapters = control_set.key(_NET_CLASS)
    for key in adapters.subkeys() if adapters is not None else ():
        guid = key.text("NetCfgInstanceId")
        if guid and (key.number("Characteristics") or 0) & _PHYSICAL:
            yield guid, key


def _addresses(interface: Key) -> tuple[tuple[IPv4Address, IPv4Address], ...]:
    found = []
    pairs = zip(_texts(interface, "IPAddress"), _texts(interface, "SubnetMask"), strict=False)
    for address, mask in list(pairs)[:_MANY]:
        try:
            given = ip_interface(f"{IPv4Address(address)}/{IPv4Address(mask)}")
        except (AddressValueError, NetmaskValueError, ValueError):
            continue
        if int(given.ip) and isinstance(given.ip, IPv4Address):
            found.append((given.ip, IPv4Address(mask)))
    return tuple(found)


def _texts(key: Key, name: str) -> tuple[str, ...]:
    """A list of strings: REG_MULTI_SZ, or REG_SZ as old programs write it."""
    value = key.value(name)
    if value is None:
        return ()
    return {MULTI_SZ: multi_string(value.data), SZ: (string(value.data),)}.get(value.type, ())


def _valid(texts: Iterable[str]) -> Iterator[IPv4Address]:
    for text in list(texts)[:_MANY]:
        try:
            address = IPv4Address(text)
        except AddressValueError:
            continue
        if int(address):
            yield address


def _mac(adapter: Key) -> str:
    """The MAC address that was set by hand (NetworkAddress), as QEMU spells it."""
    digits = (adapter.text("NetworkAddress") or "").replace("-", "").replace(":", "").lower()
    if len(digits) != 12 or not set(digits) <= set("0123456789abcdef"):
        return ""
    return ":".join(digits[at:at + 2] for at in range(0, 12, 2))
