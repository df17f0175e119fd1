"""The sentence that answers which row is best."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sample_records import MATRIX, board, entry

from fergen_bench.report.answers import answer, disagreement
from fergen_bench.report.tables import Board
from fergen_bench.report.verdicts import NO_PREDICTIONS, ONE_TRAINING, OTHER_CELLS

ROWS = [
    entry(item.spec.sources[0], {cell.target: cell.confusion[0][0] - less for cell in item.cells}, method=name)
    for name, less in (("cafe", 0), ("eac", 1), ("scn", 9))
    for item in MATRIX
]


def judged(standing: list[str], reason: str = "", metric: str = "accuracy", **columns: list[float]) -> Board:
    """A leaderboard of cafe, eac and scn, best first, with these standings."""
    found = board(ROWS)
    values = {f"unseen_{metric}_{name}": value for name, value in columns.items()}
    reasons = [reason if word == "not compared" else "" for word in standing]
    words = {f"unseen_{metric}_standing": standing, f"unseen_{metric}_standing_reason": reasons}
    return replace(found, table=found.table.assign(**values, **words))


def test_the_best_row_its_interval_and_the_tied_rows_are_named() -> None:
    ends = {"low": [50.1, 49.0, 40.0], "high": [53.2, 52.0, 44.0]}
    found = judged(["best", "tied", "behind"], **ends)
    said = "On unseen domains cafe is best by accuracy, 51.7 (50.1–53.2); not significantly different: eac."
    assert answer(found, "accuracy") == said
    assert answer(found, "accuracy", first=False).startswith("By accuracy cafe is best, 51.7 (50.1–53.2); not")
    alone = answer(judged(["best", "behind", "behind"], **ends), "accuracy")
    assert alone.endswith("(50.1–53.2); significantly behind: the 2 other rows.")


def test_a_row_that_is_not_compared_is_not_called_best() -> None:
    found = answer(judged(["not compared", "best", "behind"], ONE_TRAINING), "accuracy")
    assert found.startswith("On unseen domains eac is best by accuracy, 50.7; significantly behind: the other row")
    assert found.endswith("; higher, but not compared: cafe.")
    nobody = answer(judged(["not compared"] * 3, ONE_TRAINING), "accuracy")
    assert nobody == (
        "On unseen domains cafe is highest by accuracy, 51.7; one training of each source: this holds for these "
        "trainings only."
    )
    assert "predictions are not beside" in answer(judged(["not compared"] * 3, NO_PREDICTIONS), "accuracy")


def test_means_over_different_cells_have_no_order() -> None:
    apart = judged(["not compared"] * 3, OTHER_CELLS)
    assert answer(apart, "accuracy") == (
        "On unseen domains cafe is highest by accuracy, 51.7; the rows have means over different cells, which are not "
        "compared."
    )
    columns = {"unseen_macro_f1": [40.0, 45.0, 30.0], "unseen_macro_f1_standing_reason": OTHER_CELLS}
    assert disagreement(replace(apart, table=apart.table.assign(**columns)), ["accuracy", "macro_f1"]) == ""


def test_metrics_that_disagree_are_said_to() -> None:
    found = judged(["best", "behind", "behind"])
    assert disagreement(found, ["accuracy", "macro_f1"]) == ""
    other = found.table.assign(unseen_macro_f1=[40.0, 45.0, 30.0])
    assert disagreement(replace(found, table=other), ["accuracy", "macro_f1"]) == (
        "The metrics disagree about the best row: cafe by accuracy; eac by macro F1."
    )
    none = replace(found, table=found.table.assign(unseen_accuracy=np.nan))
    assert answer(none, "accuracy") == "No row has a mean over unseen domains by accuracy."
    overlapping = replace(none, cells=none.cells.assign(relation="seen", target="web"))
    assert answer(overlapping, "accuracy") == (
        "No row has a mean over unseen domains by accuracy; seen (in common with a source or pre-training): web."
    )
