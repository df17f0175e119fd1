"""MMD: align the feature distributions of different domains, compared by Gaussian kernels of seven widths.

Source: Li et al., "Domain Generalization with Adversarial Feature Learning" (CVPR 2018), its MMD term alone, as
released in github.com/facebookresearch/DomainBed at b93c22a. X_e are the features of domain e.

    L = mean_e ce_e + 1 * mean over pairs i < j of (mean k(X_i, X_i) + mean k(X_j, X_j) - 2 mean k(X_i, X_j))
    k(a, b) = sum of exp(-s |a - b|^2) over s in 0.001, 0.01, 0.1, 1, 10, 100, 1000.

As in the released code, the estimate is biased, because it counts each image as its own neighbour. The autoencoder and
the adversary of the paper are left out.

Domains are the sources; with `adapt`, the sources and the unlabelled target (an option of this file; DomainBed trains
on sources alone); with `pseudo_domains`, clusters of the source. One domain is refused, because its penalty is 0.

Departures: squared distances are sums of squared differences. (The released code expands the square, which loses digits
in float32, and clamps it at 1e-30.) The others are those of every `DomainMethod`: the suite's trunk, CAFE's
augmentation, and passes over the sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fergen_bench import AlignmentMethod

WIDTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""The factors s of the kernels."""


@dataclass
class Mmd(AlignmentMethod):
    """Features with equal distributions in all domains carry over to further domains."""

    version: ClassVar[int] = 1
    # The learning rate is the best of protocols/learning-rate-sources.yaml, without web and without wild.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        return mmd_penalty(first, second)


def mmd_penalty(first: Tensor, second: Tensor) -> Tensor:
    """Return the biased squared maximum mean discrepancy, a scalar, of two domains' features (n, C) and (m, C)."""
    return kernel(first, first).mean() + kernel(second, second).mean() - 2.0 * kernel(first, second).mean()


def kernel(first: Tensor, second: Tensor) -> Tensor:
    """Return the sum of Gaussian kernels, (n, m), of all pairs from features (n, C) and (m, C)."""
    distance = (first[:, None] - second[None]).pow(2).sum(2)
    return torch.stack([torch.exp(-width * distance) for width in WIDTHS]).sum(0)
