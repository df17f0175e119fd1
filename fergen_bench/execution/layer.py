"""The options of scoring that change the logits of any method: views of an image, and the prior of the source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from fergen_bench.data.domain import mirrored
from fergen_bench.error import BenchError
from fergen_bench.experiment.run import PLAIN, View
from fergen_bench.training.logit_adjustment import class_counts, corrected_logits

if TYPE_CHECKING:
    import numpy as np

    from fergen_bench.data.source import Source
    from fergen_bench.experiment.run import Run
    from fergen_bench.training.contract import Method


COUNTS = "scoring.counts"
"""Name of the array with the training images of each expression, in records of runs with a prior."""


@dataclass(frozen=True)
class ScoringLayer:
    """A layer between the logits of a fitted method and its scores.

    Attributes:
        views: Views whose logits are averaged. The average of log-probabilities would differ by a constant for each
            image, so predictions and probabilities are the same.
        prior: Share of the log class frequencies that is taken out of the logits; 0 takes nothing out.
        counts: Training images of each expression, (7,), see `class_counts`; one image for an expression without any.
    """

    views: tuple[View, ...] = PLAIN
    prior: float = 0.0
    counts: torch.Tensor | None = None

    @classmethod
    def of(cls, spec: Run, source: Source, method: Method) -> ScoringLayer:
        """Return the layer of a run.

        Args:
            spec: The run.
            source: Its source.
            method: The method that learned from the source, which is the base of an online method. It decides whether
                the images of several sources are counted together.
        """
        return cls(spec.views, spec.prior, class_counts(source.train, method.sources_alike).clamp_min(1))

    @classmethod
    def of_record(cls, spec: Run, arrays: Mapping[str, np.ndarray], place: str) -> ScoringLayer:
        """Return the layer of a run that has been recorded.

        Args:
            spec: The run.
            arrays: The arrays of its record.
            place: Path of the record, for errors.

        Raises:
            BenchError: The run has a prior, and the arrays do not contain its counts.
        """
        if not spec.prior:
            return cls(spec.views)
        if COUNTS not in arrays:
            raise BenchError(
                f"{place}: the class frequencies that the prior of this run needs are missing beside the record; "
                f"execute the run again with --rerun"
            )
        return cls(spec.views, spec.prior, torch.from_numpy(arrays[COUNTS].copy()))

    def logits(self, predict: Callable[[torch.Tensor], torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        """Return the logits (B, 7) that are scored.

        Args:
            predict: Returns the logits (B, 7) of a method.
            images: uint8 (B, 3, height, width).
        """
        logits = [predict(images if view == "plain" else mirrored(images)) for view in self.views]
        return self.without_prior(logits[0] if len(logits) == 1 else torch.stack(logits).mean(0))

    def without_prior(self, logits: torch.Tensor) -> torch.Tensor:
        """Return logits (N, 7) without the share `prior` of the log class frequencies."""
        if not self.prior or self.counts is None:
            return logits
        return corrected_logits(logits, self.counts.to(logits.device), self.prior)
