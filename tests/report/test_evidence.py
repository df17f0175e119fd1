"""How sure a report is: intervals, paired comparisons and ranks, on generated predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from examples import SPEC
from rich.console import Console
from scipy import stats

from conftest import Bench
from fergen_bench.error import BenchError
from fergen_bench.experiment.project import Project
from fergen_bench.records.frame import cells_frame
from fergen_bench.records.record import HELD_OUT, Predictions, RunRecord, scored_cell
from fergen_bench.records.store import save
from fergen_bench.report import compare, evidence, render, tables

PLAIN = replace(SPEC, parameters={}, defaults={}, weights={})
DOMAINS = ("a", "b", "c")


def predictions(labels: np.ndarray, right: np.ndarray, left_out: np.ndarray | None = None) -> Predictions:
    """Logits that are right where `right` says so, and name the next expression elsewhere."""
    logits = 3.0 * np.eye(7)[np.where(right, labels, (labels + 1) % 7)]
    return Predictions(logits, labels, np.zeros(len(labels), bool) if left_out is None else left_out)


def keep(
    runs: Path, said: Mapping[str, Predictions], source: str = "a", kept: bool = True, **changes: Any
) -> RunRecord:
    """A record of a run, made of what it said of each target."""
    spec = replace(
        PLAIN,
        sources=(source,),
        fingerprints={source: "f"},
        targets={name: "f" for name in said if name != HELD_OUT},
        relations={name: "source" if name == source else "unseen" for name in said},
        **changes,
    )
    cells = tuple(scored_cell(spec, name, "f", said[name]) for name in spec.targets)
    record = RunRecord(
        spec, cells, (), None, {"backbone": {"name": "synth", "digest": "d1" * 8}}, {}, {"fit": 1.0}, "2026", "m"
    )
    save(record, runs, said if kept else None)
    return record


def matrix(runs: Path, method: str, skill: float, seeds: int = 2, faces: int = 300, **changes: Any) -> list[RunRecord]:
    """Every domain as a source. A face is got right with the same luck by every run, apart from noise."""
    random = np.random.default_rng(7)
    exams = {name: (random.integers(0, 7, faces), random.random(faces)) for name in DOMAINS}
    records = []
    for source in DOMAINS:
        for seed in range(seeds):
            noise = np.random.default_rng([*source.encode(), seed])
            said = {
                name: predictions(labels, luck + noise.normal(0, 0.05, faces) < skill)
                for name, (labels, luck) in exams.items()
            }
            records.append(keep(runs, said, source, method=method, seed=seed, **changes))
    return records


def gathered(records: list[RunRecord], runs: Path) -> tuple[evidence.Evidence, pd.DataFrame]:
    found = evidence.Evidence(records, runs)
    return found, found.calibrated(cells_frame(records))


def test_the_interval_of_one_cell_is_that_of_its_share(tmp_path: Path) -> None:
    labels = np.arange(400) % 7
    record = keep(tmp_path, {"b": predictions(labels, np.arange(400) < 280)})
    found, cells = gathered([record], tmp_path)
    wilson = stats.binomtest(280, 400).proportion_ci(method="wilson")
    assert found.interval(cells, "accuracy") == pytest.approx([100 * end for end in wilson], abs=0.6)
    again, _ = gathered([record], tmp_path)
    assert again.interval(cells, "accuracy") == found.interval(cells, "accuracy")
    low, high = found.interval(cells, "macro_f1")
    assert low < cells.macro_f1[0] < high
    low, high = found.interval(cells, "recall_surprise")
    assert low < cells.recall_surprise[0] < high


def test_metrics_under_resampling_are_those_of_the_resampled_faces() -> None:
    random = np.random.default_rng(0)
    labels, said = random.integers(0, 6, 40), random.integers(0, 7, (2, 40)).astype(np.uint8)
    said[1, :5] = evidence._LEFT_OUT
    weights = np.bincount(random.integers(0, 40, 40), minlength=40)[None].astype(np.float32)
    for row in range(2):
        scored = np.repeat(np.arange(40), weights[0].astype(int))
        scored = scored[said[row, scored] != evidence._LEFT_OUT]
        confusion = np.zeros((7, 7), int)
        np.add.at(confusion, (labels[scored], said[row, scored]), 1)
        for name, function in evidence_metrics().items():
            value = evidence._weighted(weights, said, labels, name)[0, row]
            assert value == pytest.approx(function(confusion), nan_ok=True), name


def evidence_metrics() -> dict[str, Any]:
    from fergen_bench.metric import METRICS, recalls

    return METRICS | {"recall_fear": lambda confusion: recalls(confusion)[1]}


def test_seeds_that_differ_widen_an_interval_and_faces_are_the_same_for_all(tmp_path: Path) -> None:
    labels, faces = np.arange(1000) % 7, np.arange(1000)
    steady = [keep(tmp_path, {"b": predictions(labels, faces < 700)}, seed=seed) for seed in (0, 1, 2)]
    moody = [
        keep(tmp_path, {"b": predictions(labels, faces < share)}, seed=seed, method="moody")
        for seed, share in enumerate((600, 700, 800))
    ]
    found, cells = gathered([*steady, *moody], tmp_path)
    widths = [np.diff(found.interval(group, "accuracy"))[0] for _, group in cells.groupby("method", sort=False)]
    assert widths[0] == pytest.approx(2 * 1.96 * 100 * np.sqrt(0.7 * 0.3 / 1000), rel=0.1)
    assert widths[1] > 2 * widths[0]


def test_a_paired_difference_is_surer_than_its_two_means(tmp_path: Path) -> None:
    labels, faces = np.arange(1000) % 7, np.arange(1000)
    first = keep(tmp_path, {"b": predictions(labels, faces < 700)})
    second = keep(tmp_path, {"b": predictions(labels, faces < 720)}, method="other")
    found, cells = gathered([first, second], tmp_path)
    one, other = (cells[cells.method == method] for method in ("cafe", "other"))
    difference = found.difference(one, other, "accuracy")
    error = 100 * np.sqrt(0.02 * 0.98 / 1000)  # 20 faces more, and none the other way
    assert difference.value == pytest.approx(2)
    assert (difference.high - difference.low) / 2 / 1.96 == pytest.approx(error, rel=0.1)
    assert difference.p == pytest.approx(2 * stats.norm.sf(2 / error), abs=1e-4)
    assert found.discordant(one, other) == (0, 20)
    same = found.difference(one, one, "accuracy")
    assert (same.value, same.p) == (0, 1)


class Scored(evidence.Evidence):
    """Rows of trainings whose scores are given and not noisy in faces, on two targets each: (rows, sources, seeds)."""

    def __init__(self, scores: np.ndarray) -> None:
        super().__init__([], Path())
        cells = [
            {"source": f"s{source}", "seed": seed, "target": target, "key": f"{row}-{source}-{seed}", "accuracy": score}
            for (row, source, seed), score in np.ndenumerate(scores)
            for target in "ab"
        ]
        self.cells = pd.DataFrame(cells).assign(adapted_to="", relation="unseen")
        for target, group in self.cells.groupby("target"):
            faces = evidence._Faces(str(target), np.zeros(1))
            self._places |= {(key, str(target)): (faces, row) for row, key in enumerate(group.key)}
            drawn = np.repeat(group.accuracy.to_numpy()[:, None], evidence.DRAWS, 1)
            self._scores[id(faces), "accuracy"] = drawn.astype(np.float32)

    def row(self, number: int) -> pd.DataFrame:
        return self.cells[self.cells.key.str.startswith(f"{number}-")]


@pytest.mark.parametrize(("sources", "seeds"), [(1, 2), (1, 3), (4, 3), (5, 5)])
def test_seeds_are_found_to_vary_as_much_as_they_do(sources: int, seeds: int) -> None:
    scores = np.random.default_rng(0).normal(70, 2, (sources, seeds))
    found = Scored(scores[None])
    drawn = found.resampled(found.cells, "accuracy").mean(1)
    assert drawn.mean() == pytest.approx(scores.mean(), abs=0.2)
    assert drawn.var() == pytest.approx((scores.var(1, ddof=1) / seeds).sum() / sources**2, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(("sources", "seeds"), [(1, 3), (5, 2), (5, 3)])
def test_equally_good_rows_are_rarely_said_to_differ(sources: int, seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs is luck. With seeds resampled as they are and a normal distribution it is 13 to 28 per cent."""
    monkeypatch.setattr(evidence, "DRAWS", 200)
    random, trials, p = np.random.default_rng(1), 200, []
    for _ in range(trials):
        found = Scored(random.normal(0, 1, (2, sources, seeds)))
        p.append(found.difference(found.row(0), found.row(1), "accuracy").p)
    wrong = np.array(p) < 0.05
    assert np.isfinite(p).all()
    assert 0 < wrong.sum() <= trials * 0.05 + 2 * np.sqrt(trials * 0.05 * 0.95)


