"""RSC: the features that a decision leans on most are muted, so that the others must learn to carry it.

Source: Huang et al., "Self-Challenging Improves Cross-Domain Generalization" (ECCV 2020), in the form of DomainBed
(github.com/facebookresearch/DomainBed at b93c22a). Equations, for features x (N, D), a linear head and labels y:

    g = d z[n, y_n] / d x[n]                              gradient of the true expression's logit
    keep[n, d]  = g[n, d] < percentile_100(1 - f) of g[n]
    drop[n]     = p(y_n | x[n]) - p(y_n | x[n] * keep[n])
    whole[n]    = drop[n] < percentile_100(1 - b) of drop
    L = ce(head(x * (keep or whole)), y)

with f = b = 1/3: a third of the features is muted in the third of the batch that loses most by it. The masks carry no
gradient. Percentiles are interpolated between neighbours; where one falls on a value, rounding decides whether that
feature is kept (in the reference too). The gradient of a linear head is the row of its weight, so the features muted
are the same for all faces of an expression. DomainBed gives all domains in one batch, so one source is as good as
several.

Departures: trained on the suite's trunk; optimiser, schedule, augmentation and selection are those of full_finetune.py
instead of DomainBed's (Adam, 5e-5, 5001 steps, crops and colour jitter), so that the two differ in the muting alone.
The paper also mutes places of the map and whole channels; DomainBed's pooled form is kept. Features and head are
float32, also where the trunk runs in bfloat16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench import Batch, TrunkMethod


@dataclass
class Rsc(TrunkMethod):
    """What is easy on the source may be absent elsewhere: without it the network finds more that tells."""

    version: ClassVar[int] = 1
    repeats: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2e-3}}

    feature_drop: float = 0.3333333333333333  # share of a face's features that are muted
    batch_drop: float = 0.3333333333333333  # share of a batch's faces in which they are

    def loss(self, batch: Batch) -> Tensor:
        features, head = self.network(batch.images).float(), self.model[1]
        with torch.autocast(features.device.type, enabled=False):
            mask = mute(features, batch.labels, head.weight, head.bias, self.feature_drop, self.batch_drop).mask
            return functional.cross_entropy(head(features * mask), batch.labels)


class Muting(NamedTuple):
    """What is kept of a batch, and how it was decided."""

    gradient: Tensor  # (N, D), of the true expression's logit
    feature_percentile: Tensor  # (N,)
    keeps_feature: Tensor  # bool (N, D)
    confidence_drop: Tensor  # (N,)
    batch_percentile: Tensor  # a scalar
    keeps_face: Tensor  # bool (N, 1)

    @property
    def mask(self) -> Tensor:
        """1 for what is kept, (N, D)."""
        return (self.keeps_feature | self.keeps_face).to(self.gradient.dtype)


@torch.no_grad()
def mute(
    features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, feature_drop: float, batch_drop: float
) -> Muting:
    """features: (N, D), labels: (N,), weight: (K, D) and bias (K,) of the head."""
    gradient = weight[labels].to(features)
    feature_percentile = percentile(gradient, 1 - feature_drop)
    keeps_feature = gradient < feature_percentile[:, None]

    def confidence(x: Tensor) -> Tensor:
        return torch.softmax(functional.linear(x, weight, bias), 1).gather(1, labels[:, None])[:, 0]

    confidence_drop = confidence(features) - confidence(features * keeps_feature)
    batch_percentile = percentile(confidence_drop, 1 - batch_drop)
    keeps_face = (confidence_drop < batch_percentile)[:, None]
    return Muting(gradient, feature_percentile, keeps_feature, confidence_drop, batch_percentile, keeps_face)


def percentile(values: Tensor, share: float) -> Tensor:
    """The value below which a share of each row lies, between its neighbours in proportion: (..., D) → (...).

    The place and the interpolation are computed as numpy computes them, because the last bit decides on ties.
    """
    place = (100.0 * share) / 100.0 * (values.shape[-1] - 1)
    below = min(math.floor(place), values.shape[-1] - 1)
    above, part = min(below + 1, values.shape[-1] - 1), place - below
    ordered = values.sort(-1).values
    low, high = ordered[..., below], ordered[..., above]
    return high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part
