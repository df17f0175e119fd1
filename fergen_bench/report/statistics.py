"""Compute intervals and significance tests from the predictions stored with the records.

Intervals and comparisons of means use bootstrap replicates on two levels: the seeds of each training, then the faces of
each target (Efron and Tibshirani 1993, chapter 8). One replicate uses the same faces for every run that was scored on
them, so the difference of two rows is paired. Resampling n seeds underestimates their variance by (n - 1) / n, so their
deviations are multiplied by the root of n / (n - 1). Two or three seeds may agree by chance, so intervals and p use
Student's t, with degrees of freedom after Welch (1947), in which the number of faces counts as infinite. With one seed
an interval covers the variation of faces alone. Numbers are in per cent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.data.randomness import seed_of
from fergen_bench.error import BenchError
from fergen_bench.metric import calibration_error, fit_temperature, reliability
from fergen_bench.records.counting import without
from fergen_bench.records.record import HELD_OUT, Cell, Predictions, RunRecord
from fergen_bench.records.store import RecordFile
from fergen_bench.report.tables import CELL, MEANS, Board, complete

DRAWS = 2000

LEVEL = 0.95

ALPHA = 1.0 - LEVEL

_BLOCK = 2**22
"""The maximum of numbers in memory at a time in an array of resampling counts, or of sums over them."""

_LEFT_OUT = 255
"""The code for the prediction of a face that is not scored."""


@dataclass
class _Faces:
    """The faces of a target and their predictions: expressions (N,) uint8, one row of `said` per cell."""

    name: str
    labels: np.ndarray
    said: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """Second minus first, in points. Without a value or without predictions, the other fields are nan."""

    value: float
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan


class Evidence:
    """The predictions of some records, read one run at a time.

    Only the predicted expression of each face stays in memory.

    The interval of a mean is nan if one of its cells lacks predictions.

    Attributes:
        faults: A sentence for each unreadable file.
    """

    def __init__(self, records: Iterable[RunRecord], runs: Path) -> None:
        self.faults: list[str] = []
        self.reliability: dict[tuple[str, str], tuple[np.ndarray, np.ndarray | None]] = {}
        """(key, target) → the cell's table of `metric.reliability`, as predicted and with the run's temperature."""
        self._faces: dict[tuple[str, str, bytes], _Faces] = {}
        self._places: dict[tuple[str, str], tuple[_Faces, int]] = {}
        self._scores: dict[tuple[int, str], np.ndarray] = {}
        for record in records:
            path = record.spec.path(runs)
            if not path.with_suffix(".npz").is_file():
                continue
            try:
                predictions = RecordFile(path, record).predictions()
            except BenchError as error:
                self.faults.append(str(error))
                continue
            held = predictions.get(HELD_OUT)
            temperature = None if held is None else fit_temperature(*held.scored)
            for cell in record.cells:
                if cell.target in predictions:
                    self._take(record.spec.key, cell, predictions[cell.target], temperature)

    def _take(self, key: str, cell: Cell, predictions: Predictions, temperature: float | None) -> None:
        if cell.left_out is not None and max(cell.left_out, default=-1) < len(predictions.logits):
            predictions = without(predictions, cell.left_out)
        if len(predictions.labels) != len(predictions.logits) or np.sum(~predictions.unscored) != cell.count:
            return  # the record is early, or the predictions are those of another run
        logits, labels = predictions.scored
        said = predictions.logits.T.astype(np.float32, order="C").argmax(0).astype(np.uint8)
        said[predictions.unscored] = _LEFT_OUT
        state = (cell.target, cell.fingerprint, predictions.labels.tobytes())
        faces = self._faces.setdefault(state, _Faces(cell.target, predictions.labels.astype(np.uint8)))
        self._places[key, cell.target] = faces, len(faces.said)
        faces.said.append(said)
        tempered = None if temperature is None else reliability(logits, labels, temperature)
        self.reliability[key, cell.target] = reliability(logits, labels), tempered

    def calibrated(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Return the cells with their expected calibration errors, `ece` and `ece_tempered`, in points.

        The temperature of `ece_tempered` was fitted to held-out faces of the source. Values are nan without
        predictions, and `ece_tempered` also without held-out faces.
        """
        errors = {
            place: [np.nan if table is None else 100.0 * calibration_error(table) for table in tables]
            for place, tables in self.reliability.items()
        }
        found = [errors.get(place, [np.nan, np.nan]) for place in zip(cells.key, cells.target, strict=True)]
        return cells.assign(ece=[pair[0] for pair in found], ece_tempered=[pair[1] for pair in found])

    def covers(self, cells: pd.DataFrame) -> bool:
        """Return True where every one of these cells has predictions."""
        return len(cells) > 0 and all(place in self._places for place in zip(cells.key, cells.target, strict=True))

    def resampled(self, cells: pd.DataFrame, metric: str) -> np.ndarray:
        """Return the scores of cells in every bootstrap replicate, (DRAWS, cells), in per cent.

        In a replicate, a cell has the score of another seed of the same training, on other faces. Each training must
        have all of its targets for every one of its seeds.
        """
        places = [self._places[place] for place in zip(cells.key, cells.target, strict=True)]
        scores = np.stack([self._scores_on(faces, metric)[row] for faces, row in places], 1)
        seeds, targets = cells.seed.to_numpy(), cells.target.to_numpy()
        for training, runs in cells.groupby(["source", "adapted_to"], sort=False).indices.items():
            count = len(np.unique(seeds[runs]))
            if count > 1:
                grid = runs[np.lexsort((targets[runs], seeds[runs]))].reshape(count, -1)  # (seeds, targets)
                random = np.random.default_rng(seed_of("bootstrap seeds", *training, count))
                taken = grid[random.integers(0, count, (DRAWS, count))]  # (DRAWS, seeds, targets)
                drawn = np.take_along_axis(scores, taken.reshape(DRAWS, -1), 1).reshape(taken.shape)
                middle = scores[:, grid].mean(1, keepdims=True)
                drawn = middle + np.float32(np.sqrt(count / (count - 1))) * (drawn - middle)
                scores[:, grid.ravel()] = drawn.reshape(DRAWS, -1)
        return scores

    def _scores_on(self, faces: _Faces, metric: str) -> np.ndarray:
        """Return the scores of all cells on some faces in every replicate of the faces, (cells, DRAWS), in per cent."""
        known = (id(faces), metric)
        if known not in self._scores:
            said, labels = np.stack(faces.said), faces.labels
            count = len(labels)
            random = np.random.default_rng(seed_of("bootstrap faces", faces.name, count))
            size = max(1, _BLOCK // max(count, 4 * len(said)))
            blocks = []
            for start in range(0, DRAWS, size):
                drawn = random.integers(0, count, (min(size, DRAWS - start), count))
                drawn += np.arange(len(drawn))[:, None] * count
                weights = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(np.float32)
                blocks.append(100.0 * _weighted(weights, said, labels, metric))
            self._scores[known] = np.concatenate(blocks).T.astype(np.float32, order="C")
        return self._scores[known]

    def interval(self, cells: pd.DataFrame, metric: str) -> tuple[float, float]:
        """Return the 95 % interval of the mean over cells, for example of one source and target; nan if not covered."""
        if not self.covers(cells):
            return np.nan, np.nan
        drawn = self.resampled(cells, metric).mean(1)
        return _limits(drawn, _freedom(_seeds(_by_training(cells, cells[metric].to_numpy() / len(cells))), drawn))

    def difference(self, first: pd.DataFrame, second: pd.DataFrame, metric: str) -> Difference:
        """Return second minus first in the mean over cells, with its interval and p.

        The cells of both rows are the same, in the same order. Each source and target has the same weight, whatever its
        number of seeds. The interval and p are those of Student's t with the bootstrap's standard error: a correction
        for many tests needs smaller p values than can be counted in 2,000 replicates.
        """
        apart = second[metric].to_numpy() - first[metric].to_numpy()
        weights = 1 / first.groupby(CELL).key.transform("size").to_numpy()
        weights = weights / weights.sum()
        value = float((weights * apart).sum())
        if np.isnan(value) or not (self.covers(first) and self.covers(second)):
            return Difference(value)
        drawn = self.resampled(second, metric) - self.resampled(first, metric)
        there = np.isfinite(drawn)  # a draw may lack faces of a rare expression
        with np.errstate(invalid="ignore"):
            means = np.where(there, drawn, 0) @ weights / (there @ weights)
        return _tested(value, means, _freedom(_seeds(_by_training(first, apart * weights)), means))

    def discordant(self, first: pd.DataFrame, second: pd.DataFrame) -> tuple[int, int] | None:
        """Return the numbers of faces of one target that the first row, and the second, predicts right more often.

        A face counts for the row that is right in more of the runs that both rows have. None where predictions are
        missing.
        """
        if not (self.covers(first) and self.covers(second)):
            return None
        lead: np.ndarray | None = None
        for target, one, other in zip(first.target, first.key, second.key, strict=True):
            (faces, row), (same, column) = self._places[one, target], self._places[other, target]
            if faces is not same:
                return None
            said, labels = (faces.said[row], faces.said[column]), faces.labels
            both = (said[0] != _LEFT_OUT) & (said[1] != _LEFT_OUT)
            change = both * ((said[1] == labels).astype(int) - (said[0] == labels))
            lead = change if lead is None else lead + change
        return None if lead is None else (int((lead < 0).sum()), int((lead > 0).sum()))


def _weighted(weights: np.ndarray, said: np.ndarray, labels: np.ndarray, metric: str) -> np.ndarray:
    """Return a metric of cells under counts of faces: (draws, N), (cells, N), (N,) → (draws, cells). Absent is nan."""

    def count(chosen: np.ndarray, among: np.ndarray | None = None) -> np.ndarray:
        if among is not None:
            return weights[:, among] @ chosen[:, among].T.astype(np.float32)
        return weights @ chosen.T.astype(np.float32)

    scored = said != _LEFT_OUT
    everyone = scored[:1] if scored.all() else scored  # one row for all cells where no cell leaves faces out
    with np.errstate(invalid="ignore", divide="ignore"):
        if metric == "accuracy":
            return count(said == labels) / count(everyone)
        of = list(range(len(EXPRESSIONS)))
        if metric.startswith("recall_"):
            of = [EXPRESSIONS.index(metric.removeprefix("recall_"))]
        right = [count(said == place, labels == place) for place in of]
        there = [count(everyone, labels == place) for place in of]
        if metric == "macro_f1":
            there = [(own + count(said == place)) / 2 for place, own in zip(of, there, strict=True)]
        shares = np.stack([found / own for found, own in zip(right, there, strict=True)])
        present = np.isfinite(shares)
        return np.where(present, shares, 0).sum(0) / np.where(present.any(0), present.sum(0), np.nan)


Parts = dict[tuple[str, str], tuple[tuple[int, ...], np.ndarray]]
"""Training → its seeds, and the contribution of each to a mean over cells."""


def _by_training(cells: pd.DataFrame, added: np.ndarray) -> Parts:
    """Return the sum of the contributions of cells to a mean, by training and seed.

    Args:
        cells: The cells of the mean.
        added: The contribution of each cell.
    """
    sums = pd.Series(added, cells.index).groupby([cells.source, cells.adapted_to, cells.seed], sort=False).sum()
    found: dict[tuple[str, str], dict[int, float]] = {}
    for (source, adapted_to, seed), value in sums.items():
        found.setdefault((source, adapted_to), {})[seed] = value
    return {
        training: (tuple(sorted(of)), np.array([of[seed] for seed in sorted(of)])) for training, of in found.items()
    }


def _seeds(first: Parts, second: Parts | None = None) -> list[np.ndarray]:
    """Return the contributions of the seeds of each training to a mean, or to the difference of two means.

    A training that has the same seeds in both means contributes the paired differences.
    """
    found, others = [], second or {}
    for training in {**first, **others}:
        one, other = first.get(training), others.get(training)
        if one is not None and other is not None and one[0] == other[0]:
            found.append(other[1] - one[1])
        else:
            found += [part[1] for part in (one, other) if part is not None]
    return found


def _freedom(seeds: Iterable[np.ndarray], drawn: np.ndarray) -> float:
    """Return the degrees of freedom of a mean's standard error, that of its draws; infinite where no seeds vary.

    Welch's formula (Biometrika 1947, appendix), with n + 1 and then two less: it allows for variances of two or three
    seeds that differ by chance alone, which Satterthwaite's (1946), with n - 1, takes for real ones.
    """
    several = [values for values in seeds if len(values) > 1]
    squares = sum((len(values) * np.var(values, ddof=1)) ** 2 / (len(values) + 1) for values in several)
    if not squares > 0:
        return np.inf
    return float(max(np.nanvar(drawn, ddof=1) ** 2 / squares - 2, min(len(values) - 1 for values in several)))


def _limits(drawn: np.ndarray, freedom: float) -> tuple[float, float]:
    """Return the middle 95 % of the draws, widened by the ratio of Student's t to a normal distribution.

    The limits are nan where nothing varies: if the few faces of a cell are all right, the next one may still be wrong.
    """
    from scipy.stats import norm, t

    known = drawn[~np.isnan(drawn)]  # a draw may lack faces of a rare expression
    if not len(known) or np.ptp(known) == 0:
        return np.nan, np.nan
    low, middle, high = np.quantile(known, [ALPHA / 2, 0.5, 1 - ALPHA / 2])
    wider = t.isf(ALPHA / 2, freedom) / norm.isf(ALPHA / 2)
    return float(max(0.0, middle - wider * (middle - low))), float(min(100.0, middle + wider * (high - middle)))


def _tested(value: float, drawn: np.ndarray, freedom: float) -> Difference:
    from scipy.stats import t

    known = drawn[~np.isnan(drawn)]
    if np.isnan(value) or len(known) < 2:  # without a number there is neither a test nor a count in Holm's correction
        return Difference(value)
    error = float(np.std(known, ddof=1))
    if error == 0:  # equal predictions (p = 1), or equal draws since faces are few (p unknown)
        return Difference(value, p=1.0 if abs(value) < 1e-9 else np.nan)
    reach = float(t.isf(ALPHA / 2, freedom)) * error
    return Difference(value, value - reach, value + reach, 2 * float(t.sf(abs(value) / error, freedom)))


def holm(p: pd.Series) -> pd.Series:
    """Return p values corrected for as many tests as there are (Holm 1979); nan stays nan and does not count."""
    from statsmodels.stats.multitest import multipletests

    corrected, known = p.astype(float).copy(), p.notna()
    if known.any():
        corrected[known] = multipletests(p[known].astype(float), method="holm")[1]
    return corrected


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the exact p of McNemar's test that as many faces are right in the first row alone as in the second alone.

    With several runs a face counts for the row that is right in more of them, so every face counts once. The test
    covers these trainings, not others with other seeds.
    """
    from statsmodels.stats.contingency_tables import mcnemar as test

    return min(1.0, float(test([[0, first_only], [second_only, 0]], exact=True).pvalue))


def _weights(cells: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return the weight of each cell in those means of a leaderboard's row that are sums; all zero without cells."""
    relation = cells.relation.to_numpy()
    in_pair = cells.groupby(["source", "target"]).key.transform("size").to_numpy()
    found = {"in_domain": 1.0 * (relation == "source"), "all": 1.0 / in_pair, "unseen": 1.0 * (relation == "unseen")}
    return {mean: weights / max(weights.sum(), 1e-12) for mean, weights in found.items()}


def means(cells: pd.DataFrame, scores: np.ndarray, weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the means of a leaderboard's row in every bootstrap replicate.

    Args:
        cells: The cells of complete seeds.
        scores: Float (draws, cells), in per cent.
        weights: The weight of each cell, by mean.
    """
    nothing = np.full(len(scores), np.nan)
    found = {}
    for mean, each in weights.items():
        counted = each > 0
        found[mean] = scores[:, counted] @ each[counted] if counted.any() else nothing
    unseen, seeds, targets = (cells.relation == "unseen").to_numpy(), cells.seed.to_numpy(), cells.target.to_numpy()
    worst = []
    for seed in np.unique(seeds):
        here = unseen & (seeds == seed)
        worst.append([scores[:, here & (targets == name)].mean(1) for name in dict.fromkeys(targets[here])])
    found["worst"] = np.mean([np.min(seed, axis=0) for seed in worst], axis=0) if unseen.any() else nothing
    return found


def judged(boards: Iterable[Board], evidence: Evidence | None, metric: str) -> Iterator[Board]:
    """Yield leaderboards with intervals and standings.

    Each mean has the limits of its 95 % interval as two columns, such as `unseen_low` and `unseen_high`. `standing` is
    best; tied, where the mean over unseen targets does not differ significantly from that of the best row at 5 %, all
    pairs of rows considered at once; else behind; "" where predictions are missing, or no target is unseen.
    """
    for board in boards:
        rows = [complete(cells, board.asked) for _, cells in board.rows()]
        limits = {f"{mean}_{end}": np.full(len(rows), np.nan) for mean in MEANS for end in ("low", "high")}
        unseen: dict[int, tuple[np.ndarray, Parts]] = {}
        for place, cells in enumerate(rows):
            if evidence is None or not evidence.covers(cells):
                continue
            scores, weights = cells[metric].to_numpy(), _weights(cells)
            drawn = means(cells, evidence.resampled(cells, metric), weights)
            parts = {mean: _by_training(cells, each * scores) for mean, each in weights.items()}
            parts["worst"] = parts["unseen"]
            for mean, draws in drawn.items():
                ends = _limits(draws, _freedom(_seeds(parts[mean]), draws))
                limits[f"{mean}_low"][place], limits[f"{mean}_high"][place] = ends
            if not np.isnan(board.table.unseen[place]):
                unseen[place] = drawn["unseen"], parts["unseen"]
        standing = [""] * len(rows)
        for place, p in _against_best(board.table.unseen.to_numpy(), unseen).items():
            standing[0] = "best"
            standing[place] = "tied" if p >= ALPHA else "behind"
        yield replace(board, table=board.table.assign(**limits, standing=standing))


def _against_best(values: np.ndarray, rows: dict[int, tuple[np.ndarray, Parts]]) -> dict[int, float]:
    """Return p of each row's distance from the first row, which is the best, corrected for all pairs of rows.

    The correction covers all pairs since the best row was selected on the same data. Single-step maxT (Westfall and
    Young 1993) over studentised differences: p is the share of draws in which some pair is at least as far apart
    although all rows were moved to one mean.

    Args:
        values: The mean of each row.
        rows: By the row's index, the draws of its mean and the contributions of its seeds.
    """
    if 0 not in rows:
        return {}
    places = list(rows)
    centred = np.stack([drawn - drawn.mean() for drawn, _ in rows.values()])
    luck = np.random.default_rng(seed_of("bootstrap scale")).random((centred.shape[1],))
    scales: dict[float, np.ndarray] = {}
    farthest = np.zeros(centred.shape[1])
    from_best = {}
    for row, place in enumerate(places):
        apart = centred[row + 1 :] - centred[row]
        errors = apart.std(1, ddof=1)
        for other, (draws, error) in enumerate(zip(apart, errors, strict=True), row + 1):
            value = abs(values[places[other]] - values[place])
            if error == 0:  # equal predictions, or too few faces for a test
                if row == 0 and value < 1e-9:
                    from_best[places[other]] = 0.0
                continue
            freedom = round(_freedom(_seeds(rows[place][1], rows[places[other]][1]), draws), 1)
            if freedom not in scales:
                scales[freedom] = _too_small(luck, freedom)
            np.maximum(farthest, np.abs(draws) / error * scales[freedom], out=farthest)
            if row == 0:
                from_best[places[other]] = value / error
    return {place: float((farthest >= distance).mean()) for place, distance in from_best.items()}


def _too_small(luck: np.ndarray, freedom: float) -> np.ndarray:
    """Return the factors by which an error from few seeds may be too small.

    They turn normal draws into those of Student's t.
    """
    from scipy.stats import chi2

    return np.sqrt(freedom / chi2.ppf(luck, freedom)) if np.isfinite(freedom) else np.ones_like(luck)
