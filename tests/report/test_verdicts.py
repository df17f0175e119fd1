"""Verdicts on the rows of a leaderboard."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sample_predictions import elsewhere, gathered, keep, matrix, predictions
from sample_records import views
from scipy import stats

from fergen_bench.report import folder, tables, terminal, verdicts
from fergen_bench.report.intervals import Sampled
from fergen_bench.report.leaderboard import LeaderboardView
from fergen_bench.report.pairs import compared_pairs

SEEDS = {("web", ""): ((0, 1), np.zeros(2))}
"""Seeds that do not vary, so that p follows from the replicates alone."""


def test_p_of_two_rows_is_that_of_a_normal_distribution() -> None:
    random = np.random.default_rng(0)
    rows = {
        0: (2.0, Sampled(random.normal(0, 1, 20_000), SEEDS)),
        1: (0.0, Sampled(random.normal(0, 1, 20_000), SEEDS)),
    }
    assert verdicts.against_best(rows)[1] == pytest.approx(2 * stats.norm.sf(2 / np.sqrt(2)), abs=0.01)


def test_p_is_that_of_multiple_comparisons_with_the_best() -> None:
    random = np.random.default_rng(0)
    values = [2.5, 0.1, 0.0, -0.1, -0.2]
    rows = {place: (value, Sampled(random.normal(0, 1, 20_000), SEEDS)) for place, value in enumerate(values)}
    found = verdicts.against_best(rows)
    box = np.full(4, 2.7 / np.sqrt(2))  # its distances from the four others have correlations of 1/2
    normal = stats.multivariate_normal(np.zeros(4), (np.eye(4) + 1) / 2)
    assert found[4] == pytest.approx(1 - normal.cdf(box, lower_limit=-box), abs=0.01)
    assert sorted(found.values(), reverse=True) == [found[place] for place in (1, 2, 3, 4)]


@pytest.mark.parametrize("count", [2, 5, 12])
def test_the_row_that_is_truly_best_is_rarely_behind_however_many_there_are(count: int) -> None:
    random, wrong, trials = np.random.default_rng(2), 0, 200
    for _ in range(trials):
        values = random.normal(0, 1, count)  # all are equally good, so any of them may be taken for the best one
        order = np.argsort(-values)
        rows = {int(place): (values[place], Sampled(random.normal(0, 1, 500), SEEDS)) for place in order}
        wrong += verdicts.against_best(rows).get(0, 1.0) < 0.05
    assert wrong <= trials * 0.05


def test_rows_far_behind_do_not_change_the_p_of_rows_near_the_best() -> None:
    random = np.random.default_rng(3)
    near = {place: (value, Sampled(random.normal(0, 1, 2000), SEEDS)) for place, value in enumerate((4.0, 0.3, 0.2))}
    far = {place: (-100.0 - place, Sampled(random.normal(0, 1, 2000), SEEDS)) for place in range(3, 22)}
    alone, among = verdicts.against_best(near), verdicts.against_best({**near, **far})
    assert {place: among[place] for place in (1, 2)} == alone
    assert max(among[place] for place in far) < 0.001


def test_rows_whose_largest_factor_cannot_matter_have_the_p_of_all_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    rows = {}
    for place, value in enumerate((9.0, 8.0, 6.0, 3.0, -20.0)):
        seeds = (0, 1, 2) if place % 2 else (0, 1)  # rows of other seeds are not paired
        parts = {("web", ""): (seeds, random.normal(size=len(seeds)))}
        rows[place] = value, Sampled(random.normal(0, 1, 2000), parts)
    found = verdicts.against_best(rows)
    monkeypatch.setattr(verdicts, "_largest", lambda freedom, count: np.inf)
    assert verdicts.against_best(rows) == found
    assert found[1] > 0.05 > found[4]


def test_rows_of_one_training_or_without_predictions_are_not_compared_and_do_not_hinder_others() -> None:
    random = np.random.default_rng(4)
    drawn = [Sampled(value + random.normal(0, 0.1, 500), SEEDS) for value in (90, 80, 70, 60)]
    single = replace(drawn[0], parts={("web", ""): ((0,), np.zeros(1))})
    found = verdicts.compared([90, 80, 70, 60, np.nan], [single, *drawn[1:3], None, None])
    assert [verdict.standing for verdict in found] == ["not compared", "best", "behind", "not compared", "not compared"]
    assert [verdict.reason for verdict in found] == [
        verdicts.ONE_TRAINING,
        "",
        "",
        verdicts.NO_PREDICTIONS,
        verdicts.NO_UNSEEN,
    ]
    alone = verdicts.compared([90, 80], [single, drawn[1]])
    assert [verdict.reason for verdict in alone] == [verdicts.ONE_TRAINING, verdicts.ALONE]


def test_a_leaderboard_says_who_is_tied_with_the_best(tmp_path: Path, sketched: None) -> None:
    records = [
        *matrix(tmp_path, "good", 0.7),
        *matrix(tmp_path, "fair", 0.699),
        *matrix(tmp_path, "poor", 0.55),
        *matrix(tmp_path, "unknown", 0.6, kept=False),
    ]
    found, cells = gathered(records, tmp_path)
    (board,) = verdicts.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    table = board.table.set_index("method")
    for standing in ("standing", "unseen_balanced_accuracy_standing", "unseen_macro_f1_standing"):
        assert table[standing][["poor", "unknown"]].tolist() == ["behind", "not compared"]
        assert sorted(table[standing][["good", "fair"]]) == ["best", "tied"]
    known = table.drop(index="unknown")
    for mean in (*tables.MEANS, "unseen_balanced_accuracy", "unseen_macro_f1"):
        assert (known[f"{mean}_low"] < known[mean]).all()
        assert (known[mean] < known[f"{mean}_high"]).all()
    assert np.isnan(table.loc["unknown", "unseen_low"])
    assert (table.unseen_domains_high - table.unseen_domains_low > 0).all()
    folder.write(tmp_path / "report", views([board]))
    text, latex = ((tmp_path / "report" / f"leaderboard.{kind}").read_text() for kind in ("md", "tex"))
    assert "| tied |" in text
    assert "| — | not compared |" in text
    assert "(tied)" in latex
    frame = pd.read_csv(tmp_path / "report" / "leaderboard.csv")
    assert {"unseen_ece", "unseen_ece_tempered", "unseen_macro_f1", "unseen_recall_fear", "standing"} <= set(frame)
    console = Console(width=80, record=True, file=StringIO())
    terminal.show(console, views([board]), [])
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "tied" in text


def test_a_row_of_one_training_is_not_compared(tmp_path: Path) -> None:
    records = [
        *matrix(tmp_path, "good", 0.7),
        *matrix(tmp_path, "fair", 0.699),
        *matrix(tmp_path, "poor", 0.5, seeds=1),
    ]
    found, cells = gathered(records, tmp_path)
    (board,) = verdicts.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    assert board.table.standing.tolist() == ["best", "tied", "not compared"]
    assert board.table.standing_reason[2] == verdicts.ONE_TRAINING
    view = LeaderboardView(board, "accuracy")
    assert view.answers[0].endswith("; not significantly different: fair.")
    assert [[marker.short for marker in row.markers] for row in view.rows] == [[], [], ["one training"]]
    assert any(note == "Rows have 2 seeds, but poor 1" for note in view.notes)


def test_without_an_unseen_target_no_row_is_best_or_behind(tmp_path: Path) -> None:
    labels, faces = np.arange(300) % 7, np.arange(300)
    records = [
        keep(tmp_path, {"a": predictions(labels, faces < right)}, method=name, seed=seed)
        for name, right in (("good", 250), ("poor", 150))
        for seed in (0, 1)
    ]
    found, cells = gathered(records, tmp_path)
    (board,) = verdicts.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    assert board.table.in_domain_low.notna().all()
    assert board.table.standing.tolist() == ["not compared", "not compared"]
    assert not any("best" in note for note in LeaderboardView(board, "accuracy").notes)


def test_without_predictions_nothing_is_compared(tmp_path: Path, sketched: None) -> None:
    records = [*matrix(tmp_path, "good", 0.7, kept=False), *matrix(tmp_path, "poor", 0.55, kept=False)]
    found, cells = gathered(records, tmp_path)
    (board,) = verdicts.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    assert (board.table.standing == "not compared").all()
    folder.write(tmp_path / "report", views([board]))
    assert "95 % of unseen" not in (tmp_path / "report" / "leaderboard.md").read_text()
    assert np.isnan(board.table.unseen_ece).all()


def test_finished_models_that_saw_other_targets_are_not_compared(tmp_path: Path, sketched: None) -> None:
    labels, faces = np.arange(300) % 7, np.arange(300)
    said = {name: predictions(labels, faces < right) for name, right in (("a", 280), ("b", 200), ("c", 150))}
    records = [elsewhere(tmp_path, said, name, *seen) for name, *seen in (("x", "a"), ("y", "c"), ("z", "a", "c"))]
    found, cells = gathered(records, tmp_path)
    (board,) = verdicts.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    assert set(board.table.standing) == {"not compared"}  # equal predictions, unequal targets
    assert set(board.table.standing_reason) == {verdicts.OTHER_CELLS, verdicts.ALONE}
    assert not list(compared_pairs(board, found, "accuracy"))
    folder.write(tmp_path / "report", views([board]), evidence=found)
    same = [elsewhere(tmp_path, said, name, "c") for name in ("v", "w")]
    found, cells = gathered([*records, *same], tmp_path)
    (board,) = verdicts.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    assert sorted(board.table.standing) == ["best", "not compared", "not compared", "tied", "tied"]
    assert len(list(compared_pairs(board, found, "accuracy"))) == 3


def test_a_row_whose_mean_is_over_other_cells_is_not_compared() -> None:
    def cells(*names: str) -> frozenset[object]:
        return frozenset(names)

    assert verdicts._others([cells("a", "b"), cells("a"), cells("a", "b")]) == [1]
    assert verdicts._others([cells("a"), cells("a", "b")]) == [0]
    assert verdicts._others([cells("a", "b"), cells()]) == []  # the second row lacks a mean
    assert verdicts._others([cells(), cells(), cells("a", "b")]) == []  # and no number of such rows matters
    assert verdicts._others([]) == []
    (first, second) = verdicts.compared([80.0, 70.0], [None, None], others=[1])
    assert (first.standing, second.standing) == (verdicts.NOT_COMPARED, verdicts.NOT_COMPARED)
    assert second.reason == verdicts.NO_PREDICTIONS
