"""IRM: one classifier is to be the best of its kind in every domain at once (the penalty called v1).

Source: Arjovsky et al., "Invariant Risk Minimization" (arXiv 1907.02893), as released in
github.com/facebookresearch/DomainBed at b93c22a. For logits z of domain e:

    L = mean_e ce_e + w * mean_e g(even faces of e) * g(odd faces of e)
    g = d ce(s z, y) / d s  at s = 1,  which is  mean over faces of (sum_k softmax(z)_k z_k - z_y)

The weight w is 1 for 500 updates and 100 from then on; Adam is made anew at that update, because the loss changes its
scale. The two halves of a domain's faces make the product an unbiased estimate of g^2; it may be negative.

With one source nothing is invariant between domains; what is left is a regulariser that asks the logits' scale to be
right on that source. So one source is not refused. With `pseudo_domains` clusters of the source are the domains.

Departures: the suite's trunk in place of a ResNet-50; CAFE's augmentation in place of DomainBed's crops and colour
jitter, so that methods differ in the method alone; passes over the sources in place of 5001 updates (an epoch shows as
many labelled faces as there are, equally many of each domain).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fergen_bench import Batch, DomainMethod
from fergen_bench.training.trunk import domain_losses


@dataclass
class Irm(DomainMethod):
    """What predicts the expression in every domain alike may be its cause, not the domain's habit."""

    version: ClassVar[int] = 1
    least_domains: ClassVar[int] = 1
    # The weight changes after a tenth of the few hundred updates, as in the released 500 of 5001.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"anneal": 50}}

    penalty: float = 100.0  # weight of the penalty, from update `anneal` on; 1 before
    anneal: int = 500  # the update (from 0) at which the weight changes and the optimiser is made anew

    def restarts(self, step: int) -> bool:
        return step == self.anneal

    def weight(self, step: int) -> float:
        """Of the penalty, at an update (from 0)."""
        return self.penalty if step >= self.anneal else 1.0

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        logits = self.model(batch.images).float().chunk(batch.domains)
        return self.terms(list(logits), list(batch.labels.chunk(batch.domains)), self.weight(batch.step))

    def terms(self, logits: list[Tensor], labels: list[Tensor], weight: float) -> dict[str, Tensor]:
        """The weighted terms of L, by domain. logits: (n, K) each, labels: (n,)."""
        return {
            "classification": domain_losses(logits, labels).mean(),
            "penalty": weight * torch.stack([irm_penalty(z, y) for z, y in zip(logits, labels, strict=True)]).mean(),
        }


def irm_penalty(logits: Tensor, labels: Tensor) -> Tensor:
    """The product of the two halves' gradients; faces 0, 2, 4, … and 1, 3, 5, … of one domain. logits: (n, K)."""
    return scale_gradient(logits[0::2], labels[0::2]) * scale_gradient(logits[1::2], labels[1::2])


def scale_gradient(logits: Tensor, labels: Tensor) -> Tensor:
    """The derivative of ce(s * logits, labels) in s at s = 1, in closed form."""
    expected = (torch.softmax(logits, 1) * logits).sum(1)
    return (expected - logits.gather(1, labels[:, None])[:, 0]).mean()
