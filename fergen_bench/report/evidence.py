"""How sure a report may be of its numbers: what the predictions beside the records say.

Intervals and comparisons of means resample on two levels: the seeds of each training, then the faces of each target
(Efron and Tibshirani 1993, chapter 8). One draw takes the same faces for every run that was scored on them, so that the
difference of two rows is a paired one. Two or three seeds say little of how trainings vary: resampling n of them finds
(n - 1) / n of their variance, and with one seed an interval is about faces alone. Numbers are in per cent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from fergen_bench.domain import EXPRESSIONS
from fergen_bench.draws import seed_of
from fergen_bench.error import BenchError
from fergen_bench.metric import calibration_error, fit_temperature, reliability
from fergen_bench.record import HELD_OUT, Cell, Predictions, RunRecord, load_predictions
from fergen_bench.report.tables import CELL, MEANS, Board, complete

DRAWS = 2000
LEVEL = 0.95
ALPHA = 1.0 - LEVEL
_BLOCK = 2**22
"""Numbers that are held at a time in an array of resampling counts, or of sums over them."""
_LEFT_OUT = 255
"""Stands for the prediction of a face that is not scored."""


@dataclass
class _Faces:
    """The faces of a target, and what runs said of them: expressions (N,) uint8, a row of them per cell."""

    name: str
    labels: np.ndarray
    said: list[np.ndarray] = field(default_factory=list)


@dataclass(frozen=True)
class Difference:
    """Second minus first, in points. Where there is no value or predictions are missing, the rest is nan."""

    value: float
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan


class Evidence:
    """The predictions of some records, read one run at a time; of each face only the predicted expression is kept.

    faults: a sentence for each file that cannot be read. Cells without predictions have no intervals.
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
                predictions = load_predictions(path)
            except BenchError as error:
                self.faults.append(str(error))
                continue
            held = predictions.get(HELD_OUT)
            temperature = None if held is None else fit_temperature(*held.scored)
            for cell in record.cells:
                if cell.target in predictions:
                    self._take(record.spec.key, cell, predictions[cell.target], temperature)

    def _take(self, key: str, cell: Cell, predictions: Predictions, temperature: float | None) -> None:
        if len(predictions.labels) != len(predictions.logits) or np.sum(~predictions.left_out) != cell.count:
            return  # an early record, or predictions of another run than the record's
        logits, labels = predictions.scored
        said = predictions.logits.T.astype(np.float32, order="C").argmax(0).astype(np.uint8)
        said[predictions.left_out] = _LEFT_OUT
        state = (cell.target, cell.fingerprint, predictions.labels.tobytes())
        faces = self._faces.setdefault(state, _Faces(cell.target, predictions.labels.astype(np.uint8)))
        self._places[key, cell.target] = faces, len(faces.said)
        faces.said.append(said)
        tempered = None if temperature is None else reliability(logits, labels, temperature)
        self.reliability[key, cell.target] = reliability(logits, labels), tempered

    def calibrated(self, cells: pd.DataFrame) -> pd.DataFrame:
        """Cells with their expected calibration errors: `ece`, and `ece_tempered` with a temperature that was fitted to
        held-out faces of the source; nan where there are no predictions, or no faces that were not learned from.
        """
        errors = {
            place: [np.nan if table is None else 100.0 * calibration_error(table) for table in tables]
            for place, tables in self.reliability.items()
        }
        found = [errors.get(place, [np.nan, np.nan]) for place in zip(cells.key, cells.target, strict=True)]
        return cells.assign(ece=[pair[0] for pair in found], ece_tempered=[pair[1] for pair in found])

    def covers(self, cells: pd.DataFrame) -> bool:
        """Whether every one of these cells has predictions."""
        return len(cells) > 0 and all(place in self._places for place in zip(cells.key, cells.target, strict=True))

    def resampled(self, cells: pd.DataFrame, metric: str) -> np.ndarray:
        """The scores of cells in every draw (DRAWS, cells), in per cent: a cell stands for another seed of the same
        training, on other faces. Each training must have all of its targets for every one of its seeds.
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
                scores[:, grid.ravel()] = np.take_along_axis(scores, taken.reshape(DRAWS, -1), 1)
        return scores

    def _scores_on(self, faces: _Faces, metric: str) -> np.ndarray:
        """The scores of all cells on some faces in every draw of faces (cells, DRAWS), in per cent."""
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
        """95 % of the mean over some cells, such as those of one source and target; nan without predictions."""
        if not self.covers(cells):
            return np.nan, np.nan
        return _limits(self.resampled(cells, metric).mean(1))

    def difference(self, first: pd.DataFrame, second: pd.DataFrame, metric: str) -> Difference:
        """Second minus first in the mean over cells, which are the same ones in the same order. The interval and p are
        those of a normal distribution with the bootstrap's standard error: a correction for many tests needs smaller p
        values than can be counted in 2,000 draws.
        """
        value = float((second[metric].to_numpy() - first[metric].to_numpy()).mean())
        if np.isnan(value) or not (self.covers(first) and self.covers(second)):
            return Difference(value)
        drawn = self.resampled(second, metric) - self.resampled(first, metric)
        return _normal(value, np.asarray(np.nanmean(drawn, axis=1, dtype=np.float64)))

    def discordant(self, first: pd.DataFrame, second: pd.DataFrame) -> tuple[int, int] | None:
        """Of the faces of one target: how many the first row gets right in more of the runs that both have, and how
        many the second. None where predictions are missing.
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
    """A metric of cells under counts of faces: (draws, N), (cells, N), (N,) → (draws, cells). Absent is nan."""

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


