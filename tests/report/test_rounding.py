"""Rounding of the numbers that a report prints."""

from __future__ import annotations

from fergen_bench.report import tables
from fergen_bench.report.rounding import tenth


def test_numbers_as_they_are_printed() -> None:
    assert [tables.number(61.44), tables.number(61.44, 0.25), tables.number(float("nan"))] == [
        "61.4",
        "61.4 ± 0.3",
        "—",
    ]
    halves = [58.75, 58.75 - 1e-9, 58.25, -4.85 + 1e-9, 0.04, -0.04]
    assert [tenth(value) for value in halves] == ["58.8", "58.8", "58.3", "-4.9", "0.0", "0.0"]
    assert [tenth(value, signed=True) for value in halves[3:]] == ["-4.9", "0.0", "0.0"]
    assert tenth(4.85, signed=True) == "+4.9"
    assert tables.letters(28)[-3:] == ["z", "aa", "ab"]
