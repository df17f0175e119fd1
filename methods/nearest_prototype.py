"""Nearest prototype: predict the expression whose mean frozen feature has the largest cosine with the image's.

Source: Snell et al., "Prototypical Networks for Few-shot Learning" (NeurIPS 2017) without its training; Wang et al.,
"SimpleShot" (arXiv 1911.04623) for cosines of centred features (`centred=true`). The features f have the mean m over
the source (0 where not centred), and n are the images of expression k.

    p_k = unit(mean over n of unit(f_n - m));   logits_k = scale * <unit(f - m), p_k>.

The scale changes only the confidence of predictions. It is the power of two with the lowest cross-entropy on the
source's validation part, with prototypes of the other part. Prototypes are then computed from all training images of
the source.

Departures: none of these papers has a scale or recognises expressions. SimpleShot averages before it normalises; here
every image has the same weight. An expression without images in the source gets a cosine of -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Context, Method, Source
from fergen_bench.training.logistic import mean_directions

SCALES = [2.0**exponent for exponent in range(10)]
"""The scales that are compared."""


@dataclass
class NearestPrototype(Method):
    """The simplest classifier of frozen features: one mean per expression, without training."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "frozen features"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    learns_prior: ClassVar[bool] = False

    backbone: Backbone = "suite"  # the frozen encoder
    centred: bool = False  # whether the source's mean feature is subtracted first
    scale: float | None = None  # factor on the cosines; null: chosen on the source's validation part

    def fit(self, source: Source, ctx: Context) -> None:
        self.encoder = ctx.backbone(self.backbone)
        self.chosen = self.scale if self.scale is not None else self._choose(source, ctx)
        features, labels = ctx.features(self.encoder, source.train)
        self.centre = centre(features, self.centred)
        self.prototypes = mean_directions(features - self.centre, labels, len(EXPRESSIONS))
        ctx.epoch_done(1, 1, scale=self.chosen)

    def _choose(self, source: Source, ctx: Context) -> float:
        features, labels = ctx.features(self.encoder, source.fit)
        middle = centre(features, self.centred)
        means = mean_directions(features - middle, labels, len(EXPRESSIONS))
        held, held_labels = ctx.features(self.encoder, source.val)
        cosine = cosines(held - middle, means)
        return min(SCALES, key=lambda scale: functional.cross_entropy(scale * cosine, held_labels).item())

    def predict(self, images: Tensor) -> Tensor:
        return self.chosen * cosines(self.encoder(images) - self.centre, self.prototypes)


def centre(features: Tensor, centred: bool) -> Tensor:
    """Return the vector (C,) that is subtracted from features (N, C): their mean, or zeros."""
    return features.mean(0) if centred else features.new_zeros(features.shape[1])


def cosines(features: Tensor, means: Tensor) -> Tensor:
    """Return the cosines (N, K) of features (N, C) with unit prototypes (K, C); -1 where a prototype is 0."""
    found = functional.normalize(features, dim=1) @ means.T
    return found.masked_fill(torch.all(means == 0, 1), -1.0)