def _limits(drawn: np.ndarray) -> tuple[float, float]:
    known = drawn[~np.isnan(drawn)]  # a draw may have no face of a rare expression
    if not len(known):
        return np.nan, np.nan
    low, high = np.quantile(known, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def _normal(value: float, drawn: np.ndarray) -> Difference:
    from scipy.stats import norm

    known = drawn[~np.isnan(drawn)]
    if np.isnan(value) or len(known) < 2:  # no number, no test; Holm counts it as none either
        return Difference(value)
    error = float(np.std(known, ddof=1))
    reach = float(norm.isf(ALPHA / 2)) * error
    p = 2 * float(norm.sf(abs(value) / error)) if error > 0 else float(abs(value) < 1e-9)
    return Difference(value, value - reach, value + reach, p)


def holm(p: pd.Series) -> pd.Series:
    """p values corrected for as many tests as there are (Holm 1979); nan stays nan and does not count."""
    from statsmodels.stats.multitest import multipletests

    corrected, known = p.astype(float).copy(), p.notna()
    if known.any():
        corrected[known] = multipletests(p[known].astype(float), method="holm")[1]
    return corrected


# ---------------------------------------------------------------------------------------------------------- leaderboard


def means(cells: pd.DataFrame, scores: np.ndarray) -> dict[str, np.ndarray]:
    """The means of a leaderboard's row in every draw. cells: of complete seeds; scores: (draws, cells)."""
    relation, seeds, targets = (cells[name].to_numpy() for name in ("relation", "seed", "target"))
    own, unseen = relation == "source", relation == "unseen"
    in_pair = cells.groupby(["source", "target"]).key.transform("size").to_numpy()
    worst = []
    for seed in np.unique(seeds):
        here = unseen & (seeds == seed)
        worst.append([scores[:, here & (targets == name)].mean(1) for name in dict.fromkeys(targets[here])])
    nothing = np.full(len(scores), np.nan)
    return {
        "in_domain": scores[:, own].mean(1) if own.any() else nothing,
        "all": (scores / in_pair).sum(1) / (1 / in_pair).sum(),
        "unseen": scores[:, unseen].mean(1) if unseen.any() else nothing,
        "worst": np.mean([np.min(seed, axis=0) for seed in worst], axis=0) if unseen.any() else nothing,
    }


def judged(boards: Iterable[Board], evidence: Evidence | None, metric: str) -> Iterator[Board]:
    """Leaderboards whose rows say how sure they are.

    For each mean, as `unseen_low` and `unseen_high`: its interval of 95 %. `standing`: best; tied, where the mean over
    unseen targets cannot be told from that of the best row at 5 % (paired, corrected for all rows after Holm); else
    behind; "" where predictions are missing, or no target is unseen.
    """
    for board in boards:
        rows = [complete(cells, board.asked) for _, cells in board.rows()]
        limits = {f"{mean}_{end}": np.full(len(rows), np.nan) for mean in MEANS for end in ("low", "high")}
        standing, p, best = [""] * len(rows), pd.Series(np.nan, range(len(rows))), None
        for place, cells in enumerate(rows):
            if evidence is None or not evidence.covers(cells):
                continue
            drawn = means(cells, evidence.resampled(cells, metric))
            for mean, draws in drawn.items():
                limits[f"{mean}_low"][place], limits[f"{mean}_high"][place] = _limits(draws)
            if place == 0:
                best = drawn["unseen"]
            elif best is not None and set(cells.seed) == set(rows[0].seed):  # then the draws are pairs already
                value = board.table.unseen[place] - board.table.unseen[0]
                p[place] = _normal(value, drawn["unseen"] - best).p
            elif best is not None:
                pair = shared(rows[0][rows[0].relation == "unseen"], cells[cells.relation == "unseen"])
                p[place] = evidence.difference(*pair, metric).p if len(pair[0]) else np.nan
        for place, value in holm(p).items():
            if pd.notna(value):
                standing[0] = "best"
                standing[place] = "tied" if value >= ALPHA else "behind"
        yield replace(board, table=board.table.assign(**limits, standing=standing))


def shared(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The cells that two rows share, by source, target and seed, in one order. Of a training that lacks a target for
    some seed, that seed is left out.
    """
    if (
        first.adaptation.any() != second.adaptation.any()
    ):  # then a cell on an unseen target is the same question to both
        first, second = (row[row.relation == "unseen"].assign(adapted_to="") for row in (first, second))
    on = [*CELL, "seed"]
    both = first[on].merge(second[on], on=on)
    training = both.groupby(["source", "adapted_to"])
    whole = both.groupby(["source", "adapted_to", "seed"]).target.transform("size") == training.target.transform(
        "nunique"
    )
    both = both[whole]
    return both.merge(first, on=on, how="left"), both.merge(second, on=on, how="left")


# ----------------------------------------------------------------------------------------------------------- comparison


@dataclass(frozen=True)
class Comparison:
    """Second minus first on what both have, in points. In the frames, p_holm is p corrected for the rows of the frame.

    cells: source, target, relation, difference, low, high, p, p_holm. targets: target, faces, difference, low, high,
    first_only, second_only (faces), p, p_holm of McNemar's test. expressions: expression, first, second, difference,
    low, high, p, p_holm, over unseen targets.
    """

    metric: str
    unseen: Difference
    cells: pd.DataFrame
    targets: pd.DataFrame
    expressions: pd.DataFrame
    seeds: int
    spread: float  # of the mean over unseen targets, between seeds; nan below two
    covered: bool  # whether there are predictions of all of it


def compare(first: pd.DataFrame, second: pd.DataFrame, evidence: Evidence, metric: str) -> Comparison:
    """Two rows of a report, by their cells. Raises BenchError where they share no cell of an unseen target."""
    first, second = shared(first, second)
    unseen = (first.relation == "unseen").to_numpy()
    if not unseen.any():
        raise BenchError(
            "the two share no source, seed and unseen target, so nothing can be compared; run both with the same "
            "--sources, --targets and --seeds"
        )
    one, other = first[unseen], second[unseen]
    cells = [
        {"source": source, "target": target, "relation": group.relation.iloc[0]}
        | _line(evidence.difference(group, second.loc[group.index], metric))
        for (source, target), group in first.groupby(["source", "target"], sort=False)
    ]
    targets = []
    for target, group in one.groupby("target", sort=False):
        found = evidence.discordant(group, other.loc[group.index])
        line = _line(evidence.difference(group, other.loc[group.index], metric))
        counts = (np.nan, np.nan) if found is None else found
        faces = {"target": target, "faces": int(group.faces.max()), "first_only": counts[0], "second_only": counts[1]}
        p = np.nan if found is None or np.isnan(line["difference"]) else mcnemar(*found)
        targets.append(faces | line | {"p": p})
    expressions = []
    for name in EXPRESSIONS:
        recall = f"recall_{name}"
        there = one[recall].notna() & other[recall].notna()
        mean = {"expression": name, "first": one[recall][there].mean(), "second": other[recall][there].mean()}
        difference = evidence.difference(one[there], other[there], recall) if there.any() else Difference(np.nan)
        expressions.append(mean | _line(difference))
    frames = [pd.DataFrame(rows) for rows in (cells, targets, expressions)]
    by_cell, by_target, by_expression = (frame.assign(p_holm=holm(frame.p)) for frame in frames)
    overall = evidence.difference(one, other, metric)
    covered = evidence.covers(first) and evidence.covers(second)
    per_seed = (other[metric] - one[metric]).groupby(one.seed).mean()
    seeds = len(per_seed), float(per_seed.std(ddof=1))
    return Comparison(metric, overall, by_cell, by_target, by_expression, *seeds, covered)


def _line(difference: Difference) -> dict[str, float]:
    return {"difference": difference.value, "low": difference.low, "high": difference.high, "p": difference.p}


def mcnemar(first_only: int, second_only: int) -> float:
    """The exact p of McNemar's test that faces which one row alone gets right are as many for either. With several runs
    a face counts for the row that is right in more of them, so that every face counts once. It speaks of these
    trainings, not of others with other seeds.
    """
    from statsmodels.stats.contingency_tables import mcnemar as test

    return min(1.0, float(test([[0, first_only], [second_only, 0]], exact=True).pvalue))


# -------------------------------------------------------------------------------------------------------------- ranking


@dataclass(frozen=True)
class Ranking:
    """Methods by their mean rank over blocks (1 is best), after Demšar (JMLR 2006). A block is one source, unseen
    target and seed. Blocks share trainings and faces, so p is smaller than for as many independent ones.
    """

    ranks: pd.Series  # mean rank by the row's name, best first
    blocks: int
    p: float  # of Friedman's test that no method differs from any other
    distance: float  # the critical difference of two mean ranks at 5 % (Nemenyi)
    pairs: pd.DataFrame  # p of each pair (Nemenyi), in the order of ranks

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """The largest groups of methods that cannot be told apart, best first; without those of one method."""
        names = list(self.ranks.index)
        found: list[tuple[str, ...]] = []
        for start in range(len(names)):
            alike = [name for name in names[start:] if self.pairs.loc[names[start], name] > ALPHA]
            if len(alike) > 1 and not (found and alike[-1] == found[-1][-1]):
                found.append(tuple(alike))
        return found


def ranking(board: Board, metric: str) -> Ranking | None:
    """The rows of a leaderboard over the blocks that all have; None for fewer than three rows or two blocks. Rows
    without a mean over unseen targets are left out. Needs no predictions.
    """
    from scikit_posthocs import posthoc_nemenyi_friedman
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    whole = board.table.unseen.notna().to_numpy()
    columns = {
        name: cells[cells.relation == "unseen"].set_index([*CELL, "seed"])[metric]
        for (name, cells), kept in zip(board.rows(), whole, strict=True)
        if kept
    }
    if len(columns) < 3:
        return None
    scores = pd.DataFrame(columns).dropna()
    if len(scores) < 2:
        return None
    count, blocks = len(columns), len(scores)
    ranks = pd.Series(rankdata(-scores, axis=1).mean(0), scores.columns).sort_values(kind="stable")
    alike = bool((scores.nunique(axis=1) == 1).all())  # Friedman's statistic does not exist then
    p = 1.0 if alike else float(friedmanchisquare(*(scores[name] for name in scores)).pvalue)
    distance = studentized_range.isf(ALPHA, count, np.inf) / np.sqrt(2) * np.sqrt(count * (count + 1) / (6 * blocks))
    nemenyi = posthoc_nemenyi_friedman(scores.to_numpy())
    nemenyi.index = nemenyi.columns = scores.columns
    return Ranking(ranks, blocks, p, float(distance), nemenyi.loc[ranks.index, ranks.index])
