"""All pairs of rows from one resampling of each row."""

from __future__ import annotations

from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal
from sample_predictions import gathered, matrix

from fergen_bench.metric import METRICS
from fergen_bench.report import tables
from fergen_bench.report.comparison import answer, compare
from fergen_bench.report.pairs import compared_pairs


@pytest.mark.parametrize("metric", METRICS)
def test_a_pair_has_the_numbers_of_compare(tmp_path: Path, metric: str) -> None:
    records = [*matrix(tmp_path, "good", 0.7), *matrix(tmp_path, "fair", 0.65), *matrix(tmp_path, "poor", 0.5)]
    evidence, cells = gathered(records, tmp_path)
    (board,) = tables.boards(cells, metric)
    rows = list(board.rows())
    found = list(compared_pairs(board, evidence, metric))
    assert [(one, two) for one, two, _ in found] == [(0, 1), (0, 2), (1, 2)]
    assert [(one, two) for one, two, _ in compared_pairs(board, evidence, metric, 1)] == [(1, 2)]
    for one, two, result in found:
        expected = compare(rows[two][1], rows[one][1], evidence, metric)
        numbers = ("value", "low", "high", "p", "domains_low", "domains_high")
        assert [getattr(result.unseen, name) for name in numbers] == pytest.approx(
            [getattr(expected.unseen, name) for name in numbers], rel=1e-4, abs=1e-6, nan_ok=True
        )
        assert_frame_equal(
            result.targets.set_index("target").sort_index(),
            expected.targets.set_index("target").sort_index()[list(result.targets)[1:]],
            rtol=1e-3,
            atol=1e-6,
        )
        assert answer("x", "y", result) == answer("x", "y", expected)


def test_rows_that_differ_in_seeds_or_lack_predictions_are_left_to_compare(tmp_path: Path) -> None:
    records = [
        *matrix(tmp_path, "good", 0.7),
        *matrix(tmp_path, "fair", 0.6, seeds=3),
        *matrix(tmp_path, "poor", 0.5),
        *matrix(tmp_path, "unknown", 0.4, kept=False),
    ]
    evidence, cells = gathered(records, tmp_path)
    (board,) = tables.boards(cells, "accuracy")
    names = list(dict(board.rows()))
    found = [{names[one], names[two]} for one, two, _ in compared_pairs(board, evidence, "accuracy")]
    assert found == [{"good", "poor"}]
