from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle
from sklearn.calibration import calibration_curve

from fergen_bench import metric

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)


@pytest.mark.parametrize(
    ("confusion", "found"),
    [
        ([[3, 97], [0, 100]], 1),
        ([[10, 90], [0, 100]], None),
        ([[0, 4], [0, 96]], None),  # nearly all images have that class
        ([[0, 0], [0, 0]], None),
    ],
)
def test_a_classifier_with_one_answer_has_collapsed(confusion: list[list[int]], found: int | None) -> None:
    assert metric.collapsed(np.array(confusion)) == found


@given(pairs)
def test_metrics_agree_with_scikit_learn(answers: list[tuple[int, int]]) -> None:
    labels, predicted = (np.array(column) for column in zip(*answers, strict=True))
    confusion = metric.confusion_matrix(labels, predicted, 7)
    np.testing.assert_array_equal(confusion, oracle.confusion_matrix(labels, predicted, labels=range(7)))
    assert metric.accuracy(confusion) == pytest.approx(oracle.accuracy_score(labels, predicted))
    present = sorted(set(labels.tolist()))
    recall = oracle.recall_score(labels, predicted, labels=present, average="macro", zero_division=0)
    assert metric.balanced_accuracy(confusion) == pytest.approx(recall)
    involved = sorted({*labels.tolist(), *predicted.tolist()})
    f1 = oracle.f1_score(labels, predicted, labels=involved, average="macro", zero_division=0)
    assert metric.macro_f1(confusion) == pytest.approx(f1)


def test_an_absent_expression_has_no_recall_and_does_not_count_as_zero() -> None:
    confusion = np.diag([3, 2, 0, 1, 1, 1, 1])
    assert math.isnan(metric.recalls(confusion)[2])
    assert metric.balanced_accuracy(confusion) == 1.0


def test_nothing_scored_is_nan_not_zero() -> None:
    empty = np.zeros((7, 7), int)
    assert all(math.isnan(function(empty)) for function in metric.METRICS.values())


def test_calibration_error_by_hand() -> None:
    # Sure to 0.9 four times and right three times; sure to 0.5 twice and right once: (4 · 0.15 + 2 · 0) / 6.
    shares = np.array([[0.9, 0.1]] * 4 + [[0.5, 0.5]] * 2)
    table = metric.reliability(np.log(shares), np.array([0, 0, 0, 1, 0, 1]))
    assert table[:, 0].tolist() == [0] * 7 + [2] + [0] * 5 + [4, 0]
    assert metric.calibration_error(table) == pytest.approx(0.1)
    assert math.isnan(metric.calibration_error(table * 0))


def test_reliability_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(0)
    logits, labels = 3 * random.normal(size=(500, 7)), random.integers(0, 7, 500)
    table = metric.reliability(logits, labels)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    right, confidence = calibration_curve(logits.argmax(1) == labels, shares.max(1), n_bins=metric.CONFIDENCE_BINS)
    full = table[table[:, 0] > 0]
    np.testing.assert_allclose(full[:, 2] / full[:, 0], right, atol=1e-6)
    np.testing.assert_allclose(full[:, 1] / full[:, 0], confidence, atol=1e-6)


def test_a_temperature_is_found_again() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(20000, 7))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (shares.cumsum(1) < random.random((20000, 1))).sum(1).clip(0, 6)
    assert metric.fit_temperature(3 * logits, labels) == pytest.approx(3, rel=0.05)
    assert metric.fit_temperature(np.eye(7), np.arange(7)) < 0.1  # all right: as sure as may be
    assert math.isnan(metric.fit_temperature(logits[:0], labels[:0]))
    table = metric.reliability(3 * logits, labels, temperature=3)
    assert metric.calibration_error(table) < 0.02


def test_the_calibration_floor_is_the_error_of_calibrated_predictions() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (300, 7))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = []
    for _ in range(200):
        labels = (shares.cumsum(1) < random.random((300, 1))).sum(1).clip(0, 6)
        found.append(metric.calibration_error(metric.reliability(logits, labels)))
    assert metric.calibration_floor(metric.reliability(logits, labels)) == pytest.approx(np.mean(found), rel=0.05)
    assert np.isnan(metric.calibration_floor(np.zeros((15, 3))))
    assert np.isnan(metric.calibration_floor(metric.reliability(np.zeros((0, 7)), np.zeros(0, int))))


def test_metrics_of_many_matrices_are_those_of_each_to_the_bit() -> None:
    random = np.random.default_rng(0)
    confusions = random.integers(0, 40, (200, 7, 7))
    confusions[::3, 2] = 0  # an expression without images
    confusions[::6, :, 2] = 0  # which is not predicted either
    confusions[0] = 0
    for name, values in metric.metrics_of_many(confusions).items():
        np.testing.assert_array_equal(values, [metric.METRICS[name](confusion) for confusion in confusions])
    np.testing.assert_array_equal(metric.recalls(confusions), [metric.recalls(confusion) for confusion in confusions])


def test_metrics_of_many_tables_and_matrices_are_those_of_each() -> None:
    random = np.random.default_rng(0)
    tables = random.uniform(0, 50, (4, metric.CONFIDENCE_BINS, 3)).astype(np.float32)
    tables[1] = 0.0  # no images
    tables[2, 3:] = 0.0
    for function in (metric.calibration_error, metric.calibration_floor):
        np.testing.assert_array_equal(function(tables), [function(table) for table in tables])
    matrices = np.array([np.eye(7), np.eye(7)[[0] * 7], np.zeros((7, 7))], int)
    assert metric.collapsed_of_many(matrices) == [None, 0, None]
