"""Limits and the watchdog, on processes that only look like an appliance."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from imgconv.errors import ImgconvError, UsageError
from imgconv.guest import watchdog
from imgconv.guest.watchdog import ApplianceGone, Limits, Watchdog


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_TICK", 0.05)


def sleeper(name: str) -> subprocess.Popen[bytes]:
    """A process with a word on its command line."""
    return subprocess.Popen(["tail", "-f", "/dev/null", name], stderr=subprocess.DEVNULL)


def reason_of(dog: Watchdog) -> ImgconvError:
    assert dog.reason is not None
    return dog.reason


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMGCONV_TIMEOUT", raising=False)
    assert Limits.from_environment() == Limits(600, 300, 1800)
    monkeypatch.setenv("IMGCONV_TIMEOUT", "30")
    limits = Limits.from_environment()
    assert [limits.of(method) for method in ("launch", "statns", "command")] == [60, 30, 180]
    for wrong in ("x", "0", "-1", "inf", "nan"):
        monkeypatch.setenv("IMGCONV_TIMEOUT", wrong)
        with pytest.raises(UsageError, match="IMGCONV_TIMEOUT"):
            Limits.from_environment()


def test_a_call_over_its_limit_ends_the_appliance_and_nothing_else() -> None:
    with Watchdog(Limits(call=0.6)) as dog, sleeper("imgconv.id=other") as other:
        with sleeper(dog.token) as child:
            os.kill(child.pid, signal.SIGSTOP)
            with dog.watching("statns", "statns"):
                assert child.wait(10) == -signal.SIGKILL
            assert "did not answer for 1 seconds (statns)" in reason_of(dog).message
            assert "IMGCONV_TIMEOUT=1" in reason_of(dog).hint
        assert other.poll() is None
        other.kill()


def test_calls_in_time_are_left_alone() -> None:
    with Watchdog(Limits(call=0.4)) as dog, sleeper(dog.token) as child:
        for _ in range(3):
            with dog.watching("statns", "statns"):
                time.sleep(0.2)
        time.sleep(0.5)
        assert child.poll() is None
        assert dog.reason is None
        dog.end()
        assert child.wait(10) == -signal.SIGKILL


def test_a_signal_ends_the_call_that_waits() -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda number, _: received.append(number))
    try:
        with Watchdog(Limits()) as dog, sleeper(dog.token) as child:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(0.3)
            assert child.poll() is None, "nothing waited for the appliance"
            with dog.watching("command", "update-initramfs"):
                signal.raise_signal(signal.SIGTERM)
                assert child.wait(10) == -signal.SIGKILL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [signal.SIGTERM] * 2
    assert signal.set_wakeup_fd(-1) == -1, "the watchdog has not tidied up"


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "_FULL_SECONDS", 0.1)
    monkeypatch.setattr(watchdog, "_FULL_BYTES", 1 << 62)
    with Watchdog(Limits(), [tmp_path / "overlay"]) as dog, sleeper(dog.token) as child:
        with dog.watching("write", "write"):
            assert child.wait(10) == -signal.SIGKILL
        assert f"{tmp_path} is full" in reason_of(dog).message
    assert isinstance(dog.reason, ApplianceGone)
