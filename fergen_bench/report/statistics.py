"""Compute intervals and significance tests from the predictions stored with the records.

Intervals and comparisons of means use bootstrap replicates on two levels: the seeds of each training, then the faces of
each target (Efron and Tibshirani 1993, chapter 8). One replicate uses the same faces for every run that was scored on
them, so the difference of two rows is paired. Resampling n seeds underestimates their variance by (n - 1) / n, so their
deviations are multiplied by the root of n / (n - 1). Two or three seeds may agree by chance, so intervals and p use
Student's t, with degrees of freedom after Welch (1947), in which the number of faces counts as infinite. With one seed
an interval covers the variation of faces alone. Numbers are in per cent.

These intervals hold for the domains of the leaderboard. `intervals.domain_error` treats the domains as a sample of all
domains.
docs/statistics.md has the measured error rates of all statements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.randomness import seed_of
from fergen_bench.error import BenchError
from fergen_bench.metric import METRICS, calibration_error, calibration_floor, fit_temperature, reliability
from fergen_bench.records.collection import Records
from fergen_bench.records.counting import without
from fergen_bench.records.frame import source_val_columns
from fergen_bench.records.record import HELD_OUT, Cell, Predictions, RunRecord, with_source_val
from fergen_bench.report.averages import Columns, coded
from fergen_bench.report.intervals import Difference, Parts, Sampled, domain_error, domain_limits, limits, tested
from fergen_bench.report.tables import CALIBRATION, CELL, MEANS

DRAWS = 2000

_BLOCK = 2**20
"""The maximum of numbers in memory at a time in an array of resampling counts, or of sums over them."""

_LEFT_OUT = 255
"""The code for the prediction of a face that is not scored."""

_LAST = len(EXPRESSIONS) - 1
"""The index of the last expression: what is not predicted as another one is predicted as this one."""


@dataclass
class _Faces:
    """The faces of a target and their predictions: expressions (N,) uint8, one row of `said` per cell."""

    name: str
    labels: np.ndarray
    said: list[np.ndarray] = field(default_factory=list)


class Evidence:
    """The predictions of some records, read one run at a time.

    Only the predicted expression of each face stays in memory.

    The interval of a mean is nan if one of its cells lacks predictions.

    Attributes:
        faults: A sentence for each unreadable file.
    """

    def __init__(self, records: Iterable[RunRecord] = (), stored: Records | None = None) -> None:
        self.faults: list[str] = []
        self.reliability: dict[tuple[str, str], tuple[np.ndarray, np.ndarray | None]] = {}
        """(key, target) → the cell's table of `metric.reliability`, as predicted and with the run's temperature."""
        self._source_val: dict[str, dict[str, float]] = {}  # by key of the run
        self._faces: dict[tuple[str, str, bytes], _Faces] = {}
        self._places: dict[tuple[str, str], tuple[_Faces, int]] = {}
        self._scores: dict[tuple[int, str], np.ndarray] = {}
        self._rows: dict[tuple[str, tuple[str, ...], tuple[str, ...]], dict[str, Sampled]] = {}
        self._arranged: dict[tuple[tuple[str, ...], tuple[str, ...]], _Arranged] = {}
        self._targets: dict[tuple[str, tuple[str, ...], tuple[str, ...]], dict[str, Sampled]] = {}
        for record in records:
            try:
                predictions = {} if stored is None else stored.predictions(record)
            except BenchError as error:
                if str(error) not in self.faults:  # one file may have the predictions of many runs
                    self.faults.append(str(error))
                continue
            held = predictions.get(HELD_OUT)
            temperature = None if held is None else fit_temperature(*held.scored)
            if record.source_val is None:
                self._source_val[record.spec.key] = source_val_columns(with_source_val(record, predictions).source_val)
            for cell in record.cells:
                if cell.target in predictions:
                    self._take(record.spec.key, cell, predictions[cell.target], temperature)
                    if not record.spec.parameters.get("scores", True):  # a file of expressions has no confidence
                        self.reliability.pop((record.spec.key, cell.target), None)

    def _take(self, key: str, cell: Cell, predictions: Predictions, temperature: float | None) -> None:
        recorded = unscored = predictions.unscored
        left_out = cell.left_out
        # In most cells no face is left out, before or now: then they need no copy of their predictions.
        changed = left_out is not None and bool(left_out or predictions.left_out.any())
        if changed and max(left_out or (), default=-1) < len(predictions.logits):
            predictions = without(predictions, left_out or ())
            unscored = predictions.unscored
        if len(predictions.labels) != len(predictions.logits) or np.count_nonzero(~unscored) != cell.count:
            return  # the record is early, or the predictions are those of another run
        said = predictions.predicted
        said[unscored] = _LEFT_OUT
        self.add(key, cell.target, predictions.labels, said, cell.fingerprint)
        if (tables := predictions.reliability) is None:
            logits, labels = predictions.scored
            tempered = None if temperature is None else reliability(logits, labels, temperature)
            self.reliability[key, cell.target] = reliability(logits, labels), tempered
        elif len(tables) and np.array_equal(recorded, unscored):  # else they cover other faces
            self.reliability[key, cell.target] = tables[0], tables[1] if len(tables) > 1 else None

    def add(self, key: str, target: str, labels: np.ndarray, said: np.ndarray, fingerprint: str = "") -> None:
        """Add the predictions of a run for a target.

        Args:
            key: The key of the run.
            target: The name of the target.
            labels: The true expressions, (N,).
            said: The predicted expressions, uint8 (N,); 255 where a face is not scored.
            fingerprint: The state of the target; only runs on one state are paired.
        """
        state = (target, fingerprint, labels.tobytes())
        faces = self._faces.setdefault(state, _Faces(target, labels.astype(np.uint8)))
        self._places[key, target] = faces, len(faces.said)
        faces.said.append(said)

    def calibrated(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Return the cells with their expected calibration errors, `ece`, `ece_tempered` and `ece_floor`, in points.

        The temperature of `ece_tempered` was fitted to held-out faces of the source. `ece_floor` is the error that
        perfectly calibrated predictions would show, see `metric.calibration_floor`. Values are nan without
        predictions, and `ece_tempered` also without held-out faces.

        Runs whose records lack the scores on held-out faces have them from their predictions, see
        `frame.source_val_columns`.
        """
        tables = [self.reliability.get(place, (None, None)) for place in zip(cells.key, cells.target, strict=True)]
        plain, tempered = ([pair[which] for pair in tables] for which in (0, 1))
        functions = (calibration_error, plain), (calibration_error, tempered), (calibration_floor, plain)
        found = [_of_tables(function, some) for function, some in functions]
        cells = cells.assign(**{name: 100.0 * values for name, values in zip(CALIBRATION, found, strict=True)})
        if self._source_val:
            known = pd.DataFrame.from_dict(self._source_val, orient="index").reindex(cells.key).set_index(cells.index)
            cells = cells.fillna(known)
        return cells

    def covers(self, cells: Columns | pd.DataFrame) -> bool:
        """Return True where there are cells and every one of them has predictions."""
        places = [*zip(cells["key"], cells["target"], strict=True)]
        return bool(places) and all(place in self._places for place in places)

    def resampled(self, cells: pd.DataFrame, metric: str) -> np.ndarray:
        """Return the scores of cells in every bootstrap replicate, float32 (DRAWS, cells), in per cent.

        In a replicate, a cell has the score of another seed of the same training, on other faces. Each training must
        have all of its targets for every one of its seeds.
        """
        return np.ascontiguousarray(self._replicates(_Arranged(cells, self._places), metric).T)

    def _replicates(self, cells: _Arranged, metric: str) -> np.ndarray:
        """Return the scores of cells in every bootstrap replicate, float32 (cells, DRAWS), in per cent."""
        scores = np.empty((cells.count, DRAWS), np.float32)
        for faces, own, rows in cells.on_faces:
            scores[own] = self._scores_on(faces, metric)[rows]
        for training, grid in cells.grids.items():
            if (count := len(grid)) > 1:
                found = scores[grid.T]  # (targets, seeds, DRAWS)
                drawn = found.reshape(len(found), -1).take(_drawn_seeds(training, count, DRAWS), axis=1)
                middle = found.mean(1, keepdims=True)
                scores[grid.T] = middle + np.float32(np.sqrt(count / (count - 1))) * (drawn - middle)
        return scores

    def _scores_on(self, faces: _Faces, metric: str) -> np.ndarray:
        """Return the scores of all cells on some faces in every replicate of the faces, (cells, DRAWS), in per cent.

        One drawing of the faces serves all metrics of the same kind, see `_weighted`.
        """
        if (id(faces), metric) not in self._scores:
            order = np.argsort(faces.labels, kind="stable")
            coded = _Coded(np.stack(faces.said)[:, order], faces.labels[order])
            cells, count = coded.shape
            random = np.random.default_rng(seed_of("bootstrap faces", faces.name, count))
            size = max(1, _BLOCK // max(count, 4 * cells))
            for start in range(0, DRAWS, size):
                drawn = random.integers(0, count, (min(size, DRAWS - start), count))
                drawn += np.arange(len(drawn))[:, None] * count
                times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)
                found = _weighted(times[:, order].astype(np.float32), coded, recalls=metric not in METRICS)
                for name, scores in found.items():
                    whole = self._scores.setdefault((id(faces), name), np.empty((cells, DRAWS), np.float32))
                    whole[:, start : start + len(drawn)] = 100.0 * scores.T
        return self._scores[id(faces), metric]

    def row_means(self, cells: Columns | pd.DataFrame, metric: str, names: Sequence[str] = MEANS) -> dict[str, Sampled]:
        """Return means of a leaderboard's row in every replicate.

        Args:
            cells: The cells of complete seeds, all covered.
            metric: The name of the metric.
            names: The means, of `in_domain`, `all`, `unseen` and `worst`.
        """
        place = tuple(cells["key"]), tuple(cells["target"])
        known = self._rows.setdefault((metric, *place), {})
        if not known.keys() >= {*names}:
            if place not in self._arranged:
                self._arranged[place] = _Arranged(cells, self._places)
            row, scores = self._arranged[place], np.asarray(cells[metric])
            drawn = row.means(self._replicates(row, metric), names)
            parts = row.trainings.sums({mean: each * scores for mean, each in row.weights.items()})
            parts["worst"] = parts["unseen"]
            known |= {mean: Sampled(values, parts[mean]) for mean, values in drawn.items()}
        return known

    def target_means(self, cells: pd.DataFrame, metric: str) -> dict[str, Sampled]:
        """Return the mean over the unseen cells of each target in every replicate.

        Args:
            cells: The cells of complete seeds, all covered.
            metric: The name of the metric.
        """
        known = metric, tuple(cells.key), tuple(cells.target)
        if known not in self._targets:
            scores, drawn, unseen = cells[metric].to_numpy(), self.resampled(cells, metric), cells.relation == "unseen"
            counted = {
                name: (unseen & (cells.target == name)).to_numpy() for name in dict.fromkeys(cells.target[unseen])
            }
            parts = _Trainings(cells).sums({name: each * scores / each.sum() for name, each in counted.items()})
            self._targets[known] = {
                name: Sampled(drawn[:, each].mean(1), parts[name]) for name, each in counted.items()
            }
        return self._targets[known]

    def interval(self, cells: pd.DataFrame, metric: str) -> tuple[float, float]:
        """Return the 95 % interval of the mean over cells, for example of one source and target; nan if not covered."""
        if not self.covers(cells):
            return np.nan, np.nan
        scores = cells[metric].to_numpy()
        parts = _Trainings(cells).sums({"mean": scores / len(cells)})
        return limits(float(scores.mean()), Sampled(self.resampled(cells, metric).mean(1), parts["mean"]))

    def difference(self, first: pd.DataFrame, second: pd.DataFrame, metric: str) -> Difference:
        """Return second minus first in the mean over cells, with its interval and p.

        The cells of both rows are the same, in the same order. Each source and target has the same weight, whatever its
        number of seeds. The interval and p are those of Student's t with the bootstrap's standard error: a correction
        for many tests needs smaller p values than can be counted in 2,000 replicates.
        """
        apart = second[metric].to_numpy() - first[metric].to_numpy()
        pairs = list(zip(*(first[name] for name in CELL), strict=True))
        counts = Counter(pairs)
        weights = np.array([1 / counts[pair] for pair in pairs]) / len(counts)
        value = float((weights * apart).sum())
        distinct, codes = coded(pairs)
        by_pair = np.bincount(codes, apart) / np.bincount(codes)
        over = domain_limits(value, *domain_error([pair[:2] for pair in distinct], by_pair))
        if np.isnan(value) or not (self.covers(first) and self.covers(second)):
            return Difference(value, domains_low=over[0], domains_high=over[1])
        drawn = self.resampled(second, metric) - self.resampled(first, metric)
        there = np.isfinite(drawn)  # a draw may lack faces of a rare expression
        with np.errstate(invalid="ignore"):
            means = np.where(there, drawn, 0) @ weights / (there @ weights)
        finished = "sources" in first and bool(((first.sources == 0) & (second.sources == 0).to_numpy()).all())
        parts = _Trainings(first).sums({"mean": apart * weights})
        found = tested(value, Sampled(means, parts["mean"]), finished)
        return replace(found, domains_low=over[0], domains_high=over[1])


