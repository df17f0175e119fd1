"""Elementary functions are accurate, and have the bits that they have on every processor."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest

from fergen_bench.data import elementary

X = np.arange(1, 40_001) / 40_000


def worst(found: np.ndarray, expected: np.ndarray) -> float:
    """Return the largest error in units of the last place."""
    return float((np.abs(found - expected) / np.spacing(np.abs(expected))).max())


def test_they_are_accurate_to_a_few_units_in_the_last_place() -> None:
    assert worst(elementary.log(X), np.log(X)) <= 3
    assert worst(elementary.log(X * 1e30), np.log(X * 1e30)) <= 3
    assert worst(elementary.exp(X * 300 - 150), np.exp(X * 300 - 150)) <= 3
    assert worst(elementary.power(X, 0.4), X**0.4) <= 16
    angles = X * 60 - 30
    assert np.abs(elementary.cos(angles) - np.cos(angles)).max() < 3e-16
    assert np.abs(elementary.sin(angles) - np.sin(angles)).max() < 3e-16


def test_exact_values_are_exact() -> None:
    np.testing.assert_array_equal(elementary.power(np.array([0.0, 1.0]), 0.3), [0.0, 1.0])
    np.testing.assert_array_equal(elementary.log(np.array([1.0])), [0.0])
    np.testing.assert_array_equal(elementary.exp(np.array([0.0])), [1.0])
    np.testing.assert_array_equal(elementary.cos(np.array([0.0, math.pi])), [1.0, -1.0])
    np.testing.assert_array_equal(elementary.sin(np.array([0.0, math.pi / 2])), [0.0, 1.0])


@pytest.mark.parametrize(
    ("name", "values", "digest"),
    [
        ("log", X, "458b2d93f3dc0199"),
        ("exp", X * 20 - 10, "73227003bcf54932"),
        ("cos", X * 20 - 10, "08415e10d0ce2a2a"),
        ("sin", X * 20 - 10, "34d7376d3a4fcbc5"),
    ],
)
def test_their_bits_are_those_of_every_machine(name: str, values: np.ndarray, digest: str) -> None:
    assert hashlib.sha256(getattr(elementary, name)(values).astype("<f8").tobytes()).hexdigest()[:16] == digest
