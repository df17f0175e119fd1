"""Means and curves of scores on changed test images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from examples import SPEC, finished

from fergen_bench.data.corruption import CLEAN, FACTORS, VERSION
from fergen_bench.records import frame as frames
from fergen_bench.records import store
from fergen_bench.records.frame import shifted_frame
from fergen_bench.records.record import RunRecord, ShiftedCell
from fergen_bench.report import figures, shifts


def shifted(right: int, factor: str, level: float, faces: int = 100, **changes: Any) -> ShiftedCell:
    confusion = np.zeros((7, 7), int)
    confusion[0, :2] = right, faces - right
    values = {"relation": "source", "version": VERSION, "fingerprint": "f1", "target": "a", **changes}
    return ShiftedCell(factor=factor, level=level, faces=faces, confusion=confusion.tolist(), **values)


def entries() -> list[RunRecord]:
    rights = {0: (90, 80, 60), 1: (80, 80, 50)}
    return [
        finished(
            replace(SPEC, seed=seed, synthetic=True),
            shifted=(
                shifted(clean, CLEAN, 0),
                shifted(1, CLEAN, 0, faces=10),
                shifted(mild, "blur", 1),
                shifted(hard, "blur", 5),
                shifted(0, "jpeg", 1, version=VERSION - 1),
            ),
        )
        for seed, (clean, mild, hard) in rights.items()
    ]


def test_factor_cells_are_stored_and_not_part_of_a_leaderboard(tmp_path: Path) -> None:
    (one, other) = entries()
    assert store.load(store.save(one, tmp_path)) == one
    plain = [replace(entry, shifted=()) for entry in (one, other)]
    assert frames.cells_frame([one, other]).equals(frames.cells_frame(plain))
    stale = replace(one, shifted=(*one.shifted, shifted(5, "blur", 1, fingerprint="old")))
    (kept,) = frames.current([stale])
    assert kept.shifted == one.shifted


def test_factor_means_are_over_seeds_and_the_same_images() -> None:
    (board,) = shifts.shift_boards(shifted_frame(entries()))
    assert set(board.cells.factor) == {CLEAN, "blur"}, "cells of an older version of a factor are left out"
    means = shifts.shift_means(board.cells, "blur", "accuracy").set_index("level")
    assert means["mean"].to_dict() == {0: 85, 1: 80, 5: 55}
    assert means.sd.tolist() == pytest.approx([50**0.5, 0, 50**0.5])
    assert means.seeds.tolist() == [2, 2, 2]


def test_a_seed_that_lacks_a_cell_does_not_count() -> None:
    one, other = entries()
    more = replace(
        other, shifted=(*other.shifted, shifted(10, "blur", 1, target="b"), shifted(10, CLEAN, 0, target="b"))
    )
    means = shifts.shift_means(shifted_frame([one, more]), "blur", "accuracy")
    assert means[means.level == 1].seeds.tolist() == [1]
    assert means[means.level == 1]["mean"].tolist() == [45]
    assert 5 not in set(means.level)


@pytest.mark.parametrize("factor", ["blur", "pose"])
def test_curves_are_drawn_for_severities_and_for_values(factor: str) -> None:
    changed = [
        replace(
            entry, shifted=(shifted(90, CLEAN, 0), *(shifted(80, factor, level) for level in FACTORS[factor].levels))
        )
        for entry in entries()
    ]
    figure = figures.shift_curves(shifted_frame(changed), factor, "accuracy", "s")
    (axes,) = figure.axes
    assert axes.get_xlabel() == FACTORS[factor].about
    assert len(axes.lines[0].get_xdata()) == len(FACTORS[factor].levels) + (factor == "blur")
