"""Numbers from confusion matrices: rows are true expressions, columns predicted ones, both in the order of EXPRESSIONS;
and calibration, which needs the logits.

Shares are in 0..1. Where a number does not exist it is nan, never 0: an expression that is absent from a target has no
recall.
"""

from __future__ import annotations

import math

import numpy as np


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """int64 (N,), int64 (N,) → int64 (classes, classes)."""
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def accuracy(confusion: np.ndarray) -> float:
    """Share of faces that are right."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else math.nan


def recalls(confusion: np.ndarray) -> np.ndarray:
    """Share of each expression that is found (K,); nan where the expression is absent."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.diag(confusion) / confusion.sum(1)


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Mean recall over the expressions that are present (UAR)."""
    present = confusion.sum(1) > 0
    return float(recalls(confusion)[present].mean()) if present.any() else math.nan


def macro_f1(confusion: np.ndarray) -> float:
    """Mean F1 over the expressions that are present or were predicted."""
    true_positive = np.diag(confusion)
    involved = confusion.sum(0) + confusion.sum(1)
    present = involved > 0
    return float((2 * true_positive[present] / involved[present]).mean()) if present.any() else math.nan


CONFIDENCE_BINS = 15
"""Of equal width: as many as Guo et al. (ICML 2017) use."""


def reliability(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """How often a network is right when it is so sure of itself: float (N, K) logits, integers (N,) → (bins, 3).

    Per bin of confidence, (0, 1/15] to (14/15, 1]: faces, sum of their confidences, how many of them are right. Such
    tables of several targets can be added.
    """
    columns = logits.T.astype(np.float32, order="C")  # numpy is many times faster over few rows than over few columns
    right = columns.argmax(0) == labels
    confidence = 1.0 / np.exp((columns - columns.max(0)) / temperature).sum(0)
    bins = np.ceil(confidence * CONFIDENCE_BINS).astype(int).clip(1, CONFIDENCE_BINS) - 1
    return np.stack([np.bincount(bins, weights, CONFIDENCE_BINS) for weights in (None, confidence, right)], 1)


def calibration_error(table: np.ndarray) -> float:
    """Expected calibration error (ECE) of a table of `reliability`: the distance between confidence and accuracy of a
    bin, as a mean over faces.
    """
    faces = table[:, 0].sum()
    return float(np.abs(table[:, 1] - table[:, 2]).sum() / faces) if faces else math.nan


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """What held-out logits (N, K) must be divided by to have the least cross-entropy (Guo et al., ICML 2017), between
    0.01 and 100: where all of them are right there is no least one. nan where there are none.
    """
    from scipy.optimize import minimize_scalar

    if not len(labels):
        return math.nan
    centred = logits.astype(np.float64)
    centred -= centred.max(1, keepdims=True)
    own = centred[np.arange(len(labels)), labels]

    def cross_entropy(log_temperature: float) -> float:
        inverse = math.exp(-log_temperature)
        return float((np.log(np.exp(centred * inverse).sum(1)) - own * inverse).mean())

    reach = math.log(100.0)
    return math.exp(minimize_scalar(cross_entropy, bounds=(-reach, reach), method="bounded").x)


METRICS = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1}
"""The metrics of a cell, by the names used in tables, records and tracking."""
