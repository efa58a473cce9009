from __future__ import annotations

import pytest

from imgconv.windows import first_boot, guest_agent
from imgconv.windows.guest_agent import BadInstaller
from imgconv.windows.registry import Hive
from tests.fake_guest import FakeGuest
from tests.hives import make_hive

AGENT = ("qemu-ga-x86_64.msi", b"msi")


def system(*services: str) -> Hive:
    return Hive(make_hive({"Select": {"Current": 2}, r"ControlSet001\Services\QEMU-GA": {},
                           **{rf"ControlSet002\Services\{name}": {} for name in services}}))


def test_the_installer_and_a_step() -> None:
    fake = FakeGuest({"/c/WINDOWS/explorer.exe": ""})
    (file,), (step,) = guest_agent.plan(fake, system("Tcpip"), "/c/WINDOWS", AGENT)
    assert (file.path, file.content) == ("/c/WINDOWS/imgconv/qemu-ga-x86_64.msi", b"msi")
    assert r'/i "%SystemRoot%\imgconv\qemu-ga-x86_64.msi" /qn /norestart' in step.line
    assert {0, 3010} <= set(step.success)
    assert step.line in first_boot.script([step])


def test_planning_again_writes_nothing() -> None:
    fake = FakeGuest({"/c/WINDOWS/imgconv/qemu-ga-x86_64.msi": b"msi"})
    files, steps = guest_agent.plan(fake, system("Tcpip"), "/c/WINDOWS", AGENT)
    assert files == ()
    assert len(steps) == 1


@pytest.mark.parametrize("name", ["QEMU-GA", "qemu-ga"])
def test_a_guest_with_the_agent_keeps_its_own(name: str) -> None:
    assert guest_agent.installed(system(name))
    assert guest_agent.plan(FakeGuest({}), system(name), "/c/WINDOWS", AGENT) == ((), ())


def test_without_an_agent() -> None:
    assert guest_agent.plan(FakeGuest({}), system("Tcpip"), "/c/WINDOWS", None) == ((), ())


@pytest.mark.parametrize("name", ["", "agent.exe", "../x.msi", 'a" & calc & ".msi', "-x.msi",
                                  "a%PATH%.msi", "a\\b.msi", "a.msi\n", "x" * 100 + ".msi"])
def test_odd_names_are_refused(name: str) -> None:
    with pytest.raises(BadInstaller):
        guest_agent.plan(FakeGuest({}), system("Tcpip"), "/c/WINDOWS", (name, b""))
