"""A table has one row per face, with the same columns whatever was found."""

from __future__ import annotations

import numpy as np
import pytest

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.prediction.answer import Answer, table

SURE, UNSURE = (np.array([0.9, 0.1, 0, 0, 0, 0, 0]), np.full(7, 1 / 7))


def test_a_table_has_a_row_per_face() -> None:
    answers = [Answer("a.jpg", 0, (1, 2, 30, 40), SURE, 0.8), Answer("b.mp4", 1, (0, 0, 9, 9), UNSURE, None, 1.5)]
    frame = table(answers, at_least=0.5)
    assert list(frame.columns) == [
        *("file", "seconds", "face", "left", "top", "width", "height", "expression", "confidence", "score"),
        *EXPRESSIONS,
    ]
    assert frame.expression.tolist() == ["surprise", "uncertain"]
    assert frame.confidence.tolist() == pytest.approx([0.9, 1 / 7])
    assert frame.seconds.isna().tolist() == [True, False]
    assert frame[["left", "top", "width", "height"]].to_numpy().tolist() == [[1, 2, 30, 40], [0, 0, 9, 9]]
    assert table(answers, at_least=0).expression.tolist() == ["surprise", "surprise"]


def test_a_table_of_nothing_has_the_same_types() -> None:
    empty, full = table([], 0.5), table([Answer("a", 0, (0, 0, 1, 1), SURE)], 0.5)
    assert len(empty) == 0
    assert empty.drop(columns=["file", "expression"]).dtypes.equals(full.drop(columns=["file", "expression"]).dtypes)
