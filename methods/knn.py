"""k nearest neighbours: classify by a weighted vote of the source images with the nearest frozen features.

Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018), the
classifier of its section 3.4; the same in DINO (Caron et al., ICCV 2021). The k keys n with the largest cosines c_n
with an image vote, and t is 0.07.

    vote_y = sum over n with label y of exp(c_n / t);    share_y = vote_y / sum of votes.

k has the best accuracy on the source's validation part (the smallest of equals), with the other part as keys. Then all
training images of the source become keys.

Departures: the papers fix k (200, and 20). An expression without votes gets the share FLOOR, so that the logits, which
are the logarithms of the shares, are finite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Context, Method, Source

CANDIDATES = (1, 3, 5, 10, 20, 50, 100, 200)
"""Values of k that are compared."""
FLOOR = 1e-3
"""The share of an expression without votes."""
BLOCK = 256
"""Images that are compared with the keys at once."""


@dataclass
class Knn(Method):
    """Neighbours in the feature space share an expression; nothing else is assumed about that space."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "frozen features"
    needs: ClassVar[tuple[str, ...]] = ("features",)

    backbone: Backbone = "suite"  # the frozen encoder
    k: int | None = None  # number of neighbours that vote; null: chosen on the source's validation part
    temperature: float = 0.07  # t; the smaller, the more the nearest neighbours count

    def fit(self, source: Source, ctx: Context) -> None:
        self.encoder = ctx.backbone(self.backbone)
        wanted = self.k if self.k is not None else self._choose(source, ctx)
        features, self.labels = ctx.features(self.encoder, source.train)
        self.keys = functional.normalize(features, dim=1)
        self.neighbours = max(1, min(wanted, len(self.keys)))
        ctx.epoch_done(1, 1, k=self.neighbours)

    def _choose(self, source: Source, ctx: Context) -> int:
        features, labels = ctx.features(self.encoder, source.fit)
        held, held_labels = ctx.features(self.encoder, source.val)
        keys = functional.normalize(features, dim=1)
        candidates = [k for k in CANDIDATES if k <= len(keys)]
        right = dict.fromkeys(candidates, 0)
        for block, wanted in zip(held.split(BLOCK), held_labels.split(BLOCK), strict=True):
            cosine, row = nearest(block, keys, candidates[-1])
            for k in candidates:
                votes = shares(cosine[:, :k], labels[row[:, :k]], len(EXPRESSIONS), self.temperature)
                right[k] += int((votes.argmax(1) == wanted).sum())
        return max(candidates, key=lambda k: right[k])  # the first of equals

    def predict(self, images: Tensor) -> Tensor:
        cosine, row = nearest(self.encoder(images), self.keys, self.neighbours)
        return shares(cosine, self.labels[row], len(EXPRESSIONS), self.temperature).clamp_min(FLOOR).log()


def nearest(features: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the keys with the largest cosines.

    Args:
        features: (N, C).
        keys: Unit vectors, (M, C).
        k: The number of neighbours.

    Returns:
        Cosines in descending order, (N, k), and the rows of their keys, int64 (N, k).
    """
    cosine, row = (functional.normalize(features, dim=1) @ keys.T).topk(k, dim=1)
    return cosine, row


def shares(cosine: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """Return the share of the votes that each class gets.

    Args:
        cosine: Cosines with the neighbours, (N, k).
        labels: Labels of the neighbours, int64 (N, k).
        classes: The number of classes.
        temperature: t.

    Returns:
        (N, classes).
    """
    votes = torch.softmax(cosine / temperature, 1)
    return (votes[:, :, None] * functional.one_hot(labels, classes)).sum(1)
