"""Two rows of a report compared."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sample_predictions import gathered, keep, matrix, predictions

from conftest import Bench
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import Project
from fergen_bench.records.record import RunRecord
from fergen_bench.records.store import save
from fergen_bench.report import comparison, tables, terminal


def test_a_target_of_which_no_face_was_scored_is_no_test(tmp_path: Path) -> None:
    labels, faces = np.arange(300) % 7, np.arange(300)

    def run(name: str, right: int) -> RunRecord:
        said = predictions(labels, faces < right)
        unscored = replace(said, left_out=np.ones(300, bool))
        return keep(tmp_path, {"a": said, "b": said, "c": unscored}, method=name)

    found, cells = gathered([run("poor", 200), run("good", 210)], tmp_path)
    one, other = cells[cells.method == "poor"], cells[cells.method == "good"]
    result = comparison.compare(one, other, found, "accuracy")
    by_target = result.targets.set_index("target")
    assert by_target.loc["c", ["difference", "low", "high", "p", "p_holm"]].isna().all()
    assert np.isnan(result.cells.set_index("target").difference["c"])
    assert np.isnan([result.unseen.value, result.unseen.low, result.unseen.high, result.unseen.p]).all()
    console = Console(width=120, record=True, file=StringIO())
    rows = [
        comparison.Row(board, name, part) for board in tables.boards(cells, "accuracy") for name, part in board.rows()
    ]
    terminal.show_comparison(console, rows[1], rows[0], result)
    text = console.export_text()
    assert "have no mean to compare: no face of some unseen target was scored" in text
    assert "nan" not in text


def test_a_comparison_says_where_and_on_which_expressions(tmp_path: Path) -> None:
    found, cells = gathered([*matrix(tmp_path, "good", 0.7), *matrix(tmp_path, "poor", 0.55)], tmp_path)
    one, other = (cells[cells.method == method] for method in ("poor", "good"))
    result = comparison.compare(one, other, found, "accuracy")
    unseen = [frame[frame.relation == "unseen"].accuracy.mean() for frame in (one, other)]
    assert result.unseen.value == pytest.approx(unseen[1] - unseen[0])
    assert result.unseen.low < result.unseen.value < result.unseen.high
    assert result.unseen.p < 0.001
    assert (len(result.cells), len(result.targets), len(result.expressions), result.seeds) == (9, 3, 7, 2)
    assert (result.targets.p_holm >= result.targets.p).all()
    assert "good is better than poor on unseen targets: +1" in comparison.answer("poor", "good", result)
    assert "poor is worse" in comparison.answer("good", "poor", comparison.compare(other, one, found, "accuracy"))
    rows = [comparison.Row(board, *row) for board in tables.boards(cells, "accuracy") for row in board.rows()]
    console = Console(width=80, record=True, file=StringIO())
    terminal.show_comparison(console, *sorted(rows, key=lambda row: row.name, reverse=True), result)
    by_target, by_expression = console.export_text().split("By unseen target")[1].split("By expression")
    assert "p after Holm" in by_target
    assert "p after Holm" in by_expression
    assert "*" not in by_expression
    same = comparison.compare(one, one, found, "accuracy")
    assert "poor again is not significantly different from poor" in comparison.answer("poor", "poor again", same)


def test_rows_that_share_nothing_cannot_be_compared(tmp_path: Path) -> None:
    found, cells = gathered([*matrix(tmp_path, "good", 0.7), *matrix(tmp_path, "poor", 0.55)], tmp_path)
    good, poor = (
        cells[(cells.method == "good") & (cells.seed == 0)],
        cells[(cells.method == "poor") & (cells.seed == 1)],
    )
    named = r"good \(a, seed 0; b, seed 0; .*\) and poor \(a, seed 1; .*\) share no source, seed and unseen target"
    with pytest.raises(BenchError, match=named):
        comparison.compare(good, poor, found, "accuracy")
    elsewhere = good.assign(method="external:net", source="their own data")
    with pytest.raises(BenchError, match=r"external:net was trained elsewhere, so .* compare it with another finished"):
        comparison.compare(elsewhere, poor, found, "accuracy")


@pytest.fixture
def runs(project: Project) -> Path:
    return project.results / "runs"


def test_a_row_is_compared_with_the_one_under_the_nearest_conditions(tmp_path: Path) -> None:
    base = matrix(tmp_path, "base", 0.6)
    online = [replace(one, spec=replace(one.spec, method="follow", online=True)) for one in base]
    last = [replace(one, spec=replace(one.spec, selection="source-val", fraction=0.5)) for one in base]
    _, cells = gathered([*last, *base, *online], tmp_path)
    boards = list(tables.boards(cells, "accuracy"))
    one, other = comparison.find_rows(boards, "base", "follow")
    assert comparison.differing(one, other) == ["online"]


def test_compare_on_the_command_line(bench: Bench, runs: Path) -> None:
    real = {"suite": "s", "synthetic": False}
    matrix(runs, "good", 0.7, **real)
    matrix(runs, "poor", 0.55, **real)
    result = bench("compare", "poor", "good", "--suite", "s")
    assert result.code == 0, result.err
    for needed in (
        "good is better than poor on unseen targets: +",
        "points of accuracy (95 %: +",
        "p < 0.001",
        "Mean over 6 cells that both have, 2 seeds",
        "Few faces in",
        "surprise",
    ):
        assert needed in result.out, needed
    result = bench("compare", "poor", "goood", "--suite", "s")
    assert result.code == 2
    assert "did you mean good?" in result.err
    assert "no record of s has 'q'" in bench("compare", "poor", "good", "--suite", "s", "--sources", "q").err
    assert "are one row" in bench("compare", "poor", "poor", "--suite", "s").err
    assert "Mean over 2 cells" in bench("compare", "poor", "good", "--suite", "s", "--sources", "a").out


def test_compare_warns_of_what_else_differs_and_does_without_predictions(bench: Bench, runs: Path) -> None:
    matrix(runs, "good", 0.7, kept=False, suite="s")
    for entry in matrix(runs, "poor", 0.55, kept=False, suite="s", selection="source-val"):
        save(replace(entry, networks={}), runs)
    result = bench("compare", "poor", "good", "--suite", "s")
    assert result.code == 0, result.err
    assert "warning: selection differs: source-val and last" in result.out
    assert "warning: pre-training differs: none and synth d1d1d1" in result.out
    assert "The data give no interval for this difference" in result.out
    assert "once more, with --rerun" in result.out


def test_a_comparison_warns_where_near_duplicates_were_left_out_of_one_row_alone(tmp_path: Path) -> None:
    labels, faces = np.arange(300) % 7, np.arange(300)
    records = [
        keep(tmp_path, {"b": predictions(labels, faces < 200, faces < 5)}),
        keep(tmp_path, {"b": predictions(labels, faces < 150)}, method="other"),
    ]
    _, cells = gathered(records, tmp_path)
    rows = comparison.find_rows(list(tables.boards(cells, "accuracy")), "cafe", "other")
    assert ["not the same faces of b" in caveat for caveat in comparison.caveats(*rows)] == [True]
    assert comparison.caveats(rows[0], rows[0]) == []


def test_one_training_of_each_source_has_no_verdict(tmp_path: Path) -> None:
    found, cells = gathered([*matrix(tmp_path, "good", 0.7, seeds=1), *matrix(tmp_path, "poor", 0.55)], tmp_path)
    one, other = (cells[cells.method == method] for method in ("poor", "good"))
    result = comparison.compare(one, other, found, "balanced_accuracy")
    assert result.unseen.low > 5
    assert np.isnan([result.unseen.p, *result.targets.p_holm, *result.expressions.p_holm]).all()
    said = comparison.answer("poor", "good", result)
    assert said.startswith(
        "No verdict, since not every source has two trainings in both rows. For these trainings only"
    )
    assert "points of balanced accuracy (95 % over faces: +" in said


def test_a_comparison_has_an_interval_over_domains(tmp_path: Path) -> None:
    found, cells = gathered([*matrix(tmp_path, "good", 0.7), *matrix(tmp_path, "poor", 0.55)], tmp_path)
    one, other = (cells[cells.method == method] for method in ("poor", "good"))
    unseen = comparison.compare(one, other, found, "accuracy").unseen
    pairs = (
        other.set_index(["source", "target", "seed"]).accuracy - one.set_index(["source", "target", "seed"]).accuracy
    )
    pairs = pairs.groupby(["source", "target"]).mean().reset_index().query("source != target")
    left = [pairs.query("source != @name and target != @name").accuracy.mean() for name in "abc"]
    error = np.sqrt(2 / 3 * ((np.array(left) - np.mean(left)) ** 2).sum())
    assert (unseen.domains_high - unseen.domains_low) / 2 == pytest.approx(4.303 * error, rel=1e-3)


def test_what_one_row_alone_has_is_left_out_and_named(tmp_path: Path) -> None:
    found, cells = gathered([*matrix(tmp_path, "good", 0.7, seeds=3), *matrix(tmp_path, "poor", 0.55)], tmp_path)
    one, other = (cells[cells.method == method] for method in ("good", "poor"))
    no_c = one[(one.target != "c") | (one.source != "a")]
    short = other[(other.source != "b") | (other.seed != 1) | (other.target == "a")]
    result = comparison.compare(no_c, short, found, "accuracy")
    assert set(result.unbalanced) == {
        "seed 1 has 2 of 3 sources (a, c), 3 of 5 unseen cells",
        "left out, since the first row alone has it: a, seed 2; b, seed 2; c, seed 2",
        "left out, since the two rows do not share all of its targets: b, seed 1",
        "left out, since the second row alone is scored there: c (trained on a)",
    }
    assert comparison.compare(one, one, found, "accuracy").unbalanced == ()
