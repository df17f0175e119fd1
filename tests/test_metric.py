from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from fergen_bench import metric

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=60)


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
    assert all(math.isnan(bound) for bound in metric.accuracy_interval(empty))


def test_wilson_interval() -> None:
    confusion = np.zeros((7, 7), int)
    confusion[0, 0], confusion[0, 1] = 80, 20
    assert metric.accuracy_interval(confusion) == pytest.approx((0.7112, 0.8666), abs=1e-4)
