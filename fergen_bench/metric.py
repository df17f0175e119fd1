"""Numbers from confusion matrices: rows are true expressions, columns predicted ones, both in the order of EXPRESSIONS.

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


def accuracy_interval(confusion: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of the accuracy: what sampling of the target's faces alone leaves open."""
    from statistics import NormalDist

    total = int(confusion.sum())
    if not total:
        return math.nan, math.nan
    z, share = NormalDist().inv_cdf((1 + level) / 2), accuracy(confusion)
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    reach = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    return centre - reach, centre + reach


METRICS = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "macro_f1": macro_f1}
"""The metrics of a cell, by the names used in tables, records and tracking."""
