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


def test_the_freedom_of_many_differences_is_that_of_each() -> None:
    """Means of other trainings, other numbers of seeds, uneven seeds and one seed are among them."""
    random = np.random.default_rng(0)

    def sampled(seeds: dict[str, int]) -> intervals.Sampled:
        parts = {(name, ""): (tuple(range(count)), random.normal(size=count)) for name, count in seeds.items()}
        return intervals.Sampled(random.normal(size=50), parts)

    kinds = [{"a": 3, "b": 3}, {"b": 3, "a": 3}, {"a": 5, "b": 5}, {"a": 3, "b": 2}, {"c": 3}, {"a": 1, "b": 1}]
    means, variances = [sampled(seeds) for seeds in kinds], random.uniform(1, 2, len(kinds))
    for first in means:
        found = intervals.freedoms_of(first, means, variances)
        expected = [
            intervals.freedom_of(intervals.seeds_of(other.parts, first.parts), variance)
            for other, variance in zip(means, variances, strict=True)
        ]
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_limits_of_many_means_are_those_of_each() -> None:
    random = np.random.default_rng(0)
    drawn = [random.normal(50, 3, 400) for _ in range(5)]
    drawn[1][:7] = np.nan  # replicates without faces of a rare expression
    drawn[2] = drawn[2].astype(np.float32)
    drawn[3][:] = 50.0  # nothing varies
    drawn[4][:] = np.nan
    parts = {("a", ""): ((0, 1, 2), np.array([1.0, 2.0, 3.0]))}
    sampled = [intervals.Sampled(one, parts) for one in drawn]
    found = intervals.limits_of([50.0] * 5, sampled)
    assert [np.isnan(low) for low, _ in found] == [False, False, False, True, True]
    np.testing.assert_array_equal(found, [intervals.limits(50.0, one) for one in sampled])