def _of_tables(function: Callable[[np.ndarray], np.ndarray], tables: Sequence[np.ndarray | None]) -> np.ndarray:
    """Return the values of a function of tables of reliability, float64 (tables,); nan where there is no table."""
    groups: dict[np.dtype[Any], tuple[list[int], list[np.ndarray]]] = {}  # numpy takes as long for one as for many
    for place, table in enumerate(tables):
        if table is not None:
            places, some = groups.setdefault(table.dtype, ([], []))
            places.append(place)
            some.append(table)
    found = np.full(len(tables), np.nan)
    for places, some in groups.values():
        found[places] = function(np.stack(some))
    return found


class _Coded:
    """The predictions of cells on some faces as matrices, whose products with counts of faces count expressions.

    These products take most of the time of a leaderboard. A float32 is exact up to 2 ** 24, so one product counts as
    many expressions as have room in its 24 bits.

    Attributes:
        shape: The number of cells, and of faces.
        of: The faces of each expression.
        scored: 1 for faces that are scored, float32 (N, cells); one column where these are all faces.
        bits: The bits of a count in a product.
        codes: Some expressions, and a power of 2 for each prediction of one of them, float32 (N, cells).
    """

    def __init__(self, said: np.ndarray, labels: np.ndarray) -> None:
        """Encode predictions, uint8 (cells, N); the true expressions (N,) are in ascending order."""
        self.shape = said.shape
        self.of = [slice(*pair) for pair in pairwise(np.searchsorted(labels, np.arange(len(EXPRESSIONS) + 1)))]
        scored = said != _LEFT_OUT
        self.scored = (scored[:1] if scored.all() else scored).T.astype(np.float32)
        self.bits = len(labels).bit_length()
        among = max(1, 24 // self.bits)
        self.codes = []
        for first in range(0, _LAST, among):
            places = range(first, min(first + among, _LAST))
            value = np.zeros(256, np.float32)
            value[places] = [2.0 ** (self.bits * number) for number in range(len(places))]
            self.codes.append((places, value.take(said).T))
        self.last = (said[:, self.of[_LAST]] == _LAST).T.astype(np.float32)


def _weighted(weights: np.ndarray, coded: _Coded, recalls: bool) -> dict[str, np.ndarray]:
    """Return metrics of cells under counts of faces, by name; an absent one is nan.

    Args:
        weights: How often each face counts, float32 (draws, N): integers, and those of a draw sum to N.
        coded: The predictions.
        recalls: Return the recall of each expression instead of `METRICS`.

    Returns:
        Each metric as (draws, cells).
    """
    there = np.stack([weights[:, own] @ coded.scored[own] for own in coded.of])  # (expressions, draws, cells)
    total = there.sum(0)
    right, predicted = np.empty((2, len(EXPRESSIONS), len(weights), coded.shape[0]), np.float32)
    mask = (1 << coded.bits) - 1
    for places, codes in coded.codes:
        begin, end = coded.of[places[0]].start, coded.of[places[-1]].stop
        products = weights[:, :begin] @ codes[:begin]
        products += weights[:, end:] @ codes[end:]
        for number, place in enumerate(places):
            own = weights[:, coded.of[place]] @ codes[coded.of[place]]
            products += own
            right[place] = own.astype(np.int32) >> (coded.bits * number) & mask
        counts = products.astype(np.int32)
        for place in places:
            predicted[place] = counts & mask
            counts >>= coded.bits
    right[_LAST] = weights[:, coded.of[_LAST]] @ coded.last
    predicted[_LAST] = total - predicted[:_LAST].sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / there
        if recalls:
            return {f"recall_{name}": share for name, share in zip(EXPRESSIONS, recall, strict=True)}
        accuracy = right.sum(0) / total
        f1 = np.divide(right, np.add(predicted, there, out=predicted), out=right)
        return {"accuracy": accuracy, "balanced_accuracy": _mean_of(recall), "macro_f1": 2 * _mean_of(f1)}


def _mean_of(shares: np.ndarray) -> np.ndarray:
    """Return the mean of shares of expressions, without those that are nan; nan where all are."""
    total = shares.sum(0)
    if np.isfinite(total).all():
        return np.divide(total, len(shares), dtype=np.float64)
    present = np.isfinite(shares)
    return np.where(present, shares, 0).sum(0) / np.where(present.any(0), present.sum(0), np.nan)


class _Trainings:
    """The trainings of some cells, with the seeds of each."""

    def __init__(self, cells: Columns | pd.DataFrame) -> None:
        runs, self._codes = coded(zip(cells["source"], cells["adapted_to"], cells["seed"], strict=True))
        self._places: dict[tuple[str, str], list[int]] = {}
        for place in sorted(range(len(runs)), key=lambda place: runs[place][2]):
            self._places.setdefault(runs[place][:2], []).append(place)
        self._seeds = {training: tuple(runs[place][2] for place in of) for training, of in self._places.items()}
        self._runs = len(runs)

    def sums(self, added: Mapping[str, np.ndarray]) -> dict[str, Parts]:
        """Return the sums of the contributions of cells to several means, by training and seed.

        Args:
            added: The contribution of each cell, by mean.
        """
        sums = {mean: np.bincount(self._codes, each, self._runs) for mean, each in added.items()}
        return {
            mean: {one: (self._seeds[one], total[of]) for one, of in self._places.items()}
            for mean, total in sums.items()
        }


class _Arranged:
    """The cells of a row as arrays: all that its replicates need, under whichever metric.

    Attributes:
        count: The number of cells.
        on_faces: The faces of each target, the indices of the cells that are scored on them, and the row of each cell
            among all predictions for these faces.
        grids: By training, the indices of its cells, (seeds, targets), both in ascending order.
        trainings: The trainings of the cells.
        weights: The weight of each cell in the means that are sums, see `_weights`.
    """

    def __init__(self, cells: Columns | pd.DataFrame, places: Mapping[tuple[str, str], tuple[_Faces, int]]) -> None:
        columns = {name: np.asarray(cells[name], object) for name in (*CELL, "seed", "relation", "key")}
        self.count = len(columns["key"])
        of_faces: dict[int, tuple[_Faces, list[int], list[int]]] = {}
        for index, place in enumerate(zip(columns["key"], columns["target"], strict=True)):
            faces, row = places[place]
            _, own, rows = of_faces.setdefault(id(faces), (faces, [], []))
            own.append(index)
            rows.append(row)
        self.on_faces = list(of_faces.values())
        trained: dict[tuple[str, str], list[int]] = {}
        for index, training in enumerate(zip(columns["source"], columns["adapted_to"], strict=True)):
            trained.setdefault(training, []).append(index)
        seeds, targets = columns["seed"], columns["target"]
        self.grids = {
            training: np.array(sorted(own, key=lambda index: (seeds[index], targets[index]))).reshape(
                len({seeds[index] for index in own}), -1
            )
            for training, own in trained.items()
        }
        self.trainings = _Trainings(columns)
        self.weights = _weights(columns)
        self._columns = columns

    def means(self, scores: np.ndarray, names: Sequence[str] = MEANS) -> dict[str, np.ndarray]:
        """Return means of a leaderboard's row in every bootstrap replicate, float64 (DRAWS,).

        Args:
            scores: The scores of the cells of complete seeds, float32 (cells, DRAWS), in per cent.
            names: The means to return.
        """
        nothing = np.full(scores.shape[1], np.nan)
        found = {}
        for mean, each in self.weights.items():
            counted = each > 0
            if mean in names:
                found[mean] = scores[counted].T @ each[counted] if counted.any() else nothing
        if "worst" not in names:
            return found
        unseen, seeds, targets = self._columns["relation"] == "unseen", self._columns["seed"], self._columns["target"]
        worst = []
        for seed in np.unique(seeds):
            here = unseen & (seeds == seed)
            worst.append([scores[here & (targets == name)].mean(0) for name in dict.fromkeys(targets[here])])
        found["worst"] = np.mean([np.min(seed, axis=0) for seed in worst], axis=0) if unseen.any() else nothing
        return found


@lru_cache(maxsize=256)
def _drawn_seeds(training: tuple[str, str], count: int, draws: int) -> np.ndarray:
    """Return the seeds of a training in every replicate, (count, draws), as positions in scores (count, draws)."""
    random = np.random.default_rng(seed_of("bootstrap seeds", *training, count))
    return random.integers(0, count, (draws, count)).T * draws + np.arange(draws)


def _weights(cells: Columns) -> dict[str, np.ndarray]:
    """Return the weight of each cell in those means of a leaderboard's row that are sums; all zero without cells."""
    relation = cells["relation"]
    pairs = coded(zip(cells["source"], cells["target"], strict=True))[1]
    in_pair = np.bincount(pairs)[pairs]
    found = {"in_domain": 1.0 * (relation == "source"), "all": 1.0 / in_pair, "unseen": 1.0 * (relation == "unseen")}
    return {mean: weights / max(weights.sum(), 1e-12) for mean, weights in found.items()}
