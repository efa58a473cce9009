"""Which sections are for which Windows."""

from __future__ import annotations

import pytest

from imgconv.windows import inf_target
from imgconv.windows.versions import WindowsVersion
from tests.unit.windows.inf_samples import (
    EIGHT,
    ELEVEN_ARM,
    SERVER_2008_R2,
    SERVER_2016,
    SERVER_2022,
    SEVEN,
    SEVEN_X86,
    TEN,
    TEN_1607,
    TEN_X86,
    XP,
)


@pytest.mark.parametrize(("decorations", "windows", "section"), [
    # the highest version that is not newer
    (("NTamd64.6.1", "NTamd64.6.2", "NTamd64.10.0"), SEVEN, "m.NTamd64.6.1"),
    (("NTamd64.10.0", "NTamd64.6.2", "NTamd64.6.1"), EIGHT, "m.NTamd64.6.2"),
    (("NTamd64.6.1", "NTamd64.6.2", "NTamd64.10.0"), TEN, "m.NTamd64.10.0"),
    (("NTamd64.6.2",), SEVEN, None),
    (("NTamd64", "NTamd64.6"), SEVEN, "m.NTamd64.6"),
    (("ntAMD64",), SEVEN, "m.ntAMD64"),
    # another architecture
    (("NTx86", "NTarm64", "NTia64", "NTarm"), SEVEN, None),
    (("NTx86", "NTamd64", "NTarm64"), ELEVEN_ARM, "m.NTarm64"),
    (("NTamd64",), SEVEN_X86, "m"),
    # none at all is for x86, as is NT alone
    ((), SEVEN_X86, "m"),
    ((), SEVEN, None),
    ((), ELEVEN_ARM, None),
    (("NT",), SEVEN, None),
    (("NT.6.0",), SEVEN_X86, "m.NT.6.0"),
    (("NT.6.0", "NTx86.6.0"), SEVEN_X86, "m.NTx86.6.0"),
    (("NTx86.6.0", "NT.6.1"), SEVEN_X86, "m.NT.6.1"),
    # Microsoft's own example: a version goes before a suite
    (("NT", "NT.5", "NT.5.5", "NT....0x80"), XP, "m.NT.5"),
    # builds
    (("NTamd64.10.0...16299", "NTamd64.6.1"), TEN_1607, "m.NTamd64.6.1"),
    (("NTamd64.10.0...16299", "NTamd64.10.0"), TEN, "m.NTamd64.10.0...16299"),
    (("NTamd64.10.0...16299", "NTamd64.10.0...19041", "NTamd64.10.0...22000"), TEN,
     "m.NTamd64.10.0...19041"),
    (("NTarm64.10.0...22000",), ELEVEN_ARM, "m.NTarm64.10.0...22000"),
    (("NTamd64.6.1...16299",), TEN, "m.NTamd64.6.1...16299"),
    (("NTamd64.10.0...10240",), WindowsVersion(10, 0, 10240, "amd64"), None),
    # workstation and server
    (("NTamd64.6.1.3",), SEVEN, None),
    (("NTamd64.6.1.1", "NTamd64.6.1.3"), SEVEN, "m.NTamd64.6.1.1"),
    (("NTamd64.6.1", "NTamd64.6.1.3"), SERVER_2008_R2, "m.NTamd64.6.1.3"),
    (("NTamd64.6.1.2", "NTamd64.6.1.3"), SERVER_2008_R2, "m.NTamd64.6.1.3"),
    (("NTamd64.6.1.0x2",), SERVER_2008_R2, "m.NTamd64.6.1.0x2"),
    (("NTamd64.6.1.1", "NTamd64.6.0"), SERVER_2008_R2, "m.NTamd64.6.0"),
    (("NTamd64.10.0.3..17763", "NTamd64.10.0"), SERVER_2016, "m.NTamd64.10.0"),
    (("NTamd64.10.0.3..17763", "NTamd64.10.0"), SERVER_2022, "m.NTamd64.10.0.3..17763"),
    # suites, and what is no decoration
    (("NTamd64.6.1..0x80",), SEVEN, None),
    (("NTamd64.6.1....",), TEN_X86, "m"),
    (("NTamd64.6.1.....", "amd64", "NTamd64.x", "NTamd64 .6"), SEVEN, None),
])
def test_models_section(decorations: tuple[str, ...], windows: WindowsVersion,
                        section: str | None) -> None:
    assert inf_target.models_section("m", decorations, windows) == section


def test_decorated() -> None:
    assert inf_target.decorated("i", TEN) == ("i.NTamd64", "i.NT", "i")
    assert inf_target.decorated("i", ELEVEN_ARM) == ("i.NTarm64", "i.NT", "i")
