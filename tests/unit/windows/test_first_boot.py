from __future__ import annotations

import re

import pytest

from imgconv.model import SetRegistry, WriteFile
from imgconv.windows import first_boot, registry
from imgconv.windows.edits import Edits
from imgconv.windows.first_boot import BadStep, Step, quote, script
from imgconv.windows.registry import Hive
from tests.fake_guest import FakeGuest
from tests.hives import make_hive

HIVE = "/c/Windows/System32/config/SYSTEM"
STEPS = (Step("set the address", "netsh.exe interface ip show config"),
         Step("install the agent", "start /wait msiexec.exe", success=(0, 3010), attempts=6))


def guest() -> FakeGuest:
    system = make_hive({"Select": {"Current": 1}, r"ControlSet001\Services": {},
                        r"ControlSet002\Services": {}})
    return FakeGuest({HIVE: system, "/c/Windows/explorer.exe": ""})


def plan(fake: FakeGuest, steps: tuple[Step, ...] = STEPS
         ) -> tuple[tuple[WriteFile, ...], tuple[SetRegistry, ...]]:
    edits = Edits(Hive(fake.files[HIVE]), HIVE)
    files = first_boot.plan(fake, edits, "/c/Windows", steps)
    changes = edits.changes()
    sets = tuple(change for change in changes if isinstance(change, SetRegistry))
    assert len(sets) == len(changes)
    return files, sets


def apply(fake: FakeGuest, files: tuple[WriteFile, ...], edits: tuple[SetRegistry, ...]) -> None:
    for file in files:
        fake.write(file.path, file.content, file.mode)
    if edits:
        fake.edit_registry(HIVE, edits)


def test_a_file_and_a_service_in_every_control_set() -> None:
    (file,), edits = plan(guest())
    assert re.fullmatch(r"/c/Windows/imgconv/first-boot-[0-9a-f]{8}\.cmd", file.path)
    assert file.content == script(STEPS).encode("ascii")
    assert file.why == "when Windows first starts: set the address; install the agent"
    assert [edit.key for edit in edits] == [rf"ControlSet{n}\Services\imgconv-first-boot"
                                            for n in ("001", "002")]
    values = {value.name: value for value in edits[0].values}
    assert {name: registry.integer(values[name].data)
            for name in ("Type", "Start", "ErrorControl")} == {
        "Type": 0x10, "Start": 2, "ErrorControl": 0}
    name = file.path.rpartition("/")[2]
    assert values["ImagePath"].type == registry.EXPAND_SZ
    assert registry.string(values["ImagePath"].data) == (
        r'%SystemRoot%\System32\cmd.exe /d /c start "imgconv-first-boot" /b '
        rf"%SystemRoot%\System32\cmd.exe /d /c %SystemRoot%\imgconv\{name}")


def test_planning_again_changes_nothing() -> None:
    fake = guest()
    apply(fake, *plan(fake))
    assert plan(fake) == ((), ())


def test_nothing_is_planned_when_it_was_done() -> None:
    fake = guest()
    files, _ = plan(fake)
    fake.files[files[0].path.replace(".cmd", ".done").upper()] = b"done\r\n"
    assert plan(fake) == ((), ())


def test_other_steps_run_again() -> None:
    fake = guest()
    files, edits = plan(fake)
    apply(fake, files, edits)
    fake.files[files[0].path.replace(".cmd", ".done")] = b"done\r\n"
    more, again = plan(fake, STEPS[:1])
    assert more[0].path != files[0].path
    assert [value.name for value in again[0].values] == ["ImagePath"]


def test_powershell_is_a_file_of_its_own() -> None:
    fake = guest()
    steps = (*STEPS, Step("wait", powershell=("Start-Sleep 1", "exit 0")))
    (batch, wait), edits = plan(fake, steps)
    assert wait.path == batch.path.replace(".cmd", "-3.ps1")
    assert wait.content == b"Start-Sleep 1\r\nexit 0\r\n"
    assert b'-File "%CD%\\%name%-3.ps1"\r\n' in batch.content
    apply(fake, (batch, wait), edits)
    assert plan(fake, steps) == ((), ())
    other, _ = plan(fake, (*STEPS, Step("wait", powershell=("exit 0",))))
    assert other[0].path != batch.path


def test_no_steps_no_changes() -> None:
    assert plan(guest(), ()) == ((), ())


# --- the batch file -----------------------------------------------------------------------------


def test_every_label_is_there_once() -> None:
    text = script(STEPS)
    lines = text.split("\r\n")
    labels = [line[1:] for line in lines if line.startswith(":")]
    assert len(labels) == len(set(labels))
    used = set(re.findall(r"(?:goto |call :)(\w+)", text))
    assert used == set(labels)
    assert text.isascii()
    assert "\n" not in text.replace("\r\n", "")


def test_the_start_is_counted_before_anything_is_done() -> None:
    text = script(STEPS)
    counted, steps, first = (text.index(part) for part in (
        '>"%name%.tries" echo', "call :steps", STEPS[0].line))
    assert counted < steps < first
    assert f"if %starts% GTR {first_boot.STARTS} goto used_up" in text[:counted]


def test_windows_is_never_restarted() -> None:
    assert "shutdown" not in script(STEPS).lower()


def test_steps_in_order_with_their_codes() -> None:
    text = script(STEPS)
    assert text.index("call :step_1\r\ncall :step_2\r\n") < text.index(STEPS[0].line)
    assert "for %%c in (0 3010) do" in text
    assert 'set "left=6"' in text


@pytest.mark.parametrize("step", [
    Step("", "ver"),
    Step("a & b", "ver"),
    Step("a%PATH%", "ver"),
    Step("a\nb", "ver"),
    Step("ok", ""),
    Step("ok", "  "),
    Step("ok", "ver", powershell=("exit 0",)),
    Step("ok", powershell=("exit 0\nexit 1",)),
    Step("ok", powershell=("Připojení",)),
    Step("ok", powershell=("exit 0",) * 10_001),
    Step("ok", "echo a\nshutdown /r"),
    Step("ok", "echo a\rb"),
    Step("ok", "echo \x1a"),
    Step("ok", "netsh interface set interface Připojení enabled"),
    Step("ok", "x" * 8001),
    Step("ok", "ver", attempts=0),
    Step("ok", "ver", attempts=1000),
    Step("ok", "ver", success=()),
])
def test_bad_steps_are_refused(step: Step) -> None:
    with pytest.raises(BadStep):
        script([step])
    with pytest.raises(BadStep):
        plan(guest(), (step,))


def test_too_many_steps_are_refused() -> None:
    with pytest.raises(BadStep, match="too many"):
        script([STEPS[0]] * 201)


@pytest.mark.parametrize(("words", "expected"), [
    (["sc.exe", "start", "QEMU-GA"], "sc.exe start QEMU-GA"),
    (["netsh", "name=Local Area Connection"], 'netsh "name=Local Area Connection"'),
    (["echo", "a&b|c>d^e"], 'echo "a&b|c>d^e"'),
    (["echo", "100%"], 'echo "100%%"'),
    (["echo", ""], 'echo ""'),
    (["echo", "!x!"], 'echo "!x!"'),
    ([r"C:\Program Files\a.exe"], r'"C:\Program Files\a.exe"'),
])
def test_quoting(words: list[str], expected: str) -> None:
    assert quote(words) == expected


@pytest.mark.parametrize("word", ['a"b', "C:\\", 'x" & shutdown /r & "'])
def test_what_cannot_be_quoted_is_refused(word: str) -> None:
    with pytest.raises(BadStep):
        quote(["echo", word])
