"""Metrics of confusion matrices, and calibration metrics of logits.

Rows of a confusion matrix are true expressions, columns are predicted ones, both in the order of EXPRESSIONS. Metrics
are fractions in 0..1. An undefined metric is nan, never 0: for example the recall of an expression that a target lacks.
"""

from __future__ import annotations

import math

import numpy as np


def confusion_matrix(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count the pairs of true and predicted classes.

    Args:
        labels: The true classes, int64 (N,).
        predicted: The predicted classes, int64 (N,).
        classes: The number of classes K.

    Returns:
        int64 (K, K): rows are true classes, columns are predicted ones.
    """
    return np.bincount(labels * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def accuracy(confusion: np.ndarray) -> float:
    """Return the fraction of correct predictions; nan for an empty matrix (K, K)."""
    total = confusion.sum()
    return float(np.trace(confusion) / total) if total else math.nan


def recalls(confusion: np.ndarray) -> np.ndarray:
    """Return the recall of each expression (…, K) of matrices (…, K, K); nan for absent expressions."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.diagonal(confusion, axis1=-2, axis2=-1) / confusion.sum(-1)


def balanced_accuracy(confusion: np.ndarray) -> float:
    """Return the mean recall (UAR) over the expressions that a matrix (K, K) contains."""
    present = confusion.sum(1) > 0
    return float(recalls(confusion)[present].mean()) if present.any() else math.nan


def macro_f1(confusion: np.ndarray) -> float:
    """Return the mean F1 score over the expressions that are present or predicted in a matrix (K, K)."""
    true_positive = np.diag(confusion)
    involved = confusion.sum(0) + confusion.sum(1)
    present = involved > 0
    return float((2 * true_positive[present] / involved[present]).mean()) if present.any() else math.nan


COLLAPSED = 0.95
"""The share of the images of a target from which on one predicted class says that a training collapsed."""


def collapsed(confusion: np.ndarray) -> int | None:
    """Return the class that is predicted for nearly all images of a matrix (K, K), or None.

    It is None too where nearly all images have that class, since the prediction is right then.
    """
    return collapsed_of_many(confusion[None])[0]


def collapsed_of_many(confusions: np.ndarray) -> list[int | None]:
    """Return the `collapsed` class of each of many matrices, integers (N, K, K)."""
    predicted, true, rows = confusions.sum(1), confusions.sum(2), np.arange(len(confusions))
    places, most = predicted.argmax(1), COLLAPSED * true.sum(1)
    fell = (predicted[rows, places] > most) & (most >= true[rows, places])
    return [place if is_one else None for place, is_one in zip(places.tolist(), fell.tolist(), strict=True)]


CONFIDENCE_BINS = 15
"""The number of confidence bins of equal width, as in Guo et al. (ICML 2017)."""


def reliability(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Return the table behind a reliability diagram.

    Tables of several targets can be added.

    Args:
        logits: float (N, K).
        labels: The true classes, integers (N,).
        temperature: The divisor of the logits.

    Returns:
        float (bins, 3). Each row is a bin of confidence, from (0, 1/15] to (14/15, 1], with the number of images, the
        sum of their confidences and the number of correct predictions.
    """
    columns = logits.T.astype(np.float32, order="C")  # numpy is many times faster over few rows than over few columns
    right = columns.argmax(0) == labels
    confidence = 1.0 / np.exp((columns - columns.max(0)) / temperature).sum(0)
    bins = np.ceil(confidence * CONFIDENCE_BINS).astype(int).clip(1, CONFIDENCE_BINS) - 1
    return np.stack([np.bincount(bins, weights, CONFIDENCE_BINS) for weights in (None, confidence, right)], 1)


def calibration_error(table: np.ndarray) -> np.ndarray:
    """Return the expected calibration error (ECE): the mean over images of |confidence - accuracy| of their bins.

    Args:
        table: One table of `reliability` or many, float (…, bins, 3).

    Returns:
        Float (…); nan without images.
    """
    images, confidence, right = np.moveaxis(table, -1, 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.abs(confidence - right).sum(-1) / images.sum(-1))


def calibration_floor(table: np.ndarray) -> np.ndarray:
    """Return the expected calibration error that perfectly calibrated predictions would show on so few images.

    The accuracy of a bin of n images with mean confidence p then differs from p by sqrt(2 p (1 - p) / (pi n)) on
    average, the mean distance of a normal distribution.

    Args:
        table: One table of `reliability` or many, float (…, bins, 3).

    Returns:
        Float (…); nan without images.
    """
    images, confidence, _ = np.moveaxis(table, -1, 0)
    share = np.zeros(images.shape, np.result_type(confidence, np.float32))  # a table without images has integers
    np.divide(confidence, images, out=share, where=images > 0)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.sqrt(2 * images * share * (1 - share) / math.pi).sum(-1) / images.sum(-1))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature that minimises the cross-entropy of held-out logits (Guo et al., ICML 2017).

    Args:
        logits: float (N, K).
        labels: The true classes, integers (N,).

    Returns:
        The temperature; nan without images. It is limited to 0.01..100, since a minimum does not exist if every
        prediction is correct.
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


def metrics_of_many(confusions: np.ndarray) -> dict[str, np.ndarray]:
    """Return `METRICS` of many matrices at once, to the bit as of each alone.

    Args:
        confusions: Matrices of counts, integers (N, K, K).

    Returns:
        Each metric, float (N,).
    """
    found = {name: np.empty(len(confusions)) for name in METRICS}
    true = confusions.sum(2)
    whole = (true > 0).all(1)  # every expression is there, so it counts in every mean
    parts = np.diagonal(confusions, axis1=1, axis2=2), true, confusions.sum(1)
    right, true, said = (values[whole] for values in parts)
    found["accuracy"][whole] = right.sum(1) / true.sum(1)
    found["balanced_accuracy"][whole] = (right / true).mean(1)
    found["macro_f1"][whole] = (2 * right / (said + true)).mean(1)
    for place in np.flatnonzero(~whole):
        for name, function in METRICS.items():
            found[name][place] = function(confusions[place])
    return found
