"""The reduced form of predictions and arrays in packed records."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from examples import example_predictions

from fergen_bench.metric import calibration_error, fit_temperature, reliability
from fergen_bench.records.record import HELD_OUT, Predictions
from fergen_bench.records.reduced import reduce_arrays, reduce_predictions, restore_arrays
from fergen_bench.records.sidecar import pack_predictions, unpack_predictions

DRAW = np.random.default_rng(0)


def drawn(count: int) -> Predictions:
    return Predictions(DRAW.normal(size=(count, 7)), DRAW.integers(0, 7, count), np.arange(count) == 1)


def test_classes_stay_and_confidences_become_tables(tmp_path: object) -> None:
    full = {"web": drawn(40), HELD_OUT: drawn(30)}
    small = reduce_predictions(full)
    assert [*small] == ["web"]
    packed = pack_predictions(small)
    assert (packed["web"].dtype, packed["web"].shape) == (np.uint8, (40,))
    again = unpack_predictions(packed, tmp_path)["web"]  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.logits.argmax(1), full["web"].logits.argmax(1))
    np.testing.assert_array_equal(again.left_out, full["web"].left_out)
    assert again.reliability is not None
    temperature = fit_temperature(*full[HELD_OUT].scored)
    for table, heat in zip(again.reliability, (1.0, temperature), strict=True):
        expected = calibration_error(reliability(*full["web"].scored, heat))
        np.testing.assert_allclose(calibration_error(table), expected, rtol=1e-5)


def test_reducing_twice_changes_nothing() -> None:
    once = reduce_predictions({"web": drawn(40), HELD_OUT: drawn(30)})
    twice = reduce_predictions(once)
    for name, array in pack_predictions(once).items():
        np.testing.assert_array_equal(pack_predictions(twice)[name], array)


def test_expressions_without_confidences_have_no_tables() -> None:
    tables = reduce_predictions({"web": drawn(9)}, confident=False)["web"].reliability
    assert tables is not None
    assert tables.shape == (0, 15, 3)


def test_predictions_of_early_records_without_labels_are_left_out() -> None:
    assert reduce_predictions({"web": replace(example_predictions(4), labels=np.zeros(0, np.uint8))}) == {}


def test_means_of_inspected_values_stay_within_a_step_and_other_arrays_go() -> None:
    mean = DRAW.uniform(0.5, 0.9, (7, 16)).astype(np.float16)
    mean[3] = np.nan
    arrays = {
        "web.mask.mean": mean,
        "web.mask.sd": mean,
        "web.mask.count": np.arange(7),
        "web.mask.varying": np.arange(4),
        "web.mask.top": np.ones((4, 8), int),
        "probe": np.ones(3),
    }
    small = reduce_arrays(arrays, ["web"])
    found = restore_arrays(small)
    assert sorted(found) == ["web.mask.count", "web.mask.mean", "web.mask.top", "web.mask.varying"]
    np.testing.assert_allclose(found["web.mask.mean"], mean, atol=0.5 * 0.4 / 127 + 1e-4)
    again = reduce_arrays(found, ["web"])
    assert all(np.array_equal(again[name], small[name]) for name in small)
