"""RSC: mute the features that a prediction depends on most, so that the network learns to use the others.

Source: Huang et al., "Self-Challenging Improves Cross-Domain Generalization" (ECCV 2020), in the form of DomainBed
(github.com/facebookresearch/DomainBed at b93c22a). The features are x (N, D), the logits of a linear head z, and the
labels y.

    g = d z[n, y_n] / d x[n]
    keep[n, d]  = g[n, d] < percentile_100(1 - f) of g[n]
    drop[n]     = p(y_n | x[n]) - p(y_n | x[n] * keep[n])
    whole[n]    = drop[n] < percentile_100(1 - b) of drop
    L = ce(head(x * (keep or whole)), y).

With f = b = 1/3, a third of the features is muted in the third of the batch whose confidence drops most. The masks
carry no gradient. Percentiles interpolate between neighbouring values; where a percentile equals a value, rounding
decides on that feature, in the reference too. The gradient g of a linear head is a row of its weight, so the same
features are muted for all images of an expression. DomainBed puts all domains into one batch, so the method needs only
one source.

Departures: it trains the suite's trunk. Optimiser, schedule, augmentation and selection are those of full_finetune.py
instead of DomainBed's (Adam, 5e-5, 5001 steps, crops and colour jitter), so that the two differ in the muting alone.
The paper also mutes positions of the map and whole channels; this file has DomainBed's form on pooled features.
Features and head are float32, even where the trunk runs in bfloat16.
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
    """The easiest features of the source may be absent elsewhere; without them the network finds further ones."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "domain generalization"
    static_step: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2e-3}}

    feature_drop: float = 0.3333333333333333  # share of an image's features that are muted
    batch_drop: float = 0.3333333333333333  # share of a batch's images whose features are muted

    def loss(self, batch: Batch) -> Tensor:
        features, head = self.network(batch.images).float(), self.model[1]
        with torch.autocast(features.device.type, enabled=False):
            mask = mute(features, batch.labels, head.weight, head.bias, self.feature_drop, self.batch_drop).mask
            return functional.cross_entropy(self.adjusted(head(features * mask)), batch.labels)


class Muting(NamedTuple):
    """The masks of a batch and the values that they were computed from."""

    gradient: Tensor  # g, (N, D)
    feature_percentile: Tensor  # (N,)
    keeps_feature: Tensor  # bool (N, D)
    confidence_drop: Tensor  # (N,)
    batch_percentile: Tensor  # a scalar
    keeps_face: Tensor  # bool (N, 1)

    @property
    def mask(self) -> Tensor:
        """Return 0 for muted features and 1 for the others, (N, D)."""
        return (self.keeps_feature | self.keeps_face).to(self.gradient.dtype)


@torch.no_grad()
def mute(
    features: Tensor, labels: Tensor, weight: Tensor, bias: Tensor, feature_drop: float, batch_drop: float
) -> Muting:
    """Choose the features to mute.

    Args:
        features: x, (N, D).
        labels: int64 (N,).
        weight: Weight of the head, (K, D).
        bias: Bias of the head, (K,).
        feature_drop: f, the share of an image's features.
        batch_drop: b, the share of the batch's images.

    Returns:
        The masks and the values that they were computed from.
    """
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
    """Return the value below which a share of each row lies, interpolated linearly between neighbours.

    Index and interpolation are computed as in numpy, because the last bit decides ties.

    Args:
        values: (..., D).
        share: In 0..1.

    Returns:
        (...).
    """
    index = (100.0 * share) / 100.0 * (values.shape[-1] - 1)
    below = min(math.floor(index), values.shape[-1] - 1)
    above, part = min(below + 1, values.shape[-1] - 1), index - below
    ordered = values.sort(-1).values
    low, high = ordered[..., below], ordered[..., above]
    return high - (high - low) * (1 - part) if part >= 0.5 else low + (high - low) * part
