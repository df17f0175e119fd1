"""Mean ranks over the unseen cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sample_predictions import matrix
from scipy import stats

from fergen_bench.records.frame import cells_frame
from fergen_bench.report import figures, ranking, tables


def test_ranks_are_those_of_friedman_and_nemenyi(tmp_path: Path) -> None:
    skills = {"good": 0.7, "fair": 0.6, "poor": 0.5, "last": 0.3}
    records = [entry for name, skill in skills.items() for entry in matrix(tmp_path, name, skill, kept=False)]
    (board,) = tables.boards(cells_frame(records), "accuracy")
    found = ranking.ranking(board, "accuracy")
    assert found is not None
    assert found.ranks.to_dict() == {"good": 1, "fair": 2, "poor": 3, "last": 4}
    assert found.blocks == 12
    scores = [cells[cells.relation == "unseen"].accuracy for _, cells in board.rows()]
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores).pvalue)
    # Demšar (JMLR 2006, table 5): q = 2.569 for four classifiers at 5 %.
    assert found.distance == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 12)), abs=1e-3)
    assert found.groups == [("good", "fair"), ("fair", "poor"), ("poor", "last")]
    assert figures.critical_difference(board, found).axes
    fewer = tables.boards(cells_frame(records[:12]), "accuracy")
    assert ranking.ranking(next(fewer), "accuracy") is None


def test_methods_that_never_differ_are_one_group(tmp_path: Path) -> None:
    records = [entry for name in ("x", "y", "z") for entry in matrix(tmp_path, name, 0.6, kept=False)]
    (board,) = tables.boards(cells_frame(records), "accuracy")
    found = ranking.ranking(board, "accuracy")
    assert found is not None
    assert found.p == 1
    assert found.groups == [("x", "y", "z")]
