"""Noise banks do not depend on the last bits of an FFT."""

from __future__ import annotations

import numpy as np
import pytest

from fergen_bench.data.randomness import Draws
from fergen_bench.synth import textures


@pytest.mark.parametrize("kind", textures._SPREAD)
def test_smoothed_noise_is_far_from_where_its_rounding_changes(kind: str) -> None:
    """An FFT differs by 1e-15 between processors, a thousandth of the smallest distance."""
    steps = textures.smoothed(*textures._SPREAD[kind]) / textures._GRID
    from_tie = np.abs(steps - np.floor(steps) - 0.5).min() * textures._GRID
    assert from_tie > 1e-12
    assert np.std(steps * textures._GRID) == pytest.approx(1)


def test_a_part_of_a_piece_is_cut_from_it() -> None:
    draws = Draws(range(3), "test")
    whole = textures.cut("small", draws, "x", 64)
    corners = [(0, 0), (10, 20), (44, 34)]
    part = textures.cut("small", draws, "x", 64, corners, (20, 30))
    assert whole.shape == (3, 64, 64)
    for image, (top, left) in enumerate(corners):
        np.testing.assert_array_equal(part[image], whole[image, top : top + 20, left : left + 30])
