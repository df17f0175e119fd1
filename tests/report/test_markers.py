"""Marks of the rows of a leaderboard."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sample_records import MATRIX, board, entry, ranked, views

from fergen_bench.records.record import RunRecord
from fergen_bench.report import markers, notes
from fergen_bench.report.leaderboard import LeaderboardView


def trainings(scores: np.ndarray) -> pd.DataFrame:
    """Cells of trainings with a mean accuracy (sources, seeds), on two targets that differ by 8 points."""
    lines = [
        {"source": f"s{source}", "adapted_to": "", "seed": seed, "target": target, "accuracy": score + more}
        for (source, seed), score in np.ndenumerate(scores)
        for target, more in (("a", -4.0), ("b", 4.0))
    ]
    return pd.DataFrame(lines)


def test_a_training_far_below_its_siblings_is_found_with_its_distance() -> None:
    scores = np.random.default_rng(0).normal([[80], [70], [60], [75], [65]], 1.0, (5, 3))
    assert markers.collapsed_trainings(trainings(scores)) == []
    scores[2, 1] = scores[2].max() - 20
    (found,) = markers.collapsed_trainings(trainings(scores))
    assert (found.source, found.seed) == ("s2", 1)
    assert found.points == pytest.approx(20)
    assert markers.collapsed_trainings(trainings(scores[:, :1])) == []  # one seed has no sibling


def test_trainings_that_vary_widely_are_not_collapsed() -> None:
    random, marked = np.random.default_rng(1), 0
    for _ in range(100):
        marked += bool(markers.collapsed_trainings(trainings(random.normal(50, 3.0, (5, 3)))))
    assert marked <= 5


def test_marks_of_a_row_and_the_notes_below_the_table() -> None:
    again = [entry(item.spec.sources[0], {c.target: c.confusion[0][0] for c in item.cells}, seed=1) for item in MATRIX]
    one = [entry(item.spec.sources[0], {c.target: 40 for c in item.cells}, method="eac") for item in MATRIX]
    view = LeaderboardView(board([*MATRIX, *again, *one]), "accuracy")
    assert {row.name: [marker.short for marker in row.markers] for row in view.rows} == {
        "cafe": ["seeds alike"],
        "eac": ["one training"],
    }
    assert "Rows have 2 seeds, but eac 1" in view.cautions
    assert "Seeds do not change the scores of cafe: their ± is 0" in view.cautions
    lost = [
        entry("a", {"a": 90, "b": 60}),
        entry("a", {"a": 60, "b": 30}, seed=1),
        entry("a", {"a": 90, "b": 61}, seed=2),
    ]
    view = LeaderboardView(board(lost), "accuracy")
    (marker,) = view.rows[0].markers
    assert marker.short == "collapsed training"
    assert "far below another seed of the same source: a, seed 1, by 30 points" in marker.reason
    assert any(note.startswith("cafe: 1 training lies far below") for note in view.cautions)


def test_targets_without_an_expression_and_with_few_faces_are_named() -> None:
    cells = board([entry("a", {"a": 90, "b": 60, "c": 50, "d": 40})]).cells
    few = cells.assign(faces=cells.faces.where(cells.target != "d", 3))
    found = notes._of_targets(type(board(MATRIX))(**{**vars(board(MATRIX)), "cells": few}))
    assert any("surprise" not in note and note.startswith("No face of fear, disgust") for note in found)
    assert any("d (3 faces) too" in note for note in found)


def test_seeds_that_hardly_vary_are_named_and_not_those_of_a_training_that_draws() -> None:
    def rows(method: str, moved: dict[str, int]) -> list[RunRecord]:
        found = []
        for seed in (0, 1):
            for source in "abc":
                rights = {target: 60 + seed * moved[source] for target in "abc"}
                record = entry(source, rights, seed=seed, method=method)
                found.append(record)
        return found

    records = [*rows("still", {"a": 0, "b": 0, "c": 5}), *rows("drawing", {"a": 0, "b": 4, "c": 5})]
    (view,) = views(ranked(records))
    marks = {row.name: [marker.short for marker in row.markers] for row in view.rows}
    assert ("seeds hardly vary" in marks["still"], "seeds hardly vary" in marks["drawing"]) == (True, False)
    (note,) = [note for note in view.notes if note.startswith("Seeds hardly change the scores of still")]
    assert "its ± does not compare with that of other rows" in note
