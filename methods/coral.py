"""CORAL: features of different domains are to have the same mean and the same covariance.

Source: Sun and Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation" (ECCV 2016 workshops, arXiv
1607.01719), as released in github.com/facebookresearch/DomainBed at b93c22a. For features X_e of domain e, with means
m_e and unbiased covariances S_e:

    L = mean_e ce_e + 1 * mean over pairs i < j of P_ij
    P_ij = mean over channels of (m_i - m_j)^2 + mean over entries of (S_i - S_j)^2

What the released code does and this file keeps: the term of the means, which the paper lacks; means over entries in
place of the paper's 1 / 4 d^2; a pass through the network for each domain, so that batch norm sees one at a time.

Domains are the sources, or with `adapt` the sources and the unlabelled target (the paper's own setting; DomainBed
trains on sources alone), or with `pseudo_domains` clusters of the source. With one domain the penalty is 0: it is
refused.

Departures: the suite's trunk in place of a ResNet-50; CAFE's augmentation in place of DomainBed's crops and colour
jitter, so that methods differ in the method alone; passes over the sources in place of 5001 updates (an epoch shows as
many labelled faces as there are, equally many of each domain).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fergen_bench import Batch, Context, DomainMethod, Domains, Split
from fergen_bench.training.trunk import domain_losses, mean_over_pairs


@dataclass
class Coral(DomainMethod):
    """What a network computes should be distributed alike wherever the faces are from."""

    version: ClassVar[int] = 1

    adapt: bool = False  # treat the unlabelled training images of the target as one more domain
    penalty: float = 1.0  # weight of the mean over pairs of domains

    def domains(self, split: Split, ctx: Context) -> Domains:
        # Unlabelled faces have a pass of their own, at the size that they are kept in.
        return Domains(self, split, ctx, self.trunk, self.pseudo_domains, self.adapt, one_size=False)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        network, head = self.model
        # Each domain has a pass of its own, as released: batch norm sees one domain at a time.
        features = [network(images).float() for images in batch.images.chunk(batch.domains)]
        logits = [head(part).float() for part in features]
        if batch.unlabelled is not None:
            features.append(network(batch.unlabelled).float())
        return self.terms(features, logits, list(batch.labels.chunk(batch.domains)))

    def terms(self, features: list[Tensor], logits: list[Tensor], labels: list[Tensor]) -> dict[str, Tensor]:
        """The weighted terms of L, by domain. features: (n, C) each, logits: (n, K), labels: (n,). Domains beyond the
        labelled ones have features alone.
        """
        return {
            "classification": domain_losses(logits, labels).mean(),
            "penalty": self.penalty * mean_over_pairs(features, coral_penalty),
        }


def coral_penalty(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference of the means plus that of the covariances of two domains' features (n, C)."""
    means = (first.mean(0) - second.mean(0)).pow(2).mean()
    return means + (covariance(first) - covariance(second)).pow(2).mean()


def covariance(features: Tensor) -> Tensor:
    """Unbiased, (n, C) → (C, C)."""
    with torch.autocast(features.device.type, enabled=False):  # the product of small differences needs its digits
        centred = features - features.mean(0)
        return centred.T @ centred / (len(features) - 1)