@pytest.mark.parametrize("count", [2, 5, 12])
def test_equally_good_rows_are_rarely_said_to_be_behind_however_many_they_are(count: int) -> None:
    random, wrong, trials = np.random.default_rng(2), 0, 200
    for _ in range(trials):
        values = np.sort(random.normal(0, 1, count))[::-1]
        rows = {place: (random.normal(0, 1, 500), {}) for place in range(count)}
        wrong += any(p < 0.05 for p in evidence._against_best(values, rows).values())
    assert wrong <= trials * 0.05 + 3 * np.sqrt(trials * 0.05 * 0.95)
    far = np.array([9.0, *values[1:]])
    assert max(evidence._against_best(far, rows).values()) < 0.05


def test_freedom_lies_between_that_of_one_training_and_that_of_all() -> None:
    def freedom(*spreads: float, faces: float = 0.0) -> float:
        parts = {("s", str(at)): ((0, 1, 2), spread * np.array([-1.0, 0.0, 1.0])) for at, spread in enumerate(spreads)}
        seeds = sum(3 * spread**2 for spread in spreads)
        return evidence._freedom(evidence._seeds(parts), np.sqrt(seeds + faces) * np.array([-1.0, 1.0]) / np.sqrt(2))

    assert freedom(1.0) == pytest.approx(2)
    assert freedom(1.0, 0.0, 0.0) == pytest.approx(2)
    assert freedom(1.0, 1.0, 1.0, 1.0, 1.0) == pytest.approx(18)
    assert freedom(1.0, faces=100.0) > 1000
    assert freedom(0.0) == np.inf


