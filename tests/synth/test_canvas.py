"""Tables, blending and windows of the canvas."""

from __future__ import annotations

import numpy as np
import pytest

from fergen_bench.synth import canvas
from fergen_bench.synth.canvas import Canvas
from fergen_bench.synth.worlds import compose


@pytest.mark.parametrize("exponent", [0.65, 0.7])
def test_a_power_from_its_table_is_accurate(exponent: float) -> None:
    root = np.linspace(0, 1, 10_001, dtype=np.float32)
    assert np.abs(canvas.power_of_root(root, exponent) - root.astype(float) ** (2 * exponent)).max() < 2e-5


def test_blending_replaces_covered_pixels_and_leaves_the_others() -> None:
    pixels = np.full((1, 3, 1, 3), 0.25, np.float32)
    coverage = np.array([[[0, 0.5, 1]]], np.float32)
    canvas.blend(pixels, canvas.rgb((1.0, 0.5, 0.0)), coverage)
    np.testing.assert_array_equal(pixels[0, :, 0], [[0.25, 0.625, 1], [0.25, 0.375, 0.5], [0.25, 0.125, 0]])


def test_a_window_has_the_coordinates_of_its_part_of_the_image() -> None:
    image = Canvas(compose("film", "test", np.arange(5)), 64)
    image.pixels[:] = 0
    window = image.spot(image.face.eye_x, image.face.eye_y, 0.2)
    np.testing.assert_allclose(window.x, window.pick(image.u) - image.face.eye_x, atol=1e-5)
    np.testing.assert_allclose(window.y, window.pick(image.v) - image.face.eye_y, atol=1e-5)
    window.pixels += (abs(window.x) + abs(window.y) < 0.05).astype(np.float32)[:, None]
    window.put_back()
    drawn = abs(image.u - image.face.eye_x) + abs(image.v - image.face.eye_y) < 0.05
    assert drawn.any((1, 2)).all()
    np.testing.assert_array_equal(image.pixels, np.repeat(drawn[:, None], 3, 1))
