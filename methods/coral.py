"""CORAL: align the mean and the covariance of the features of different domains.

Source: Sun and Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation" (ECCV 2016 workshops, arXiv
1607.01719), as released in github.com/facebookresearch/DomainBed at b93c22a. The features X_e of domain e have the
means m_e and the unbiased covariances S_e.

    L = mean_e ce_e + 1 * mean over pairs i < j of P_ij
    P_ij = mean over channels of (m_i - m_j)^2 + mean over entries of (S_i - S_j)^2.

As in the released code, the penalty has a term of the means, which the paper lacks, and takes means over entries in
place of the paper's 1 / 4 d^2.

Domains are the sources; with `adapt`, the sources and the unlabelled target (the setting of the paper; DomainBed trains
on sources alone); with `pseudo_domains`, clusters of the source. One domain is refused, because its penalty is 0.

Departures are those of every `DomainMethod`: the suite's trunk, CAFE's augmentation, and passes over the sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fergen_bench import AlignmentMethod


@dataclass
class Coral(AlignmentMethod):
    """Features with equal means and covariances in all domains carry over to further domains."""

    version: ClassVar[int] = 1
    # The learning rate is the best of protocols/learning-rate-sources.yaml, without web and without wild.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        return coral_penalty(first, second)


def coral_penalty(first: Tensor, second: Tensor) -> Tensor:
    """Return P_ij, a scalar, from the features (n, C) and (m, C) of two domains."""
    means = (first.mean(0) - second.mean(0)).pow(2).mean()
    return means + (covariance(first) - covariance(second)).pow(2).mean()


def covariance(features: Tensor) -> Tensor:
    """Return the unbiased covariance, (C, C), of features (n, C)."""
    with torch.autocast(features.device.type, enabled=False):  # half precision is too coarse for small differences
        centred = features - features.mean(0)
        return centred.T @ centred / (len(features) - 1)
