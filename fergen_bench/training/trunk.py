"""A network for methods that are about the training of one: the suite's trunk with a linear head, and what methods
that tell domains apart compute for each of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench.data.domain import Split
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.experiment.method_file import Trunk
from fergen_bench.training.augment import SampleDraws, erase, random_boxes, random_flip, random_noise
from fergen_bench.training.contract import Context
from fergen_bench.training.domains import Domains
from fergen_bench.training.graph import Batch
from fergen_bench.training.loop import GradientMethod, Losses


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


@dataclass
class DomainMethod(TrunkMethod):
    """Train the trunk on batches that contain equally many images of each domain.

    Domains are the sources; with `pseudo_domains` clusters of the source; and, for a method with a field `adapt` that
    is set, also the unlabelled training images of the target. Defaults are those of DomainBed.
    """

    least_domains: ClassVar[int] = 2
    # Of each domain: 64 images a step with the four sources of leave-one-out.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"batch_size": 16}}

    epochs: int = 60  # passes over the sources; released: 5001 updates
    batch_size: int = 32  # images of each domain per step
    learning_rate: float = 5e-5  # of trunk and head
    weight_decay: float = 0.0  # coupled L2 with adam, decoupled with adamw
    schedule: Literal["exponential", "cosine", "constant"] = "constant"  # of the learning rate
    pseudo_domains: int = 0  # clusters of the frozen trunk's features to treat as domains in place of the sources

    def domains(self, split: Split, ctx: Context) -> Domains:
        return Domains(self, split, ctx, self.trunk, self.pseudo_domains, getattr(self, "adapt", False))


def domain_losses(logits: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """The cross-entropy of each domain, (E,). logits: (n, K) each, labels: (n,)."""
    return torch.stack([functional.cross_entropy(z, y) for z, y in zip(logits, labels, strict=True)])


def mean_over_pairs(features: Sequence[Tensor], penalty: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The mean penalty over all pairs of domains; 0 with one domain. features: (n, C) of each."""
    if len(features) < 2:
        return features[0].new_zeros(())
    return torch.stack([penalty(a, b) for a, b in itertools.combinations(features, 2)]).mean()
