"""Compute intervals and p from means in every bootstrap replicate, from seeds and from domains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from fergen_bench.report.tables import domains_of

LEVEL = 0.95

ALPHA = 1.0 - LEVEL


@dataclass(frozen=True)
class Difference:
    """Second minus first, in points. Without a value or without predictions, the other fields are nan.

    Attributes:
        value: The difference.
        low: The lower end of its 95 % interval over trainings and faces.
        high: The upper end.
        p: The probability of a difference at least as large between equally good rows; nan where some training has one
            seed, since the variation of trainings is unknown then.
        domains_low: The lower end of its 95 % interval over domains too.
        domains_high: The upper end.
    """

    value: float
    low: float = np.nan
    high: float = np.nan
    p: float = np.nan
    domains_low: float = np.nan
    domains_high: float = np.nan


Parts = dict[tuple[str, str], tuple[tuple[int, ...], np.ndarray]]
"""Training → its seeds, and the contribution of each to a mean over cells."""


@dataclass(frozen=True)
class Sampled:
    """A mean in every bootstrap replicate, (DRAWS,), and the contributions of the seeds to it."""

    drawn: np.ndarray
    parts: Parts

    @cached_property
    def squares(self) -> tuple[float, int]:
        """Return the part of this mean in the degrees of freedom of a difference without paired seeds."""
        return _squares(seeds_of(self.parts))

    @cached_property
    def grid(self) -> tuple[list[tuple[tuple[str, str], tuple[int, ...]]], np.ndarray] | None:
        """Return the trainings by name, with their seeds, and the contributions (trainings, seeds).

        None where one training has more seeds than another.
        """
        if len({len(seeds) for seeds, _ in self.parts.values()}) != 1:
            return None
        order = sorted(self.parts)
        trainings = [(training, self.parts[training][0]) for training in order]
        return trainings, np.array([self.parts[training][1] for training in order])

    def minus(self, other: Sampled) -> Sampled:
        """Return the difference from another mean over the same sources, targets and seeds."""
        parts = {training: (seeds, own - other.parts[training][1]) for training, (seeds, own) in self.parts.items()}
        return Sampled(self.drawn - other.drawn, parts)

    @property
    def several(self) -> bool:
        """Return True if every training has several seeds, so that their variation is known."""
        return all(len(seeds) > 1 for seeds, _ in self.parts.values())


def seeds_of(first: Parts, second: Parts | None = None) -> list[np.ndarray]:
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


def t_quantile(tail: float, freedom: float) -> float:
    """Return the value that Student's t exceeds with the probability `tail`; a normal distribution's for inf."""
    from scipy.special import ndtri, stdtrit  # scipy.stats would take half a second to load

    return -float(stdtrit(freedom, tail) if np.isfinite(freedom) else ndtri(tail))


def t_tail(value: float, freedom: float) -> float:
    """Return the probability that Student's t exceeds a value; a normal distribution's for inf."""
    from scipy.special import ndtr, stdtr

    return float(stdtr(freedom, -value) if np.isfinite(freedom) else ndtr(-value))


def freedom_of(seeds: Iterable[np.ndarray], variance: float) -> float:
    """Return the degrees of freedom of a mean's variance, that of its replicates; infinite where no seeds vary.

    Welch's formula (Biometrika 1947, appendix), with n + 1 and then two less: it allows for variances of two or three
    seeds that differ by chance alone, which Satterthwaite's (1946), with n - 1, takes for real ones.
    """
    return _freedom(variance, *_squares(seeds))


def _squares(seeds: Iterable[np.ndarray]) -> tuple[float, int]:
    """Return the divisor of Welch's formula and the smallest number of seeds; 0 and 0 where no seeds vary."""
    several = [values for values in seeds if len(values) > 1]
    counts = np.array([len(values) for values in several])
    variances = np.empty(len(counts))
    for count in {*counts.tolist()}:  # numpy takes as long for one training as for many
        those = np.flatnonzero(counts == count)
        variances[those] = np.var([several[place] for place in those], axis=1, ddof=1)
    # A number of numpy keeps the division by it in float64 where the variance is that of float32 replicates.
    return np.float64(sum((counts * variances) ** 2 / (counts + 1))), int(min(counts, default=0))


def _freedom(variance: float, squares: float, least: int) -> float:
    return float(max(variance**2 / squares - 2, least - 1)) if squares > 0 else np.inf


def _squares_apart(first: Sampled, second: Sampled) -> tuple[float, int]:
    """Return the `_squares` of a difference; where no training has the same seeds in both means, their parts add up."""
    if any(training in first.parts and first.parts[training][0] == own[0] for training, own in second.parts.items()):
        return _squares(seeds_of(second.parts, first.parts))
    one, other = first.squares, second.squares
    return one[0] + other[0], min((least for _, least in (one, other) if least), default=0)


def freedoms_of(first: Sampled, others: Sequence[Sampled], variances: np.ndarray) -> np.ndarray:
    """Return `freedom_of` of the difference of a mean from each of several others.

    Args:
        first: The mean.
        others: The others.
        variances: The variance of each difference, (others,).
    """
    found, alike, grids = np.empty(len(others)), [], []
    own = first.grid
    for place, other in enumerate(others):
        if own is not None and other.grid is not None and other.grid[0] == own[0]:
            alike.append(place)
            grids.append(other.grid[1])
        else:
            found[place] = _freedom(float(variances[place]), *_squares_apart(first, other))
    if own is not None and alike:  # numpy takes as long for one difference as for many
        apart = own[1] - np.array(grids)  # (differences, trainings, seeds)
        seeds = apart.shape[2]
        squares = np.zeros(len(alike))
        if seeds > 1:
            squares += ((seeds * np.var(apart, axis=2, ddof=1)) ** 2 / (seeds + 1)).sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            several = np.maximum(variances[alike] ** 2 / squares - 2, seeds - 1)
        found[alike] = np.where(squares > 0, several, np.inf)
    return found


