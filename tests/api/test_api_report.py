"""`fb.report` writes a report, and is a package too."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import fergen_bench as fb


def test_report_is_a_function_and_a_package(results: fb.Results, tmp_path: Path) -> None:
    import fergen_bench.report.terminal as terminal  # the form that reads `report` as an attribute
    from fergen_bench.api.report import report

    page = fb.report(results, to=tmp_path / "written")
    assert page == tmp_path / "written" / "index.html"
    assert page.is_file()
    assert (tmp_path / "written" / "leaderboard.csv").is_file()
    assert inspect.signature(fb.report) == inspect.signature(report)
    assert fb.report.terminal is sys.modules["fergen_bench.report.terminal"] is terminal
