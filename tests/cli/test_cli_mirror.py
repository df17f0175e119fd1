"""`fergen-bench sync`: its summary."""

from __future__ import annotations

import pytest

from fergen_bench.cli.mirror import _summary


@pytest.mark.parametrize(
    ("written", "total", "said"),
    [
        (0, 0, "No records to mirror; make some with: fergen-bench run"),
        (0, 1, "1 record: 1 already mirrored to X"),
        (0, 29, "29 records: 29 already mirrored to X"),
        (1, 1, "1 of 1 record written to X"),
        (2, 2, "2 of 2 records written to X"),
        (3, 29, "3 of 29 records written to X, 26 already mirrored"),
    ],
)
def test_the_summary_of_sync(written: int, total: int, said: str) -> None:
    assert _summary(written, total, "X") == said