def limits(value: float, sampled: Sampled) -> tuple[float, float]:
    """Return the 95 % interval of a mean: the middle 95 % of its replicates, without their bias, widened for few seeds.

    A replicate has fewer different faces than the target, so metrics that are not means of faces, such as macro F1, are
    biased in it. The difference of the replicates' mean from the value estimates the bias of the value, and the
    interval is moved by as much the other way. It is widened by the ratio of Student's t to a normal distribution. The
    limits are nan where nothing varies: if the few faces of a cell are all right, the next one may still be wrong.
    """
    return limits_of([value], [sampled])[0]


def limits_of(values: Sequence[float], sampled: Sequence[Sampled]) -> list[tuple[float, float]]:
    """Return the `limits` of several means."""
    known = [one.drawn[~np.isnan(one.drawn)] for one in sampled]  # a replicate may lack faces of a rare expression
    found = [(np.nan, np.nan)] * len(known)
    normal = t_quantile(ALPHA / 2, np.inf)
    groups: dict[tuple[int, np.dtype[Any]], list[int]] = {}  # numpy takes as long for one mean as for many
    for place, drawn in enumerate(known):
        if len(drawn) and np.ptp(drawn) > 0:
            groups.setdefault((len(drawn), drawn.dtype), []).append(place)
    for those in groups.values():
        drawn = np.stack([known[place] for place in those])  # (means, replicates)
        ends = np.quantile(drawn, [ALPHA / 2, 0.5, 1 - ALPHA / 2], axis=1).T
        averages, variances = drawn.mean(1, dtype=np.float64), np.var(drawn, axis=1, ddof=1)
        for place, (low, middle, high), average, variance in zip(those, ends, averages, variances, strict=True):
            wider = t_quantile(ALPHA / 2, freedom_of(seeds_of(sampled[place].parts), variance)) / normal
            centre = 2 * values[place] - float(average)
            below, above = centre - wider * (middle - low), centre + wider * (high - middle)
            found[place] = float(max(0.0, below)), float(min(100.0, above))
    return found


def domain_error(pairs: Sequence[tuple[str, str]], values: np.ndarray) -> tuple[float, int]:
    """Return the standard error of a mean over cells if its domains are a sample of all domains, and its freedom.

    The mean is computed again without each domain in turn, as a source and as a target (the jackknife; Arvesen 1969
    for means over pairs). Where nothing would be left, as after trainings on several domains each, a domain leaves as a
    target alone. Trainings and faces differ between domains, so their variation is included.

    Args:
        pairs: The source and the target of each cell.
        values: The score of each cell, (cells,); nan for cells without a score.

    Returns:
        The standard error, nan for fewer than three domains, and the degrees of freedom.
    """
    names = list(dict.fromkeys(target for _, target in pairs))
    if len(names) < 3 or np.isnan(values).any():
        return np.nan, len(names) - 1
    trained = [set(domains_of(source)) for source, _ in pairs]
    on = np.array([[target == name for _, target in pairs] for name in names])  # (domains, cells)
    either = on | np.array([[name in sources for sources in trained] for name in names])
    left_out = on if either.all(1).any() else either
    left = np.array([values[~out].mean() for out in left_out])
    count = len(names)
    return float(np.sqrt((count - 1) / count * ((left - left.mean()) ** 2).sum())), count - 1


def domain_limits(value: float, error: float, freedom: int) -> tuple[float, float]:
    """Return the 95 % interval that belongs to a `domain_error`."""
    reach = t_quantile(ALPHA / 2, freedom) * error if error > 0 else np.nan
    return value - reach, value + reach


def tested(value: float, sampled: Sampled, finished: bool) -> Difference:
    """Return a difference of means with the interval and p of Student's t and the bootstrap's standard error.

    Args:
        value: The difference.
        sampled: The difference in every replicate.
        finished: True for finished models, of which no training varies.
    """
    known = sampled.drawn[~np.isnan(sampled.drawn)]
    if np.isnan(value) or len(known) < 2:  # without a number there is neither a test nor a count in Holm's correction
        return Difference(value)
    error, several = float(np.std(known, ddof=1)), finished or sampled.several
    if error == 0:  # equal predictions (p = 1), or equal replicates since faces are few (p unknown)
        return Difference(value, p=1.0 if several and abs(value) < 1e-9 else np.nan)
    freedom = freedom_of(seeds_of(sampled.parts), error**2)
    reach = t_quantile(ALPHA / 2, freedom) * error
    p = 2 * t_tail(abs(value) / error, freedom) if several else np.nan
    return Difference(value, value - reach, value + reach, p)


def holm(p: pd.Series) -> pd.Series:
    """Return p values corrected for as many tests as there are (Holm 1979); nan stays nan and does not count."""
    values = p.to_numpy(float)
    ascending = np.argsort(values)[: np.sum(~np.isnan(values))]  # nan comes last
    corrected = np.full(len(values), np.nan)
    factors = np.arange(len(ascending), 0, -1)
    corrected[ascending] = np.minimum(np.maximum.accumulate(values[ascending] * factors), 1.0)
    return pd.Series(corrected, p.index)
