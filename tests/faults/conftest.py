"""Sums up the kills at the end of the run, from whichever process they were tried in."""

from __future__ import annotations

from typing import Any

import pytest
from _pytest.terminal import TerminalReporter


def pytest_terminal_summary(terminalreporter: TerminalReporter) -> None:
    scores: list[Any] = [value for reports in terminalreporter.stats.values() for report in reports
                         if isinstance(report, pytest.TestReport) and report.when == "call"
                         for name, value in report.user_properties
                         if name == "kills"]
    if scores:
        total = {key: sum(score[key] for score in scores) for key in ("tried", "old", "new")}
        lost = sum(len(score["lost"]) for score in scores)
        terminalreporter.write_line(
            f"kill -9: points tried {total['tried']} (then wholly old {total['old']}, wholly new "
            f"{total['new']}), lost {lost}")
