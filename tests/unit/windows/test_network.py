from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from imgconv.windows import network
from imgconv.windows.network import StaticAddress
from imgconv.windows.registry import Hive
from imgconv.windows.versions import WindowsVersion
from tests.hives import Value, make_hive
from tests.windows_data import hive, needs_data

WINDOWS_7 = WindowsVersion(6, 1, 7601, "amd64")
XP = WindowsVersion(5, 1, 2600, "x86")
GUID = "{6AAFC9A9-0542-4DB2-8760-CCFFA953737C}"
CLASS = r"Control\Class\{4d36e972-e325-11ce-bfc1-08002be10318}"
STATIC: dict[str, Value] = {
    "EnableDHCP": 0, "IPAddress": ("192.168.1.5", "192.168.1.6"),
    "SubnetMask": ("255.255.255.0", "255.255.255.0"), "DefaultGateway": ("192.168.1.1",),
    "NameServer": "192.168.1.2,9.9.9.9"}


def ips(*texts: str) -> tuple[IPv4Address, ...]:
    return tuple(map(IPv4Address, texts))


ADDRESS = StaticAddress("Ethernet", "Intel(R) PRO/1000", (
    (IPv4Address("192.168.1.5"), IPv4Address("255.255.255.0")),
    (IPv4Address("192.168.1.6"), IPv4Address("255.255.255.0"))), ips("192.168.1.1"),
    ips("192.168.1.2", "9.9.9.9"))


def system(interface: dict[str, Value], adapter: dict[str, Value] | None = None) -> Hive:
    card: dict[str, Value] = {"NetCfgInstanceId": GUID, "Characteristics": 0x84,
                              "DriverDesc": "Intel(R) PRO/1000"}
    base = "ControlSet001"
    return Hive(make_hive({
        "Select": {"Current": 1},
        rf"{base}\{CLASS}\0007": card | (adapter or {}),
        rf"{base}\{CLASS}\Properties": {},
        rf"{base}\Control\Network\{{4D36E972-E325-11CE-BFC1-08002BE10318}}\{GUID}\Connection":
            {"Name": "Ethernet"},
        rf"{base}\Services\Tcpip\Parameters\Interfaces\{GUID.lower()}": interface}))


def test_static() -> None:
    assert network.static_addresses(system(STATIC)) == (ADDRESS,)
    assert str(ADDRESS) == ("192.168.1.5/24, 192.168.1.6/24, gateway 192.168.1.1, DNS 192.168.1.2, "
                            "DNS 9.9.9.9")


@pytest.mark.parametrize(("interface", "adapter"), [
    (STATIC | {"EnableDHCP": 1}, {}),
    ({name: value for name, value in STATIC.items() if name != "EnableDHCP"}, {}),
    (STATIC, {"Characteristics": 0x29}),
    (STATIC | {"IPAddress": ("0.0.0.0",), "SubnetMask": ("0.0.0.0",)}, {}),
    (STATIC | {"IPAddress": ("1.2.3.4; calc",), "SubnetMask": ("255.0.0.0",)}, {}),
    (STATIC | {"IPAddress": ("fe80::1",), "SubnetMask": ("64",)}, {}),
    (STATIC | {"IPAddress": ("10.0.0.1",), "SubnetMask": ("255.0.255.0",)}, {}),
    (STATIC | {"IPAddress": ()}, {})])
def test_none(interface: dict[str, Value], adapter: dict[str, Value]) -> None:
    assert network.static_addresses(system(interface, adapter)) == ()


def test_no_adapters() -> None:
    empty = Hive(make_hive({"Select": {"Current": 1}, "ControlSet001": {}}))
    assert network.static_addresses(empty) == ()


def test_what_is_no_address_is_left_out() -> None:
    found, = network.static_addresses(system(STATIC | {
        "DefaultGateway": ("0.0.0.0", '"& calc'), "NameServer": "1.1.1.1 $(calc) ,8.8.8.8",
        "IPAddress": "10.0.0.1", "SubnetMask": "255.0.0.0"},
        {"NetworkAddress": "00-0C-29-7E-7E-D3"}))
    assert found.addresses == ((IPv4Address("10.0.0.1"), IPv4Address("255.0.0.0")),)
    assert (found.gateways, found.dns) == ((), ips("1.1.1.1", "8.8.8.8"))
    assert found.mac == "00:0c:29:7e:7e:d3"


