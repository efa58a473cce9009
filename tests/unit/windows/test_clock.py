from __future__ import annotations

import pytest

from imgconv.windows import clock, registry
from imgconv.windows.registry import Hive
from tests.hives import Value, make_hive
from tests.windows_data import hive, needs_data


@pytest.mark.parametrize(("values", "expected"), [
    ({}, True), ({"RealTimeIsUniversal": 0}, True), ({"RealTimeIsUniversal": 1}, False),
    ({"realtimeisuniversal": registry.qword("", 1)}, False),
    ({"RealTimeIsUniversal": "1"}, True)])
def test_localtime(values: dict[str, Value], expected: bool) -> None:
    system = Hive(make_hive({"Select": {"Current": 2}, "ControlSet002": {},
                             r"ControlSet001\Control\TimeZoneInformation":
                                 {"RealTimeIsUniversal": int(expected)},
                             r"ControlSet002\Control\TimeZoneInformation": values}))
    assert clock.localtime(system) is expected


def test_no_zone() -> None:
    assert clock.localtime(Hive(make_hive({"Select": {"Current": 1}, "ControlSet001": {}})))


@needs_data
def test_real() -> None:
    assert clock.localtime(Hive(hive("SYSTEM-win8.1-x64")))
