"""Intervals and p from replicates, seeds and domains: values that are known beforehand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from fergen_bench.report import intervals


def test_freedom_lies_between_that_of_one_training_and_that_of_all() -> None:
    def freedom(*spreads: float, faces: float = 0.0) -> float:
        parts = {("s", str(at)): ((0, 1, 2), spread * np.array([-1.0, 0.0, 1.0])) for at, spread in enumerate(spreads)}
        seeds = sum(3 * spread**2 for spread in spreads)
        return intervals.freedom_of(intervals.seeds_of(parts), seeds + faces)

    assert freedom(1.0) == pytest.approx(2)
    assert freedom(1.0, 0.0, 0.0) == pytest.approx(2)
    assert freedom(1.0, 1.0, 1.0, 1.0, 1.0) == pytest.approx(18)
    assert freedom(1.0, faces=100.0) > 1000
    assert freedom(0.0) == np.inf
    # Trainings with three and two seeds: as many terms of their own.
    pair, variance = (0.5, -0.5), 3 * 1.0 + 2 * 0.5
    mixed = [np.array([-1.0, 0.0, 1.0]), np.array(pair), np.zeros(1)]
    assert intervals.freedom_of(mixed, variance) == pytest.approx(variance**2 / (9 / 4 + 1 / 3) - 2)


def test_holm_corrects_for_the_tests_that_there_are() -> None:
    corrected = intervals.holm(pd.Series([0.01, np.nan, 0.04, 0.03]))
    assert corrected.tolist() == pytest.approx([0.03, np.nan, 0.06, 0.06], nan_ok=True)
    assert intervals.holm(pd.Series([np.nan])).isna().all()


def test_the_error_over_domains_is_that_of_the_jackknife() -> None:
    random = np.random.default_rng(0)
    names, effects = "abcde", random.normal(0, 3, 5)
    pairs = [(one, other) for one in names for other in names if one != other]
    values = np.array([effects[names.index(source)] + effects[names.index(target)] for source, target in pairs])
    # The mean of pairs is twice the mean of the domains' effects.
    assert intervals.domain_error(pairs, values) == (pytest.approx(2 * effects.std(ddof=1) / np.sqrt(5)), 4)
    others = [("+".join(n for n in names if n != name), name) for name in names]
    assert intervals.domain_error(others, effects) == (pytest.approx(effects.std(ddof=1) / np.sqrt(5)), 4)
    low, high = intervals.domain_limits(70.0, 2.0, 4)
    assert (high - low) / 2 == pytest.approx(2.776 * 2, abs=0.01)
    assert np.isnan(intervals.domain_error(pairs[:2], values[:2])[0])  # two domains


def test_an_interval_is_moved_against_the_bias_of_its_replicates() -> None:
    drawn = np.random.default_rng(0).normal(67, 1, 100_000)  # on average three points below the value
    sampled = intervals.Sampled(drawn, {("web", ""): ((0, 1), np.zeros(2))})
    assert intervals.limits(70.0, sampled) == pytest.approx((73 - 1.96, 73 + 1.96), abs=0.05)