@pytest.mark.parametrize("mac", ["", "xx0C297E7ED3", "000C29", "0" * 4000])
def test_no_mac(mac: str) -> None:
    found, = network.static_addresses(system(STATIC, {"NetworkAddress": mac}))
    assert found.mac == ""


def test_many() -> None:
    many = tuple(f"10.0.{n // 250}.{n % 250 + 1}" for n in range(1000))
    found, = network.static_addresses(system(STATIC | {
        "IPAddress": many, "SubnetMask": ("255.0.0.0",) * 1000, "NameServer": ",".join(many)}))
    assert len(found.addresses) == len(found.dns) == 32


def test_script() -> None:
    lines, said = network.plan((ADDRESS,), WINDOWS_7)
    assert said == ()
    assert [line for line in lines if "netsh" in line] == [
        '& netsh interface ipv4 set address "name=$nic" source=static address=192.168.1.5 '
        "mask=255.255.255.0 gateway=192.168.1.1 gwmetric=1",
        '& netsh interface ipv4 add address "name=$nic" address=192.168.1.6 mask=255.255.255.0',
        '& netsh interface ipv4 set dnsservers "name=$nic" source=static address=192.168.1.2 '
        "register=primary validate=no",
        '& netsh interface ipv4 add dnsservers "name=$nic" address=9.9.9.9 index=2 validate=no']
    text = "\n".join(lines)
    assert text.count("{") == text.count("}")
    assert r"'PCI\VEN_1AF4*'" in text
    assert r"'PCI\VEN_8086*'" in "\n".join(network.plan((ADDRESS,), WINDOWS_7, vendor="8086")[0])
    assert lines[-1] == "exit 0"


def test_script_has_nothing_of_the_guests_texts() -> None:
    found = network.static_addresses(system(STATIC, {"DriverDesc": "'; calc #"}))
    assert network.script(found[0]) == network.script(ADDRESS)


def test_no_gateway_and_no_servers() -> None:
    lines = network.script(StaticAddress("a", "b", ADDRESS.addresses[:1]))
    assert len([line for line in lines if "netsh" in line]) == 1
    assert any("gateway=none" in line for line in lines)


@pytest.mark.parametrize(("statics", "windows", "nics"), [
    ((ADDRESS,), XP, 1), ((ADDRESS, ADDRESS), WINDOWS_7, 2), ((ADDRESS,), WINDOWS_7, 2)])
def test_told(statics: tuple[StaticAddress, ...], windows: WindowsVersion, nics: int) -> None:
    lines, said = network.plan(statics, windows, nics)
    assert lines == ()
    assert len(said) == 1
    assert "Ethernet: 192.168.1.5/24" in said[0]


def test_nothing() -> None:
    assert network.plan((), WINDOWS_7) == ((), ())
    assert network.plan((), WINDOWS_7, ipv6=("2001:db8::5",))[1] == (
        "set these IPv6 addresses again by hand: 2001:db8::5",)


@pytest.mark.parametrize(("name", "expected"), [
    ("000000070000060020010db8000000000000000000000005", ["2001:db8::5"]),
    ("0000000700000600fe800000000000000000000000000005", []),
    ("000000070000060000000000000000000000000000000001", []),
    ("0000000700000600c0a8017b00000000", []), ("xx", []), ("0" * 9000, [])])
def test_ipv6(name: str, expected: list[str]) -> None:
    key = rf"ControlSet001\{network._IPV6}"
    assert network.ipv6_addresses(Hive(make_hive({
        "Select": {"Current": 1}, key: {name: b"\xff" * 48}}))) == tuple(expected)


@needs_data
def test_real() -> None:
    first, second = network.static_addresses(Hive(hive("SYSTEM-win7-x86")))
    assert (first.name, str(first)) == (
        "Local Area Connection", "192.168.1.123/24, gateway 192.168.1.1, DNS 192.168.1.112")
    assert (second.name, str(second)) == (
        "Local Area Connection 2", "10.3.58.5/24, gateway 10.3.58.1, DNS 10.3.58.4")
    assert network.static_addresses(Hive(hive("SYSTEM-win8.1-x64"))) == ()