def test_mcnemar_and_holm() -> None:
    assert evidence.mcnemar(5, 15) == pytest.approx(stats.binomtest(5, 20).pvalue)
    assert evidence.mcnemar(0, 0) == 1
    assert evidence.mcnemar(4, 4) == 1
    corrected = evidence.holm(pd.Series([0.01, np.nan, 0.04, 0.03]))
    assert corrected.tolist() == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)
    assert evidence.holm(pd.Series([np.nan])).isna().all()


def test_faces_that_either_run_leaves_out_are_no_disagreement(tmp_path: Path) -> None:
    labels, everyone = np.arange(10) % 7, np.ones(10, bool)
    out = np.arange(10) < 4
    first = keep(tmp_path, {"b": predictions(labels, ~everyone, out)})
    second = keep(tmp_path, {"b": predictions(labels, everyone)}, method="other")
    found, cells = gathered([first, second], tmp_path)
    assert found.discordant(cells[:1], cells[1:]) == (0, 6)
    assert np.isnan(found.interval(cells[:1], "accuracy")).all()  # none of six is no proof that the next one is wrong
    assert np.isnan(found.difference(cells[:1], cells[1:], "accuracy").p)


def test_a_leaderboard_says_who_is_tied_with_the_best(tmp_path: Path) -> None:
    records = [
        *matrix(tmp_path, "good", 0.7),
        *matrix(tmp_path, "fair", 0.699),
        *matrix(tmp_path, "poor", 0.55),
        *matrix(tmp_path, "unknown", 0.6, kept=False),
    ]
    found, cells = gathered(records, tmp_path)
    (board,) = evidence.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    table = board.table.set_index("method")
    assert table.standing[["poor", "unknown"]].tolist() == ["behind", ""]
    assert sorted(table.standing[["good", "fair"]]) == ["best", "tied"]
    for mean in tables.MEANS:
        known = table.drop(index="unknown")
        assert (known[f"{mean}_low"] < known[mean]).all()
        assert (known[mean] < known[f"{mean}_high"]).all()
    assert np.isnan(table.loc["unknown", "unseen_low"])
    render.write(tmp_path / "report", [board], "accuracy", [], [])
    text, latex = ((tmp_path / "report" / f"leaderboard.{kind}").read_text() for kind in ("md", "tex"))
    assert "| tied |" in text
    assert "| — | — |" in text
    assert "(tied)" in latex
    frame = pd.read_csv(tmp_path / "report" / "leaderboard.csv")
    assert {"unseen_ece", "unseen_ece_tempered", "unseen_macro_f1", "unseen_recall_fear", "standing"} <= set(frame)
    console = Console(width=80, record=True, file=StringIO())
    render.show(console, [board], "accuracy", [])
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "tied" in text


