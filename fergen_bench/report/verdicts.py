"""Compute the intervals of a leaderboard's means, and the rows that are significantly behind the best.

A mean over unseen targets has two intervals. The first covers the variation of trainings and faces and holds for the
domains of the leaderboard. The second treats these domains as a sample of all domains; with few domains it is wide.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import pandas as pd

from fergen_bench.data.randomness import seed_of
from fergen_bench.metric import METRICS
from fergen_bench.report.averages import Columns, by_row, coded, group_means, mean, spread
from fergen_bench.report.intervals import ALPHA, Sampled, domain_error, domain_limits, freedoms_of, limits_of
from fergen_bench.report.statistics import Evidence
from fergen_bench.report.tables import CELL, MEANS, NOT_COMPARED, ROW, Board, complete_columns

BEST, TIED, BEHIND = "best", "tied", "behind"
"""The standings of rows that are compared."""

NO_UNSEEN = "no mean over unseen targets"
NO_PREDICTIONS = "predictions are not beside all of its records"
ONE_TRAINING = "one training of each source: its numbers hold for these trainings only"
TOO_FEW = "so few faces that no bootstrap replicate differs"
OTHER_CELLS = "its mean is over other cells than that of most rows, since training or pre-training saw other targets"
ALONE = "no other row can be compared"
"""The reasons why a row is not compared."""


@dataclass(frozen=True)
class Verdict:
    """The standing of a row.

    Attributes:
        standing: best; tied, where the row does not differ significantly from the best; behind; or not compared.
        reason: The reason why it is not compared; else "".
        p: The corrected p of its difference from the best; nan for the best and for rows that are not compared.
    """

    standing: str
    reason: str = ""
    p: float = np.nan


def judged(boards: Iterable[Board], evidence: Evidence | None, metric: str) -> Iterator[Board]:
    """Yield leaderboards with intervals and standings.

    `in_domain`, `all`, `unseen` and `worst` have their 95 % intervals in columns with `_low` and `_high`. The unseen
    mean under each metric m is `unseen_{m}`, with `_sd`, `_low`, `_high`, `_domains_low`, `_domains_high`, `_standing`,
    `_standing_reason` and `_p`. The columns `unseen_domains_low`, `unseen_domains_high`, `standing`, `standing_reason`
    and `p` repeat those of the leaderboard's metric.

    Args:
        boards: The leaderboards.
        evidence: The stored predictions; None without any.
        metric: The metric of the leaderboards.
    """
    for board in boards:
        cells = by_row(board.cells, ROW, [*CELL, "relation", "key", "seed", *METRICS])
        rows = [_row(complete_columns(cells[name], board.asked), evidence) for name in board.names()]
        columns = _limits_of_means(board.table, rows, metric)
        for name in METRICS:
            columns |= {
                f"unseen_{name}_{column}": values for column, values in _unseen(rows, name, board.finished).items()
            }
        own = {column: columns[f"unseen_{metric}_{column}"] for column in ("standing", "standing_reason", "p")}
        over = {f"unseen_domains_{end}": columns[f"unseen_{metric}_domains_{end}"] for end in ("low", "high")}
        yield replace(board, table=board.table.assign(**columns, **over, **own))


@dataclass(frozen=True)
class _Row:
    """A row of a leaderboard: its complete seeds, and the groups of its unseen cells, which all metrics share.

    Attributes:
        cells: The cells of complete seeds.
        evidence: The stored predictions; None where some of these cells lack them.
        unseen: The cells of unseen targets, bool (cells,).
        seeds: The number of their seeds, and the index of the seed of each.
        pairs: Their sources and targets, and the index of the pair of each.
    """

    cells: Columns
    evidence: Evidence | None
    unseen: np.ndarray
    seeds: tuple[int, np.ndarray]
    pairs: tuple[list[tuple[str, str]], np.ndarray]


def _row(cells: Columns, evidence: Evidence | None) -> _Row:
    covered = evidence if evidence is not None and evidence.covers(cells) else None
    unseen = cells["relation"] == "unseen"
    seeds, of_seed = coded(cells["seed"][unseen])
    pairs = coded(zip(cells["source"][unseen], cells["target"][unseen], strict=True))
    return _Row(cells, covered, unseen, (len(seeds), of_seed), pairs)


def _limits_of_means(
    table: pd.DataFrame, rows: Sequence[_Row], metric: str
) -> dict[str, Sequence[object] | np.ndarray]:
    """Return the limits of the means of each row over trainings and faces, as columns."""
    sampled = [None if row.evidence is None else row.evidence.row_means(row.cells, metric) for row in rows]
    found: dict[str, Sequence[object] | np.ndarray] = {}
    for name in MEANS:
        ends = _limits(table[name].to_numpy(), [None if drawn is None else drawn[name] for drawn in sampled])
        found |= {f"{name}_low": ends[:, 0], f"{name}_high": ends[:, 1]}
    return found


def _limits(values: Sequence[float], sampled: Sequence[Sampled | None]) -> np.ndarray:
    """Return the limits of means, (means, 2); nan for those without replicates."""
    found = np.full((len(sampled), 2), np.nan)
    known = {place: drawn for place, drawn in enumerate(sampled) if drawn is not None}
    if known:
        found[[*known]] = limits_of([values[place] for place in known], [*known.values()])
    return found


def _unseen(rows: Sequence[_Row], metric: str, finished: bool) -> dict[str, Sequence[object] | np.ndarray]:
    """Return the columns of the mean over unseen targets under one metric.

    Args:
        rows: The rows.
        metric: The name of the metric.
        finished: True for finished models, see `compared`.
    """
    lines, values, sampled, averaged = [], [], [], []
    for row in rows:
        scores = row.cells[metric][row.unseen]
        (seeds, of_seed), (pairs, of_pair) = row.seeds, row.pairs
        by_seed = group_means(of_seed, seeds, scores)
        value, drawn = mean(by_seed), None
        if row.evidence is not None and not np.isnan(value):
            drawn = row.evidence.row_means(row.cells, metric, ["unseen"])["unseen"]
        over = domain_limits(value, *domain_error(pairs, group_means(of_pair, len(pairs), scores)))
        lines.append(
            {
                "sd": spread(by_seed),
                **dict(zip(("domains_low", "domains_high"), np.clip(over, 0.0, 100.0), strict=True)),
            }
        )
        values.append(value)
        sampled.append(drawn)
        averaged.append(frozenset(pairs))
    verdicts = compared(values, sampled, finished, _others(averaged))
    columns = {name: [line[name] for line in lines] for name in (lines[0] if lines else ())}
    ends = _limits(values, sampled)
    return {
        **columns,
        "low": ends[:, 0],
        "high": ends[:, 1],
        "standing": [verdict.standing for verdict in verdicts],
        "standing_reason": [verdict.reason for verdict in verdicts],
        "p": [verdict.p for verdict in verdicts],
    }


def _others(averaged: Sequence[frozenset[object]]) -> list[int]:
    """Return the rows whose mean is over other cells than that of most rows; of equally many, those with more cells.

    Rows without a mean, such as those without a complete seed, do not count.
    """
    common = max(filter(None, averaged), key=lambda cells: (averaged.count(cells), len(cells)), default=None)
    return [place for place, cells in enumerate(averaged) if cells and cells != common]


def compared(
    values: Sequence[float], sampled: Sequence[Sampled | None], finished: bool = False, others: Sequence[int] = ()
) -> list[Verdict]:
    """Return the verdict on each row: it is compared with the best of the rows that have two or more trainings.

    Args:
        values: The mean of each row; nan where it has none.
        sampled: Its replicates; None where predictions are missing.
        finished: True for finished models: statements are about the models themselves, so one of each is enough.
        others: Rows whose mean is over other cells, which is not compared.
    """
    verdicts = [
        Verdict(NOT_COMPARED, _hindrance(value, drawn, finished)) for value, drawn in zip(values, sampled, strict=True)
    ]
    for place in others:
        verdicts[place] = Verdict(NOT_COMPARED, verdicts[place].reason or OTHER_CELLS)
    able = [place for place, verdict in enumerate(verdicts) if not verdict.reason]
    able.sort(key=lambda place: -values[place])
    if len(able) == 1:
        verdicts[able[0]] = Verdict(NOT_COMPARED, ALONE)
    if len(able) < 2:
        return verdicts
    p = against_best({place: (values[place], drawn) for place in able if (drawn := sampled[place]) is not None})
    verdicts[able[0]] = Verdict(BEST)
    for place in able[1:]:
        verdicts[place] = (
            Verdict(TIED if p[place] >= ALPHA else BEHIND, p=p[place]) if place in p else Verdict(NOT_COMPARED, TOO_FEW)
        )
    return verdicts


def _hindrance(value: float, sampled: Sampled | None, finished: bool) -> str:
    """Return the reason why a row cannot be compared, or ""."""
    if np.isnan(value):
        return NO_UNSEEN
    if sampled is None:
        return NO_PREDICTIONS
    return ONE_TRAINING if not (finished or sampled.several) else ""


def against_best(rows: Mapping[int, tuple[float, Sampled]]) -> dict[int, float]:
    """Return p of each row's distance from the first row, which is the best.

    In at least 95 % of leaderboards the row that is truly best is the first or has p of 0.05 or more: multiple
    comparisons with the best (Hsu 1984). p of a row is the share of replicates in which some other row is at least as
    far from it, although all were moved to one mean; all others count, since the best one was found on the same data.
    Distances are in standard errors. The rows are removed from the farthest inwards, and a row that was removed counts
    no longer (step-down), so poor rows do not change the p of good ones; p is never less than that of a row removed
    before.

    Args:
        rows: By the index of a row, its mean and its replicates, the best first.

    Returns:
        p by the index of a row; without rows that cannot be tested since no replicate differs.
    """
    places, (best, *values) = [*rows], [value for value, _ in rows.values()]
    sampled = [drawn for _, drawn in rows.values()]
    centred = np.stack([one.drawn - np.nanmean(one.drawn) for one in sampled])  # (rows, DRAWS)
    variance = np.nanvar if np.isnan(centred).any() else np.var  # the latter takes much less time
    errors = np.sqrt(variance(centred - centred[0], axis=1, ddof=1))  # of the distance of each row from the best
    distances: dict[int, float] = {}
    p: dict[int, float] = {}
    for row, value in enumerate(values, 1):
        if errors[row] > 0:
            distances[row] = (best - value) / errors[row]
        elif best - value < 1e-9:  # equal predictions
            p[row] = 1.0
    inside = [0]
    for row in sorted(distances, key=lambda row: distances[row]):
        draws = centred[row] - centred[inside]
        variances = variance(draws, axis=1, ddof=1)
        freedoms = freedoms_of(sampled[row], [sampled[other] for other in inside], variances)
        p[row] = _share_beyond(distances[row], np.abs(draws), np.sqrt(variances), freedoms)
        inside.append(row)
    highest = 0.0
    for row in reversed(inside[1:]):
        p[row] = highest = max(highest, p[row])
    return {places[row]: value for row, value in p.items()}


def _share_beyond(distance: float, draws: np.ndarray, errors: np.ndarray, freedoms: np.ndarray) -> float:
    """Return the share of replicates in which some row is at least as far away as a distance.

    Args:
        distance: The distance, in standard errors.
        draws: The distance from each of some rows in every replicate, (rows, DRAWS).
        errors: The standard error of each of these distances, (rows,).
        freedoms: Its degrees of freedom, (rows,).
    """
    count = draws.shape[1]
    beyond = np.zeros(count, bool) | (distance <= 0)
    for drawn, error, freedom in zip(draws, errors, (float(f"{one:.2g}") for one in freedoms), strict=True):
        if error > 0:
            # Most replicates are so near that not even the largest factor matters, and computing a factor takes long.
            near = np.flatnonzero(~beyond & (drawn * (_largest(freedom, count) / error) >= distance))
            beyond[near] = drawn[near] * (_factor(freedom, _luck(count)[near]) / error) >= distance
    return float(beyond.mean())


@lru_cache(maxsize=1024)
def _largest(freedom: float, count: int) -> float:
    """Return the largest factor of all replicates."""
    return float(_factor(freedom, _luck(count).min(keepdims=True))[0])


@lru_cache(maxsize=8)
def _luck(count: int) -> np.ndarray:
    return np.random.default_rng(seed_of("bootstrap scale")).random(count)


def _factor(freedom: float, luck: np.ndarray) -> np.ndarray:
    """Return the factors by which an error from few seeds may be too small, one for each replicate.

    They turn normal replicates into those of Student's t.

    Args:
        freedom: The degrees of freedom.
        luck: A random number for each replicate.
    """
    from scipy.special import gammaincinv

    return np.sqrt(freedom / (2 * gammaincinv(freedom / 2, luck))) if np.isfinite(freedom) else np.ones(len(luck))
