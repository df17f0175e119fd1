"""The camera's matrix products and tables of tones."""

from __future__ import annotations

import numpy as np

from fergen_bench.synth import camera
from fergen_bench.synth.geometry import Fields
from fergen_bench.synth.pretrain import compose


def test_a_product_does_not_depend_on_the_order_of_its_sums() -> None:
    generator = np.random.default_rng(0)
    left, right = (np.rint(generator.uniform(-0.5, 0.5, (64, 64)) * 2**24) / 2**24 for _ in range(2))
    found = camera.exact_product(left, right)
    order = generator.permutation(64)
    np.testing.assert_array_equal(camera.exact_product(left[:, order], right[order]), found)
    # The same sums in whole numbers, which Python computes without any rounding.
    rows, columns = (
        [[int(value) for value in line] for line in (matrix * 2**24).tolist()] for matrix in (left, right.T)
    )
    whole = [[sum(a * b for a, b in zip(row, column, strict=True)) for column in columns] for row in rows]
    np.testing.assert_array_equal(found, np.rint(np.array(whole, float) * 2.0**-24) * 2.0**-24)


def test_bands_leave_out_zeros_only() -> None:
    shot = Fields(compose("probe", np.arange(6)))
    images = np.rint(np.random.default_rng(0).uniform(0, 1.6, (6, 3, 112, 112)) * 2**24) / 2**24
    matrices = camera._optics(112, shot.blur_x, shot.resolution)
    np.testing.assert_allclose(matrices.sum(2), 1, atol=1e-5)
    found = camera._along_columns(matrices, images)
    np.testing.assert_array_equal(found, camera.exact_product(matrices[:, None], images))


def test_tones_are_a_power_with_contrast_and_lift() -> None:
    shot = Fields(compose("probe", np.arange(6)))
    light = np.broadcast_to(np.linspace(0, 1.6, 5000, dtype=np.float32), (6, 1, 5000)).copy()
    expected = (light.clip(1e-4, None).astype(float) ** shot.gamma - 0.5) * shot.contrast + 0.5 + shot.lift
    found = camera.interpolate(camera._tones(shot), camera._table_position(light))
    assert np.abs(found - expected).max() * 255 < 1e-3


def test_the_cosines_are_orthonormal() -> None:
    matrix = camera._cosines()
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(8), atol=1e-6)
