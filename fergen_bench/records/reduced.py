"""The part of a record's predictions and arrays that packed records have: what tables and figures show.

Logits become predicted classes and tables of reliability. Of the values that a method's `inspect` returns, the means
of each expression, their counts and the images with the largest values remain; a mean is rounded to 127 steps between
the smallest and the largest. Held-out predictions, deviations and the arrays that methods save are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from fergen_bench.records.record import HELD_OUT, Predictions

if TYPE_CHECKING:
    import numpy as np

_STEPS = 127
_UNDEFINED = 255
"""The code of nan, the mean of an expression without images."""
_WHOLE = (".count", ".varying", ".top")
_MEAN, _CODES, _RANGE = ".mean", ".codes", ".range"


def reduce_predictions(predictions: Mapping[str, Predictions], confident: bool = True) -> dict[str, Predictions]:
    """Return the predictions of targets as predicted classes.

    Args:
        predictions: The predictions by target, and those on held-out images of the source, from which the temperature
            of the second table of reliability follows.
        confident: False where the logits stand for classes without confidences.
    """
    import numpy as np

    from fergen_bench.metric import CONFIDENCE_BINS, fit_temperature, reliability

    held = predictions.get(HELD_OUT)
    temperatures = [1.0] if held is None else [1.0, fit_temperature(*held.scored)]
    found = {}
    for target, entry in predictions.items():
        if target == HELD_OUT or not len(entry.labels):  # early records lack labels
            continue
        if entry.reliability is None:
            logits, labels = entry.scored
            tables = [reliability(logits, labels, one) for one in temperatures] if confident else []
            known = np.array(tables, np.float32).reshape(-1, CONFIDENCE_BINS, 3)
            entry = replace(entry, logits=_one_hot(entry.logits), reliability=known)
        found[target] = entry
    return found


def _one_hot(logits: np.ndarray) -> np.ndarray:
    import numpy as np

    return np.eye(logits.shape[1], dtype=np.float16)[logits.argmax(1)]


def reduce_arrays(arrays: Mapping[str, np.ndarray], targets: Iterable[str]) -> dict[str, np.ndarray]:
    """Return the statistics of inspected values in a small form; `restore_arrays` undoes it.

    Args:
        arrays: The arrays of a record by name.
        targets: The targets of the record, with which the names of its inspected values begin.
    """
    import numpy as np

    beginnings = tuple(f"{target}." for target in targets)
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if not name.startswith(beginnings):
            continue
        stem = name.removesuffix(_MEAN)
        if name.endswith(_WHOLE):
            found[name] = array.astype(np.int32)
        elif stem != name and np.isfinite(array).any():
            values = array.astype(np.float32)
            known = np.isfinite(values)
            low, high = values[known].min(), values[known].max()
            codes = np.full(values.shape, _UNDEFINED, np.uint8)
            codes[known] = np.rint((values[known] - low) / ((high - low) or np.float32(1)) * _STEPS)
            found[f"{stem}{_CODES}"], found[f"{stem}{_RANGE}"] = codes, np.array([low, high], np.float32)
    return found


def restore_arrays(reduced: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the statistics of inspected values from their small form, with means as float32."""
    import numpy as np

    found: dict[str, np.ndarray] = {}
    for name, array in reduced.items():
        stem = name.removesuffix(_CODES)
        if stem == name:
            if not name.endswith(_RANGE):
                found[name] = array
        elif (ends := reduced.get(f"{stem}{_RANGE}")) is not None and ends.shape == (2,):
            share = array.astype(np.float32) / np.float32(_STEPS)
            # With this form of the mean of two ends, the largest code gives the largest value to the bit.
            values = ends[0] * (1 - share) + ends[1] * share
            found[f"{stem}{_MEAN}"] = np.where(array == _UNDEFINED, np.float32(np.nan), values)
    return found