def test_a_row_that_lacks_cells_has_room_in_80_columns(tmp_path: Path) -> None:
    records = [*matrix(tmp_path, "quite_a_long_name", 0.7), *matrix(tmp_path, "partial", 0.6)[:5]]
    found, cells = gathered(records, tmp_path)
    (board,) = evidence.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    console = Console(width=80, record=True, file=StringIO())
    render.show(console, [board], "accuracy", [])
    lines = console.export_text().splitlines()
    assert any("cells)" in line for line in lines)
    (top,) = (line for line in lines if line.startswith("┏") and "unseen" in lines[lines.index(line) + 3])
    assert top.endswith("┓")


def test_rows_without_predictions_are_named_and_not_taken_for_tied(tmp_path: Path) -> None:
    def cautions(*kept: bool) -> str:
        runs = tmp_path / str(kept)
        skills = {"good": 0.7, "fair": 0.69, "poor": 0.55}
        records = [
            record
            for (name, skill), has in zip(skills.items(), kept, strict=True)
            for record in matrix(runs, name, skill, kept=has)
        ]
        found, cells = gathered(records, runs)
        (board,) = evidence.judged(tables.boards(cells, "accuracy"), found, "accuracy")
        lacking = [name for name, has in zip(skills, kept, strict=True) if not has]
        assert (board.table.set_index("method").standing[lacking] == "").all()
        return " ".join(render.board_cautions(board))

    assert "redictions" not in cautions(True, True, True)
    assert "records of fair: no intervals there, and they are not compared with the best" in cautions(True, False, True)
    assert "records of good: no intervals there, and no row is compared with the best" in cautions(False, True, True)
    assert "No intervals, and no word on which rows are tied" in cautions(False, False, False)


def test_a_row_with_fewer_seeds_is_compared_on_those_it_has(tmp_path: Path) -> None:
    records = [*matrix(tmp_path, "good", 0.7), *matrix(tmp_path, "poor", 0.5, seeds=1)]
    found, cells = gathered(records, tmp_path)
    (board,) = evidence.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    assert board.table.standing.tolist() == ["best", "behind"]


def test_without_an_unseen_target_no_row_is_best_or_behind(tmp_path: Path) -> None:
    labels, faces = np.arange(300) % 7, np.arange(300)
    records = [
        keep(tmp_path, {"a": predictions(labels, faces < right)}, method=name, seed=seed)
        for name, right in (("good", 250), ("poor", 150))
        for seed in (0, 1)
    ]
    found, cells = gathered(records, tmp_path)
    (board,) = evidence.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    assert board.table.in_domain_low.notna().all()
    assert board.table.standing.tolist() == ["", ""]
    assert not any("best" in note for note in render.board_notes(board))


