"""Base classes of methods that train a whole network, on one source or on several domains."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench.data.domain import Split
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError
from fergen_bench.experiment.parameter_types import Trunk
from fergen_bench.networks.network import Network
from fergen_bench.training.augment import SampleDraws, random_erase, random_flip, random_noise, random_turn_and_shift
from fergen_bench.training.contract import Context
from fergen_bench.training.domains import Domains
from fergen_bench.training.graph import Batch
from fergen_bench.training.logit_adjustment import class_counts, prior_offset
from fergen_bench.training.loop import GradientMethod, Inputs, Losses


@dataclass
class NetworkMethod(GradientMethod):
    """Train all weights of a network and a linear head with cross-entropy.

    Images are augmented as in CAFE's released code. A subclass defines `build`, which sets `self.network`. One that
    defines `loss` passes the logits that it classifies through `adjusted`.
    """

    noise: float = 0.5  # share of images that get Gaussian noise of variance 30
    erasing: float = 0.5  # share of images in which a box is filled with the mean colour
    logit_adjustment: float = 0.0  # tau: share of the source's class frequencies that the loss corrects for; 1: all

    def classifier(self, ctx: Context, name: str) -> nn.Sequential:
        """Return a fresh copy of a network, followed by a linear head, and set `self.network`."""
        self.network = ctx.backbone(name, trainable=True)
        return nn.Sequential(self.network, nn.Linear(self.network.features, len(EXPRESSIONS)))

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        """Add noise, mirror, and erase a box: uint8 (B, 3, height, width) → float32 in 0..1."""
        images = random_flip(random_noise(images, draws, self.noise), draws)
        return random_erase(images, draws, self.erasing, self.network.mean)

    def inputs(self, split: Split, ctx: Context) -> Inputs:
        """Return the images of the split, after setting the offsets of `adjusted`.

        Raises:
            BenchError: `logit_adjustment` is negative, or the sampling removes the class frequencies already.
        """
        tau = self.logit_adjustment
        if not tau >= 0:
            raise BenchError(f"logit_adjustment is {tau:g}; it must be 0 (none) or more, such as 1")
        if tau and self.sampling == "balanced":
            raise BenchError(
                "logit_adjustment corrects for the class frequencies of the source, which sampling=balanced has "
                "removed already; set one of the two"
            )
        offset = prior_offset(class_counts(split, self.sources_alike), tau).float().to(ctx.device)
        self._offset: Tensor | None = offset if tau else None
        return super().inputs(split, ctx)

    def adjusted(self, logits: Tensor) -> Tensor:
        """Return logits (N, K) as the classification loss receives them: by `logit_adjustment`, not for scoring."""
        offset: Tensor | None = getattr(self, "_offset", None)
        return logits if offset is None else logits + offset

    def loss(self, batch: Batch) -> Losses:
        """Return the cross-entropy of a batch."""
        return functional.cross_entropy(self.adjusted(self.model(batch.images).float()), batch.labels)

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (B, 7) of images."""
        logits: Tensor = self.model(images)
        return logits


@dataclass
class TrunkMethod(NetworkMethod):
    """Train all weights of the suite's trunk and a linear head with cross-entropy.

    A subclass overrides what its method changes, often `loss` alone.
    """

    trunk: Trunk = "suite"  # the network that is trained

    def build(self, ctx: Context) -> nn.Module:
        """Return the trunk followed by a linear head."""
        return self.classifier(ctx, self.trunk)


@dataclass
class DomainMethod(TrunkMethod):
    """Train the trunk on batches that contain equally many images of each domain.

    Domains are the sources; with `pseudo_domains` clusters of the source; and, for a method with a field `adapt` that
    is set, also the unlabelled training images of the target. A method that needs two domains is refused with one.

    Defaults are those of DomainBed (github.com/facebookresearch/DomainBed at b93c22a). Every such method departs from
    DomainBed in three ways. It trains the suite's trunk in place of a ResNet-50. It uses CAFE's augmentation in place
    of DomainBed's crops and colour jitter, so that methods differ in the method alone. It counts passes over the
    sources in place of 5001 updates; an epoch has as many labelled images as the sources, equally many of each domain.

    The class frequencies for `logit_adjustment` and `prior` are the mean of those of the sources. With `pseudo_domains`
    they are those of all images together.
    """

    group: ClassVar[str] = "several sources"
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
        """Return the domains that every batch contains."""
        return Domains(self, split, ctx, self.trunk, self.pseudo_domains, getattr(self, "adapt", False))


