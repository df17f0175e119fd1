"""The distributions of a world's factors."""

from __future__ import annotations

import numpy as np
import pytest

from fergen_bench.data.randomness import Draws
from fergen_bench.synth.style import Constant, Humped, Normal, Sometimes, Style, Uniform

DRAWS = Draws(np.arange(4000), "test")


@pytest.mark.parametrize(
    ("distribution", "low", "high", "mean"),
    [
        (Constant(0.3), 0.3, 0.3, 0.3),
        (Uniform(1.0, 3.0), 1.0, 3.0, 2.0),
        (Normal(1.0, 0.2), 0.5, 1.5, 1.0),
        (Normal(1.0, 0.2, limit=0.1), 0.9, 1.1, 1.0),
        (Humped(1.0, 1.0, 2.0, 4.0), 2.0, 4.0, 3.0),
        (Sometimes(0.25, Constant(4.0), otherwise=0.0), 0.0, 4.0, 1.0),
    ],
)
def test_values_are_in_their_range(distribution: Constant, low: float, high: float, mean: float) -> None:
    values = distribution.sample(DRAWS, "factor")
    assert values.shape == (4000,)
    assert values.min() >= low
    assert values.max() <= high
    assert values.mean() == pytest.approx(mean, abs=0.05 * (high - low) + 1e-9)
    np.testing.assert_array_equal(values, distribution.sample(DRAWS, "factor"))


def test_factors_have_random_numbers_of_their_own() -> None:
    style = Style(yaw=Uniform(0.0, 1.0), pitch=Uniform(0.0, 1.0))
    yaw, pitch = style.sample(DRAWS, "yaw"), style.sample(DRAWS, "pitch")
    assert abs(np.corrcoef(yaw, pitch)[0, 1]) < 0.06
    fixed = style.with_factors({"yaw": 0.5})
    np.testing.assert_array_equal(fixed.sample(DRAWS, "yaw"), np.full(4000, 0.5))
    np.testing.assert_array_equal(fixed.sample(DRAWS, "pitch"), pitch)
