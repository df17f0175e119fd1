"""The expression of one face, and a table of many."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fergen_bench.data.labels import EXPRESSIONS

if TYPE_CHECKING:
    import pandas as pd

UNCERTAIN = "uncertain"
"""Stands for the expression of a face whose highest probability is too low."""


@dataclass(frozen=True)
class Answer:
    """The probabilities of the expressions of one face.

    Attributes:
        file: The photograph or video.
        face: Number of the face from 0: by size in a photograph; the same for one face throughout a video.
        box: Left, top, width and height in pixels of the upright picture.
        probabilities: (7,), in the order of EXPRESSIONS.
        score: Score of the detector; None where the whole picture is the face.
        seconds: Time in a video; None for a photograph.
    """

    file: str
    face: int
    box: tuple[int, int, int, int]
    probabilities: np.ndarray
    score: float | None = None
    seconds: float | None = None

    @property
    def confidence(self) -> float:
        """The highest probability."""
        return float(self.probabilities.max())

    def expression(self, at_least: float) -> str:
        """Return the expression with the highest probability, or UNCERTAIN where it is below `at_least`."""
        return EXPRESSIONS[int(self.probabilities.argmax())] if self.confidence >= at_least else UNCERTAIN


def table(answers: Iterable[Answer], at_least: float) -> pd.DataFrame:
    """Return one row per face: file, seconds, face, its box, expression, confidence, score, and the probabilities."""
    import pandas as pd

    rows = [
        {
            "file": one.file,
            "seconds": one.seconds,
            "face": one.face,
            **dict(zip(("left", "top", "width", "height"), one.box, strict=True)),
            "expression": one.expression(at_least),
            "confidence": one.confidence,
            "score": one.score,
            **dict(zip(EXPRESSIONS, map(float, one.probabilities), strict=True)),
        }
        for one in answers
    ]
    boxes, numbers = ("face", "left", "top", "width", "height"), ("seconds", "confidence", "score", *EXPRESSIONS)
    columns = ["file", "seconds", *boxes, "expression", "confidence", "score", *EXPRESSIONS]
    kinds = {**dict.fromkeys(boxes, "int64"), **dict.fromkeys(numbers, "float64")}
    return pd.DataFrame(rows, columns=columns).astype(kinds)
