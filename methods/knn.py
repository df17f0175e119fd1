"""k nearest neighbours: the source's faces with the nearest frozen features vote, the nearer the louder.

Source: Wu et al., "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (CVPR 2018), the
classifier of its section 3.4; the same in DINO (Caron et al., ICCV 2021). Over the k keys n with the largest cosines
c_n to a face:

    vote_y = sum over n with label y of exp(c_n / t);    share_y = vote_y / sum of votes;    t = 0.07

k is the one with the best accuracy on the source's validation part (the smallest of equals), with the other part as
keys; then all of the source's training faces are keys.

Departures: the papers fix k (200, and 20); an expression that gets no vote has a share of FLOOR, so that the logits,
the logarithms of the shares, are finite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Context, Method, Source

CANDIDATES = (1, 3, 5, 10, 20, 50, 100, 200)
FLOOR = 1e-3
BLOCK = 256


@dataclass
class Knn(Method):
    """Nothing is assumed of how expressions lie in the feature space, only that neighbours share one."""

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("features",)

    backbone: Backbone = "suite"  # the frozen encoder
    k: int | None = None  # how many neighbours vote; chosen on the source's validation part when null
    temperature: float = 0.07  # of the votes: the smaller, the more the nearest count

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
            cosine, place = nearest(block, keys, candidates[-1])
            for k in candidates:
                said = shares(cosine[:, :k], labels[place[:, :k]], len(EXPRESSIONS), self.temperature).argmax(1)
                right[k] += int((said == wanted).sum())
        return max(candidates, key=lambda k: right[k])  # the first of equals

    def predict(self, images: Tensor) -> Tensor:
        cosine, place = nearest(self.encoder(images), self.keys, self.neighbours)
        return shares(cosine, self.labels[place], len(EXPRESSIONS), self.temperature).clamp_min(FLOOR).log()


def nearest(features: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest cosines of each feature (N, C) with unit keys (M, C), falling, and where: both (N, k)."""
    cosine, place = (functional.normalize(features, dim=1) @ keys.T).topk(k, dim=1)
    return cosine, place


def shares(cosine: Tensor, labels: Tensor, classes: int, temperature: float) -> Tensor:
    """What share of the votes each class gets (N, classes), from neighbours' cosines and labels (N, k)."""
    votes = torch.softmax(cosine / temperature, 1)
    return (votes[:, :, None] * functional.one_hot(labels, classes)).sum(1)
