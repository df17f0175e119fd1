"""A network for methods that are about the training of one: the suite's trunk with a linear head, and what methods
that tell domains apart compute for each of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench.augment import SampleDraws, erase, random_boxes, random_flip, random_noise
from fergen_bench.domain import EXPRESSIONS
from fergen_bench.method import Context, GradientMethod, Losses
from fergen_bench.plugin import Trunk
from fergen_bench.steps import Batch


@dataclass
class TrunkMethod(GradientMethod):
    """Lends the network too: all weights of the trunk are trained, on faces that are changed as CAFE's released code
    changes them. As it stands it is plain cross-entropy; a method overrides what it is about, often `loss` alone.
    """

    trunk: Trunk = "suite"  # the network that is trained
    noise: float = 0.5  # share of faces that get Gaussian noise of variance 30
    erasing: float = 0.5  # share of faces that get a box of mean colour

    def build(self, ctx: Context) -> nn.Module:
        self.network = ctx.backbone(self.trunk, trainable=True)
        return nn.Sequential(self.network, nn.Linear(self.network.features, len(EXPRESSIONS)))

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        images = random_flip(random_noise(images, draws, self.noise), draws).float() / 255.0
        return erase(images, random_boxes(images.shape, draws, self.erasing), self.network.mean)

    def loss(self, batch: Batch) -> Losses:
        return functional.cross_entropy(self.model(batch.images).float(), batch.labels)

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits


def domain_losses(logits: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """The cross-entropy of each domain, (E,). logits: (n, K) each, labels: (n,)."""
    return torch.stack([functional.cross_entropy(z, y) for z, y in zip(logits, labels, strict=True)])


def mean_over_pairs(features: Sequence[Tensor], penalty: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The mean penalty over all pairs of domains; 0 with one domain. features: (n, C) of each."""
    if len(features) < 2:
        return features[0].new_zeros(())
    return torch.stack([penalty(a, b) for a, b in itertools.combinations(features, 2)]).mean()