def test_a_target_of_which_no_face_was_scored_is_no_test(tmp_path: Path) -> None:
    labels, faces = np.arange(300) % 7, np.arange(300)

    def run(name: str, right: int) -> RunRecord:
        said = predictions(labels, faces < right)
        unscored = replace(said, left_out=np.ones(300, bool))
        return keep(tmp_path, {"a": said, "b": said, "c": unscored}, method=name)

    found, cells = gathered([run("poor", 200), run("good", 210)], tmp_path)
    one, other = cells[cells.method == "poor"], cells[cells.method == "good"]
    result = evidence.compare(one, other, found, "accuracy")
    for frame in (result.cells, result.targets):
        by_target = frame.set_index("target")
        assert by_target.loc["c", ["difference", "low", "high", "p", "p_holm"]].isna().all()
        assert by_target.p_holm["b"] == pytest.approx(by_target.p["b"] * by_target.p.notna().sum())
    assert np.isnan([result.unseen.value, result.unseen.low, result.unseen.high, result.unseen.p]).all()
    console = Console(width=120, record=True, file=StringIO())
    rows = [compare.Row(board, name, part) for board in tables.boards(cells, "accuracy") for name, part in board.rows()]
    compare.show_comparison(console, rows[1], rows[0], result)
    text = console.export_text()
    assert "have no mean to compare: no face of some unseen target was scored" in text
    assert "nan" not in text


def test_without_predictions_nothing_is_said(tmp_path: Path) -> None:
    records = [*matrix(tmp_path, "good", 0.7, kept=False), *matrix(tmp_path, "poor", 0.55, kept=False)]
    found, cells = gathered(records, tmp_path)
    (board,) = evidence.judged(tables.boards(cells, "accuracy"), found, "accuracy")
    assert (board.table.standing == "").all()
    render.write(tmp_path / "report", [board], "accuracy", [], [])
    assert "95 %" not in (tmp_path / "report" / "leaderboard.md").read_text()
    assert np.isnan(board.table.unseen_ece).all()


def test_an_early_record_without_labels_says_nothing(tmp_path: Path) -> None:
    record = keep(tmp_path, {"b": predictions(np.arange(7), np.ones(7, bool))})
    path = record.spec.path(tmp_path)
    np.savez(path.with_suffix(".npz"), b=np.eye(7, dtype=np.float16))
    early = {name: value for name, value in json.loads(path.read_text()).items() if name not in {"files", "checksum"}}
    path.write_text(json.dumps(early))
    found, cells = gathered([record], tmp_path)
    assert not found.covers(cells)
    assert found.faults == []


def test_predictions_that_cannot_be_read_are_a_fault_and_no_end(tmp_path: Path) -> None:
    records = matrix(tmp_path, "good", 0.7)
    records[0].spec.path(tmp_path).with_suffix(".npz").write_bytes(b"broken")
    found, cells = gathered(records, tmp_path)
    assert len(found.faults) == 1
    assert not found.covers(cells)
    assert found.covers(cells[cells.key != records[0].spec.key])


def test_a_temperature_comes_from_held_out_faces_of_the_source(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 7, 2000)
    logits = random.normal(size=(2000, 7))
    share = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (share.cumsum(1) < random.random((2000, 1))).sum(1).clip(0, 6)
    sure = Predictions(4 * logits, labels, np.zeros(2000, bool))
    held = Predictions(4 * logits[:500], labels[:500], np.zeros(500, bool))
    records = [keep(tmp_path, {"b": sure, HELD_OUT: held}), keep(tmp_path, {"b": sure}, seed=1)]
    _, cells = gathered(records, tmp_path)
    assert cells.ece[0] == cells.ece[1]
    assert cells.ece[0] > 30
    assert cells.ece_tempered[0] < 6
    assert np.isnan(cells.ece_tempered[1])
    (board,) = tables.boards(cells, "accuracy")
    assert np.isnan(board.table.unseen_ece_tempered[0])  # a mean over fewer cells is no mean


