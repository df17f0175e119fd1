"""Rows of a submission, and which of them are incomplete."""

from __future__ import annotations

from sample_records import adapted, entry

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
    said: list[str] = []
    assert {one.spec.method for one in complete(records, said.append)} == {"whole", "other"}
    (sentence,) = said
    assert sentence.endswith("trial: the whole row is left out: trained on a, it has 2 of 4 cells of whole")


def test_the_sentence_on_an_incomplete_row_does_not_depend_on_the_order_of_records() -> None:
    whole = [*row("whole", ("a", 0), ("b", 0), ("c", 0)), *row("other", ("a", 0), ("b", 0), ("d", 0))]
    records = [*row("trial", ("a", 0), ("b", 0)), *whole]
    (sentence,) = (said for _, said in incomplete(rows_of(records)))
    assert [said for _, said in incomplete(rows_of(reversed(records)))] == [sentence]


def test_fewer_seeds_do_not_make_a_row_incomplete() -> None:
    records = [*row("three", ("a", 0), ("a", 1), ("a", 2)), *row("one", ("a", 0))]
    assert not list(incomplete(rows_of(records)))
    said: list[str] = []
    assert complete(records, said.append) == records
    assert not said


def test_a_seed_that_a_training_lacks_is_left_out_of_complete_rows() -> None:
    records = row("cafe", ("a", 0), ("b", 0), ("a", 5))
    assert "the training on b lacks seed 5" in rows_of(records)[0].uneven
    said: list[str] = []
    assert complete(records, said.append) == records[:2]
    (sentence,) = said
    assert sentence.endswith("cafe: 1 run is left out, because the training on b lacks seed 5")
    assert not rows_of(records[:2])[0].uneven


def test_a_row_without_a_common_seed_is_left_out_with_a_sentence() -> None:
    said: list[str] = []
    assert complete(row("cafe", ("a", 0), ("b", 1)), said.append) == []
    (sentence,) = said
    assert sentence.endswith(
        "cafe: the whole row is left out, because the training on a lacks seed 1 and the training on b lacks seed 0"
    )


def test_seeds_of_trainings_adapted_to_different_targets_are_not_compared() -> None:
    records = [adapted("a", "film", 90, 60, seed=0), adapted("a", "film", 90, 61, seed=1), adapted("a", "web", 80, 50)]
    (only,) = rows_of(records)
    said: list[str] = []
    assert (only.uneven, complete(records, said.append), said) == ("", records, [])
    records.append(adapted("b", "film", 70, 40))
    (only,) = rows_of(records)
    assert "coral: the training on b adapted to film lacks seed 1; run it" in only.uneven
    assert complete(records, said.append) == [records[0], records[2], records[3]]
    assert len(said) == 1
