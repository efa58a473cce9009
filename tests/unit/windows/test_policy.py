from __future__ import annotations

import pytest

from imgconv.model import Firmware, Inspection, Mount, WindowsOs
from imgconv.windows import policy
from imgconv.windows.registry import Hive
from tests.fake_guest import FakeGuest
from tests.hives import Value, make_hive
from tests.windows_data import hive, needs_data

Tree = dict[str, dict[str, Value]]

WHERE = Inspection("/dev/sda1", "x86_64", Firmware.BIOS, (), (Mount("/dev/sda1", "/c"),),
                   WindowsOs("Windows", systemroot="/c/Windows"))
RESTRICTIONS = r"Policies\Microsoft\Windows\DeviceInstall\Restrictions"
GUARD = r"Control\DeviceGuard"


def warnings(system: Tree | None = None, software: Tree | None = None,
             files: dict[str, bytes] | None = None) -> tuple[str, ...]:
    keys: Tree = {"Select": {"Current": 1}, "ControlSet001": {}}
    keys |= {rf"ControlSet001\{path}": values for path, values in (system or {}).items()}
    return policy.warnings(FakeGuest(files or {}), WHERE, Hive(make_hive(keys)),
                           Hive(make_hive(software or {})))


@pytest.mark.parametrize(("software", "message"), [
    ({RESTRICTIONS: {"DenyUnspecified": 1}}, "every device that it does not list"),
    ({RESTRICTIONS: {"DenyDeviceClasses": 1}, rf"{RESTRICTIONS}\DenyDeviceClasses":
        {"1": "{4D36E972-E325-11CE-BFC1-08002BE10318}"}}, "a class of virtio's devices"),
    ({RESTRICTIONS: {"DenyDeviceIDs": 1}, rf"{RESTRICTIONS}\DenyDeviceIDs":
        {"1": r"PCI\VEN_1AF4&DEV_1000"}}, "of virtio's devices"),
    ({r"Microsoft\Driver Signing": {"Policy": b"\2"}}, "Microsoft's signature"),
    ({r"Policies\Microsoft\Windows NT\Driver Signing": {"BehaviorOnFailedVerify": 2}},
     "Microsoft's signature"),
])
def test_software(software: Tree, message: str) -> None:
    said, = warnings(software=software)
    assert message in said


@pytest.mark.parametrize("software", [
    {RESTRICTIONS: {"DenyUnspecified": 0, "DenyRemovableDevices": 1}},
    {RESTRICTIONS: {"DenyDeviceClasses": 1}, rf"{RESTRICTIONS}\DenyDeviceClasses":
        {"1": "{36fc9e60-c465-11cf-8056-444553540000}"}},
    {RESTRICTIONS: {"DenyDeviceClasses": 0}, rf"{RESTRICTIONS}\DenyDeviceClasses":
        {"1": "{4d36e972-e325-11ce-bfc1-08002be10318}"}},
    {RESTRICTIONS: {"DenyDeviceIDs": 1}, rf"{RESTRICTIONS}\DenyDeviceIDs": {"1": r"USB\Class_08"}},
    {r"Microsoft\Driver Signing": {"Policy": b"\1"}}, {}])
def test_harmless_software(software: Tree) -> None:
    assert warnings(software=software) == ()


@pytest.mark.parametrize(("system", "message"), [
    ({r"Services\klif": {"Group": "FSFilter Anti-Virus", "Start": 1},
      r"Services\csboot": {"Group": "Early-Launch", "Start": 0},
      r"Services\WdBoot": {"Group": "Early-Launch", "Start": 0}}, "(csboot, klif)"),
    ({rf"{GUARD}\Scenarios\HypervisorEnforcedCodeIntegrity": {"Enabled": 1}}, "HVCI"),
    ({GUARD: {"HypervisorEnforcedCodeIntegrity": 1}}, "HVCI"),
    ({GUARD: {"EnableVirtualizationBasedSecurity": 1}}, "nested virtualization"),
    ({"Control": {"PortableOperatingSystem": 1}}, "Windows To Go"),
])
def test_system(system: Tree, message: str) -> None:
    said, = warnings(system)
    assert message in said


@pytest.mark.parametrize("system", [
    {r"Services\klif": {"Group": "FSFilter Anti-Virus", "Start": 4}},
    {r"Services\WdFilter": {"Group": "FSFilter Anti-Virus", "Start": 0}},
    {GUARD: {"RequireMicrosoftSignedBootChain": 1},
     rf"{GUARD}\Scenarios\HypervisorEnforcedCodeIntegrity": {"Enabled": 0}},
    {"Control": {"PortableOperatingSystem": 0}}])
def test_harmless_system(system: Tree) -> None:
    assert warnings(system) == ()


@pytest.mark.parametrize("path", ["/c/Windows/System32/CodeIntegrity/SIPolicy.p7b",
                                  "/c/Windows/system32/codeintegrity/CiPolicies/Active/{1}.cip"])
def test_code_integrity_policy(path: str) -> None:
    said, = warnings(files={path: b"policy"})
    assert "WDAC" in said


@needs_data
@pytest.mark.parametrize(("name", "found"), [
    ("win7-x86", ["mfehidk"]), ("win8.1-x64", []), ("win10-1709-x64", [])])
def test_real(name: str, found: list[str]) -> None:
    said = policy.warnings(FakeGuest({}), WHERE, Hive(hive(f"SYSTEM-{name}")), Hive(make_hive({})))
    assert [driver for text in said for driver in ("mfehidk",) if driver in text] == found
    assert len(said) == len(found)