@dataclass
class AlignmentMethod(DomainMethod):
    """Penalise the mean distance between the feature distributions of all pairs of domains.

    Each domain has a forward pass of its own, as in DomainBed, so that batch norm sees one domain at a time. A subclass
    defines `distance`.
    """

    adapt: bool = False  # treat the unlabelled training images of the target as one more domain
    penalty: float = 1.0  # weight of the mean over pairs of domains

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted terms of a batch."""
        network, head = self.model
        features = [network(images).float() for images in batch.images.chunk(batch.domains)]
        logits = [head(part).float() for part in features]
        if batch.unlabelled is not None:
            features.append(network(batch.unlabelled).float())
        return self.terms(features, logits, list(batch.labels.chunk(batch.domains)))

    def terms(self, features: list[Tensor], logits: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """Return the weighted terms of the loss.

        Args:
            features: Features of each domain, (n, C); unlabelled domains come last.
            logits: Logits of each labelled domain, (n, K).
            labels: Labels of each labelled domain, int64 (n,).

        Returns:
            The scalars `classification` and `penalty`.
        """
        return {
            "classification": domain_losses([self.adjusted(part) for part in logits], labels).mean(),
            "penalty": self.penalty * mean_over_pairs(features, self.distance),
        }

    @abstractmethod
    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distance between two domains, a scalar, from their features (n, C) and (m, C)."""


@dataclass
class AttentionMethod(GradientMethod):
    """Train attention heads on the feature map of the trunk, with DAN's augmentation and learning-rate schedule.

    A subclass defines `build`, which calls `fresh_trunk`, and `loss` and `logits`.
    """

    # The heads are narrower, as the trunk is.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"spatial_width": 64}}

    learning_rate: float = 0.1  # initial value
    optimizer: Literal["adam", "adamw", "sgd"] = "sgd"  # with momentum 0.9
    decay: float = 0.1  # factor of the exponential schedule
    decay_every: int = 10  # epochs between two steps of the exponential schedule
    trunk: Trunk = "suite"  # the network that is trained
    heads: int = 4  # number of attention heads
    spatial_width: int = 256  # channels between the convolutions of a head
    channel_width: int = 32  # width between the two layers of a head's channel attention
    turning: float = 0.2  # share of images that are rotated by up to 20 degrees and shifted by up to 1/7 of their side
    erasing: float = 0.5  # share of images in which a box is filled with the mean colour

    def fresh_trunk(self, ctx: Context) -> Network:
        """Return the trunk to be trained; its mean colour fills the boxes that `augment` erases."""
        trunk = ctx.backbone(self.trunk, trainable=True)
        self.mean = trunk.mean
        return trunk

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        """Mirror, rotate, shift, and erase a box: uint8 (B, 3, height, width) → float32 in 0..1."""
        images = random_turn_and_shift(random_flip(images, draws), draws, self.turning)
        return random_erase(images, draws, self.erasing, self.mean)

    def rate(self, step: int, steps_per_epoch: int) -> float:
        """Return the factor on the learning rate at a step; the exponential schedule changes every `decay_every`."""
        if self.schedule != "exponential":
            return super().rate(step, steps_per_epoch)
        return self.decay ** (step // (steps_per_epoch * self.decay_every))


def domain_losses(logits: Sequence[Tensor], labels: Sequence[Tensor]) -> Tensor:
    """Return the cross-entropy of each domain.

    Args:
        logits: Logits of each domain, (n, K).
        labels: Labels of each domain, int64 (n,).

    Returns:
        (E,), one number per domain.
    """
    return torch.stack([functional.cross_entropy(z, y) for z, y in zip(logits, labels, strict=True)])


def mean_over_pairs(features: Sequence[Tensor], penalty: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the mean penalty over all pairs of domains.

    Args:
        features: Features of each domain, (n, C).
        penalty: Returns a scalar for the features of two domains.

    Returns:
        A scalar; 0 with one domain.
    """
    if len(features) < 2:
        return features[0].new_zeros(())
    return torch.stack([penalty(a, b) for a, b in itertools.combinations(features, 2)]).mean()
