"""Rows of a submission, and which of them are incomplete."""

from __future__ import annotations

from sample_records import entry

from fergen_bench.records.record import RunRecord
from fergen_bench.submission.rows import complete, incomplete, rows_of

BOTH = {"a": 90, "b": 70}


def row(method: str, *trainings: tuple[str, int]) -> list[RunRecord]:
    return [entry(source, BOTH, method=method, seed=seed) for source, seed in trainings]


def test_a_row_that_another_one_contains_is_incomplete() -> None:
    records = [*row("whole", ("a", 0), ("b", 0)), *row("trial", ("a", 0)), *row("other", ("c", 0))]
    found = dict(incomplete(rows_of(records)))
    assert [(one.spec.method, one.trained_on, one.seeds) for one in found] == [("trial", "a", [0])]
    assert "trial is an incomplete row: trained on a, it has 2 of 4 cells of whole" in next(iter(found.values()))
    assert {one.spec.method for one in complete(records)} == {"whole", "other"}


def test_fewer_seeds_do_not_make_a_row_incomplete() -> None:
    records = [*row("three", ("a", 0), ("a", 1), ("a", 2)), *row("one", ("a", 0))]
    assert not list(incomplete(rows_of(records)))
    assert complete(records) == records


def test_a_seed_that_a_training_lacks_is_left_out_of_complete_rows() -> None:
    records = row("cafe", ("a", 0), ("b", 0), ("a", 5))
    assert "the training on b lacks seed 5" in rows_of(records)[0].uneven
    assert complete(records) == records[:2]
    assert not rows_of(records[:2])[0].uneven