def test_ranks_are_those_of_friedman_and_nemenyi(tmp_path: Path) -> None:
    skills = {"good": 0.7, "fair": 0.6, "poor": 0.5, "last": 0.3}
    records = [entry for name, skill in skills.items() for entry in matrix(tmp_path, name, skill, kept=False)]
    (board,) = tables.boards(cells_frame(records), "accuracy")
    found = evidence.ranking(board, "accuracy")
    assert found is not None
    assert found.ranks.to_dict() == {"good": 1, "fair": 2, "poor": 3, "last": 4}
    assert found.blocks == 12
    scores = [cells[cells.relation == "unseen"].accuracy for _, cells in board.rows()]
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores).pvalue)
    # Demšar (JMLR 2006, table 5): q = 2.569 for four classifiers at 5 %.
    assert found.distance == pytest.approx(2.569 * np.sqrt(4 * 5 / (6 * 12)), abs=1e-3)
    assert found.groups == [("good", "fair"), ("fair", "poor"), ("poor", "last")]
    assert render.plots.critical_difference(board, found).axes
    fewer = tables.boards(cells_frame(records[:12]), "accuracy")
    assert evidence.ranking(next(fewer), "accuracy") is None


def test_methods_that_never_differ_are_one_group(tmp_path: Path) -> None:
    records = [entry for name in ("x", "y", "z") for entry in matrix(tmp_path, name, 0.6, kept=False)]
    (board,) = tables.boards(cells_frame(records), "accuracy")
    found = evidence.ranking(board, "accuracy")
    assert found is not None
    assert found.p == 1
    assert found.groups == [("x", "y", "z")]


def test_a_comparison_says_where_and_on_which_expressions(tmp_path: Path) -> None:
    found, cells = gathered([*matrix(tmp_path, "good", 0.7), *matrix(tmp_path, "poor", 0.55)], tmp_path)
    one, other = (cells[cells.method == method] for method in ("poor", "good"))
    result = evidence.compare(one, other, found, "accuracy")
    unseen = [frame[frame.relation == "unseen"].accuracy.mean() for frame in (one, other)]
    assert result.unseen.value == pytest.approx(unseen[1] - unseen[0])
    assert result.unseen.low < result.unseen.value < result.unseen.high
    assert result.unseen.p < 0.001
    assert (len(result.cells), len(result.targets), len(result.expressions), result.seeds) == (9, 3, 7, 2)
    assert (result.targets.second_only > result.targets.first_only).all()
    assert "good is better than poor on unseen targets: +1" in compare.answer("poor", "good", result)
    assert "poor is worse" in compare.answer("good", "poor", evidence.compare(other, one, found, "accuracy"))
    same = evidence.compare(one, one, found, "accuracy")
    assert "The data cannot tell" in compare.answer("poor", "poor again", same)


def test_rows_that_share_nothing_cannot_be_compared(tmp_path: Path) -> None:
    found, cells = gathered([*matrix(tmp_path, "good", 0.7), *matrix(tmp_path, "poor", 0.55)], tmp_path)
    with pytest.raises(BenchError, match="share no source, seed and unseen target"):
        evidence.compare(cells[cells.source == "a"], cells[cells.source == "b"], found, "accuracy")


@pytest.fixture
def runs(project: Project) -> Path:
    return project.results / "runs"


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
    assert "how sure that is, cannot be said" in result.out
    assert "once more, with --rerun" in result.out


def test_a_comparison_warns_where_near_duplicates_were_left_out_of_one_row_alone(tmp_path: Path) -> None:
    labels, faces = np.arange(300) % 7, np.arange(300)
    records = [
        keep(tmp_path, {"b": predictions(labels, faces < 200, faces < 5)}),
        keep(tmp_path, {"b": predictions(labels, faces < 150)}, method="other"),
    ]
    _, cells = gathered(records, tmp_path)
    rows = compare.find_rows(list(tables.boards(cells, "accuracy")), "cafe", "other")
    assert ["not the same faces of b" in caveat for caveat in compare.caveats(*rows)] == [True]
    assert compare.caveats(rows[0], rows[0]) == []
