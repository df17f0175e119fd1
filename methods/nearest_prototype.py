"""Nearest prototype: the expression whose mean feature is nearest by cosine, on one frozen backbone.

Source: Snell et al., "Prototypical Networks for Few-shot Learning" (NeurIPS 2017) without its training; Wang et al.,
"SimpleShot" (arXiv 1911.04623) for cosines of centred features (`centred=true`). For features f, their mean m over the
source (0 where not centred), and the faces n of expression k:

    p_k = unit(mean over n of unit(f_n - m));   logits_k = scale * <unit(f - m), p_k>

The scale moves no prediction, only its certainty: the power of two with the least cross-entropy on the source's
validation part, with prototypes of the other part; prototypes are then taken from all of the source's training faces.

Departures: none of these papers has a scale or recognises expressions; SimpleShot averages before it normalises, here
every face counts alike. An expression without faces in the source has no prototype and a cosine of -1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Context, Method, Source

SCALES = [2.0**exponent for exponent in range(10)]


@dataclass
class NearestPrototype(Method):
    """Seven means and nothing else: whatever beats it has to earn its parameters."""

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("features",)

    backbone: Backbone = "suite"  # the frozen encoder
    centred: bool = False  # whether the source's mean feature is subtracted first
    scale: float | None = None  # of the cosines; chosen on the source's validation part when null

    def fit(self, source: Source, ctx: Context) -> None:
        self.encoder = ctx.backbone(self.backbone)
        self.chosen = self.scale if self.scale is not None else self._choose(source, ctx)
        features, labels = ctx.features(self.encoder, source.train)
        self.centre = centre(features, self.centred)
        self.prototypes = prototypes(features - self.centre, labels, len(EXPRESSIONS))
        ctx.epoch_done(1, 1, scale=self.chosen)

    def _choose(self, source: Source, ctx: Context) -> float:
        features, labels = ctx.features(self.encoder, source.fit)
        middle = centre(features, self.centred)
        means = prototypes(features - middle, labels, len(EXPRESSIONS))
        held, held_labels = ctx.features(self.encoder, source.val)
        cosine = cosines(held - middle, means)
        return min(SCALES, key=lambda scale: functional.cross_entropy(scale * cosine, held_labels).item())

    def predict(self, images: Tensor) -> Tensor:
        return self.chosen * cosines(self.encoder(images) - self.centre, self.prototypes)


def centre(features: Tensor, centred: bool) -> Tensor:
    """What is subtracted from features (N, C): their mean, or zeros. (C,)"""
    return features.mean(0) if centred else features.new_zeros(features.shape[1])


def prototypes(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Unit vectors (classes, C): the direction of each class's mean unit feature; zeros for a class without faces."""
    members = functional.one_hot(labels, classes).to(features)
    return functional.normalize(members.T @ functional.normalize(features, dim=1), dim=1)


def cosines(features: Tensor, means: Tensor) -> Tensor:
    """Cosines (N, K) of features (N, C) and unit prototypes (K, C); -1 where there is no prototype."""
    found = functional.normalize(features, dim=1) @ means.T
    return found.masked_fill(torch.all(means == 0, 1), -1.0)
