"""GroupDRO: raise the weight of domains with a larger loss step by step, to improve the worst domain.

Source: Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts" (ICLR 2020, arXiv 1911.08731), as
released in github.com/facebookresearch/DomainBed at b93c22a. The weights q are equal at first.

    q_e <- q_e * exp(0.01 * ce_e), then divided by their sum;    L = sum_e q_e ce_e.

The weights receive no gradient. As released, each domain has a forward pass of its own, so that batch norm sees one
domain at a time. The paper's stronger L2 penalty, on which its results depend, is not in the released code.

Domains are the sources, or with `pseudo_domains` clusters of the source. One domain is refused, because its weight is
always 1, which is plain training.

Departures are those of every `DomainMethod`: the suite's trunk, CAFE's augmentation, and passes over the sources.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from fergen_bench import Batch, DomainMethod
from fergen_bench.training.trunk import domain_losses


@dataclass
class GroupDro(DomainMethod):
    """A network that is good on its worst source should not fail on the next domain."""

    version: ClassVar[int] = 1
    # The learning rate is the best of protocols/learning-rate-sources.yaml, without web and without wild.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    eta: float = 0.01  # rate at which the weights of domains follow their losses

    def loss(self, batch: Batch) -> Tensor:
        if batch.step == 0:
            self.weights = torch.ones(batch.domains, device=batch.labels.device)
        logits = [self.adjusted(self.model(images).float()) for images in batch.images.chunk(batch.domains)]
        losses = domain_losses(logits, list(batch.labels.chunk(batch.domains)))
        self.weights = updated_weights(self.weights, losses, self.eta)
        return weighted_loss(self.weights, losses)


def updated_weights(weights: Tensor, losses: Tensor, eta: float) -> Tensor:
    """Return the weights q after one step, (E,), from those before it and the losses of the domains, (E,) each."""
    grown = weights * torch.exp(eta * losses.detach())
    return grown / grown.sum()


def weighted_loss(weights: Tensor, losses: Tensor) -> Tensor:
    """Return L from the weights and the losses of the domains, (E,) each."""
    return (weights * losses).sum()
