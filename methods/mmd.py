"""MMD: features of different domains are to be distributed alike, as Gaussian kernels of seven widths see it.

Source: Li et al., "Domain Generalization with Adversarial Feature Learning" (CVPR 2018), its MMD term alone, as
released in github.com/facebookresearch/DomainBed at b93c22a. For features X_e of domain e:

    L = mean_e ce_e + 1 * mean over pairs i < j of (mean k(X_i, X_i) + mean k(X_j, X_j) - 2 mean k(X_i, X_j))
    k(a, b) = sum of exp(-s |a - b|^2) over s in 0.001, 0.01, 0.1, 1, 10, 100, 1000

What the released code does and this file keeps: the biased estimate, which counts each face as its own neighbour; a
pass through the network for each domain, so that batch norm sees one at a time; no autoencoder and no adversary (the
paper has both).

Domains are the sources, or with `adapt` the sources and the unlabelled target (an option here; DomainBed trains on
sources alone), or with `pseudo_domains` clusters of the source. With one domain the penalty is 0: it is refused.

Departures: squared distances are sums of squared differences (released: the square is multiplied out, which in float32
loses digits, and is kept above 1e-30); the suite's trunk in place of a ResNet-50; CAFE's augmentation in place of
DomainBed's crops and colour jitter, so that methods differ in the method alone; passes over the sources in place of
5001 updates (an epoch shows as many labelled faces as there are, equally many of each domain).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fergen_bench import Batch, Context, DomainMethod, Domains, Split
from fergen_bench.training.trunk import domain_losses, mean_over_pairs


@dataclass
class Mmd(DomainMethod):
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
            "penalty": self.penalty * mean_over_pairs(features, mmd_penalty),
        }


WIDTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""The factors s of the kernels."""
"""The factors s of the kernels."""


def mmd_penalty(first: Tensor, second: Tensor) -> Tensor:
    """The biased squared maximum mean discrepancy between two domains' features (n, C)."""
    return kernel(first, first).mean() + kernel(second, second).mean() - 2.0 * kernel(first, second).mean()


def kernel(first: Tensor, second: Tensor) -> Tensor:
    """The sum of Gaussian kernels: (n, C) and (m, C) → (n, m)."""
    distance = (first[:, None] - second[None]).pow(2).sum(2)
    return torch.stack([torch.exp(-width * distance) for width in WIDTHS]).sum(0)
