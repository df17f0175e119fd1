"""Intervals and tests from stored predictions: numbers that are known beforehand come out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sample_predictions import gathered, keep, matrix, predictions
from scipy import stats

from fergen_bench.records.record import HELD_OUT, Predictions
from fergen_bench.report import statistics, tables


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


@pytest.mark.parametrize("count", [40, 300, 5000])  # four counts in a product, two, one
@pytest.mark.parametrize("left_out", [0, 5])
def test_metrics_under_resampling_are_those_of_the_resampled_faces(count: int, left_out: int) -> None:
    random = np.random.default_rng(0)
    labels, said = np.sort(random.integers(0, 6, count)), random.integers(0, 7, (2, count)).astype(np.uint8)
    labels[-count // 10 :] = 6 if count > 40 else 5
    said[1, :left_out] = statistics._LEFT_OUT
    weights = np.bincount(random.integers(0, count, count), minlength=count)[None].astype(np.float32)
    coded = statistics._Coded(said, labels)
    found = {**statistics._weighted(weights, coded, True), **statistics._weighted(weights, coded, False)}
    for row in range(2):
        scored = np.repeat(np.arange(count), weights[0].astype(int))
        scored = scored[said[row, scored] != statistics._LEFT_OUT]
        confusion = np.zeros((7, 7), int)
        np.add.at(confusion, (labels[scored], said[row, scored]), 1)
        for name, function in evidence_metrics().items():
            assert found[name][0, row] == pytest.approx(function(confusion), nan_ok=True), name


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
    records = [
        keep(tmp_path, {"b": predictions(labels, faces < right)}, method=method, seed=seed)
        for method, right in (("cafe", 700), ("other", 720))
        for seed in (0, 1)
    ]
    found, cells = gathered(records, tmp_path)
    one, other = (cells[cells.method == method] for method in ("cafe", "other"))
    difference = found.difference(one, other, "accuracy")
    error = 100 * np.sqrt(0.02 * 0.98 / 1000)  # 20 faces more, and none the other way
    assert difference.value == pytest.approx(2)
    assert (difference.high - difference.low) / 2 / 1.96 == pytest.approx(error, rel=0.1)
    assert difference.p == pytest.approx(2 * stats.norm.sf(2 / error), abs=1e-4)
    same = found.difference(one, one, "accuracy")
    assert (same.value, same.p) == (0, 1)
    single = found.difference(one[:1], other[:1], "accuracy")
    assert single.high - single.low == pytest.approx(difference.high - difference.low)
    assert np.isnan(single.p)  # one training: how much trainings vary is unknown


class Scored(statistics.Evidence):
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
            faces = statistics._Faces(str(target), np.zeros(1))
            self._places |= {(key, str(target)): (faces, row) for row, key in enumerate(group.key)}
            drawn = np.repeat(group.accuracy.to_numpy()[:, None], statistics.DRAWS, 1)
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


def test_a_mean_of_a_row_is_the_same_alone_and_among_the_others() -> None:
    scores = np.random.default_rng(0).normal(70, 2, (1, 3, 3))
    alone, among = (Scored(scores) for _ in range(2))
    (unseen,) = alone.row_means(alone.cells, "accuracy", ["unseen"]).values()
    found = among.row_means(among.cells, "accuracy")
    assert list(found) == ["in_domain", "all", "unseen", "worst"]
    np.testing.assert_array_equal(found["unseen"].drawn, unseen.drawn)
    again = alone.row_means(alone.cells, "accuracy")
    np.testing.assert_array_equal(again["worst"].drawn, found["worst"].drawn)


@pytest.mark.slow
@pytest.mark.parametrize(("sources", "seeds"), [(1, 3), (5, 2), (5, 3)])
def test_equally_good_rows_are_rarely_said_to_differ(sources: int, seeds: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal methods differ by chance only. Seeds resampled as they are, with a normal distribution, give 13 to 28 %."""
    monkeypatch.setattr(statistics, "DRAWS", 200)
    random, trials, p = np.random.default_rng(1), 200, []
    for _ in range(trials):
        found = Scored(random.normal(0, 1, (2, sources, seeds)))
        p.append(found.difference(found.row(0), found.row(1), "accuracy").p)
    wrong = np.array(p) < 0.05
    assert np.isfinite(p).all()
    assert 0 < wrong.sum() <= trials * 0.05 + 2 * np.sqrt(trials * 0.05 * 0.95)


def test_faces_that_either_run_leaves_out_are_no_disagreement(tmp_path: Path) -> None:
    labels, everyone = np.arange(10) % 7, np.ones(10, bool)
    out = np.arange(10) < 4
    first = keep(tmp_path, {"b": predictions(labels, ~everyone, out)})
    second = keep(tmp_path, {"b": predictions(labels, everyone)}, method="other")
    found, cells = gathered([first, second], tmp_path)
    assert np.isnan(found.interval(cells[:1], "accuracy")).all()  # none of six right does not prove the next one wrong
    assert np.isnan(found.difference(cells[:1], cells[1:], "accuracy").p)


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
    assert np.isnan(board.table.unseen_ece_tempered[0])  # no mean over fewer cells
