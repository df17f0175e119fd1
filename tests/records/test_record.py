"""The record of a run: which runs it answers, and the values derived from it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from examples import SPEC, example_predictions, finished

from fergen_bench.records.record import Cell, ShiftedCell, scored_cell


def test_a_record_answers_a_run_with_the_same_targets_and_exclusions() -> None:
    record = finished()
    assert record.answers(SPEC)
    assert record.answers(replace(SPEC, targets={"b": "f2"}))
    assert not record.answers(replace(SPEC, targets={"a": "f1", "b": "f9"}))
    assert not record.answers(replace(SPEC, targets={"c": "f3"}))
    assert not record.answers(replace(SPEC, excluded={"b": "0123456789ab"}))


def test_corruptions_count_for_the_present_state_of_a_target() -> None:
    cells = tuple(
        ShiftedCell(name, state, "unseen", "blur", 1.0, 100, 1, np.eye(7, dtype=int).tolist())
        for name, state in (("a", "f1"), ("b", "outdated"))
    )
    record = finished(shifted=cells)
    assert [(shift.target, shift.factor) for shift in record.shifts_of(SPEC)] == [("a", "blur")]


def test_predictions_score_the_images_that_are_not_left_out() -> None:
    predictions = example_predictions(8)
    logits, labels = predictions.scored
    assert (len(logits), labels.tolist()) == (7, [0, 2, 3, 4, 5, 6, 0])
    cell = scored_cell(SPEC, "b", "f2", predictions)
    assert (cell.relation, cell.count) == ("unseen", 7)
    assert np.array(cell.confusion)[:, 0].tolist() == [2, 0, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("environment", "device"),
    [
        ({"device": "Xeon", "threads": 1}, "Xeon, 1 thread"),
        ({"device": "Xeon", "threads": 4}, "Xeon, 4 threads"),
        ({"device": "A100", "threads": 4, "cuda": "13"}, "A100"),
        ({}, "unknown device"),
    ],
)
def test_the_device_includes_threads_on_a_processor(environment: dict[str, object], device: str) -> None:
    assert finished(environment=environment).device == device


def test_values_computed_when_reading_are_not_stored() -> None:
    cell = replace(finished().cells[1], mark="not audited", audited=False, uncounted=3, seen_share=0.1)
    stored = finished(cells=(cell,)).to_json()["cells"][0]
    assert not {"mark", "audited", "stale", "left_out", "uncounted", "seen_share"} & set(stored)
    assert Cell(**stored) == finished().cells[1]
