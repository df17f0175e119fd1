"""Frames behind a leaderboard: recall, reliability and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from examples import finished

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.records.record import Cell
from fergen_bench.report import details
from fergen_bench.report.details import Inspected


def one(arrays: dict[str, Any] | None = None, **changes: Any) -> Inspected:
    values = {"mean": np.ones((7, 4)), "count": np.ones(7), "varying": np.arange(2)}
    values |= {"top": np.array([[0, 1], [2, 3]]), **(arrays or {})}
    names = {"name": "mask", "key": "k", "source": "web", "seed": 0, "target": "web", "relation": "source"}
    return Inspected(**{**names, **changes}, **values)


def test_every_face_counts_once_in_a_reliability_curve() -> None:
    record = finished()  # a is its source, b unseen
    bins = np.zeros((15, 3))
    bins[3], bins[14] = (10, 2.2, 4), (30, 29.4, 27)
    counted = {(record.spec.key, "b"): (bins, None), ("another", "b"): (bins, None)}
    curves = details.reliability_curves({"row": [record, record]}, counted)
    assert curves.relation.tolist() == ["unseen", "unseen"]
    assert curves.faces.tolist() == [20, 60]
    assert curves.confidence.tolist() == pytest.approx([0.22, 0.98])
    assert curves.accuracy.tolist() == pytest.approx([0.4, 0.9])


def test_recall_is_a_mean_over_the_cells_that_have_the_expression() -> None:
    first, second = np.zeros((7, 7), int), np.zeros((7, 7), int)
    first[0, 0], first[1, 0] = 4, 2
    second[0, 0], second[0, 1] = 1, 1
    cells = tuple(Cell(name, "f", "unseen", matrix.tolist()) for name, matrix in (("b", first), ("c", second)))
    table = details.recall_table({"row": [finished(cells=cells)]})
    assert table.loc["row", list(EXPRESSIONS[:2])].tolist() == [75.0, 0.0]
    assert table.loc["row", "anger"] != table.loc["row", "anger"]


def test_likeness_of_masks_by_hand() -> None:
    vectors = np.array([[1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    cosine, correlation = details.similarity(vectors, vectors.mean(0))
    assert cosine[0].tolist() == pytest.approx([1, 1, 0])
    assert correlation[0].tolist() == pytest.approx([1, 1, -1])


def test_every_face_counts_once_in_the_mean_of_an_expression() -> None:
    absent = np.vstack([np.full((1, 4), np.nan), np.ones((6, 4))])
    entries = [
        one({"mean": np.full((7, 4), 3.0), "count": np.full(7, 3)}),
        one({"mean": absent, "count": np.array([0, 1, 1, 1, 1, 1, 1])}, target="film", relation="unseen"),
    ]
    assert details.class_means(entries)[:2, 0].tolist() == [3.0, 2.5]
    assert {name: value[0] for name, value in details.domain_means(entries, "target").items()} == {"web": 3, "film": 1}
