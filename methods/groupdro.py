"""GroupDRO: domains with a larger loss gain weight, step by step, so that the worst of them is attended to.

Source: Sagawa et al., "Distributionally Robust Neural Networks for Group Shifts" (ICLR 2020, arXiv 1911.08731), as
released in github.com/facebookresearch/DomainBed at b93c22a. With weights q that begin equal:

    q_e <- q_e * exp(0.01 * ce_e), then divided by their sum;    L = sum_e q_e ce_e

The weights take part in no gradient. Each domain has a pass through the network of its own, as released: batch norm
sees one domain at a time. The paper's stronger L2 penalty, on which its results rest, is not in the released code.

Domains are the sources, or with `pseudo_domains` clusters of the source. With one domain its weight is always 1, which
is plain training: it is refused.

Departures: the suite's trunk in place of a ResNet-50; CAFE's augmentation in place of DomainBed's crops and colour
jitter, so that methods differ in the method alone; passes over the sources in place of 5001 updates (an epoch shows as
many labelled faces as there are, equally many of each domain).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fergen_bench import Batch, DomainMethod
from fergen_bench.training.trunk import domain_losses


@dataclass
class GroupDro(DomainMethod):
    """A network that is good on its worst domain should not be bad on the next one."""

    version: ClassVar[int] = 1

    eta: float = 0.01  # how fast the weights of domains follow their losses

    def loss(self, batch: Batch) -> Tensor:
        if batch.step == 0:
            self.weights = torch.ones(batch.domains, device=batch.labels.device)
        logits = [self.model(images).float() for images in batch.images.chunk(batch.domains)]
        losses = domain_losses(logits, list(batch.labels.chunk(batch.domains)))
        self.weights = updated_weights(self.weights, losses, self.eta)
        return weighted_loss(self.weights, losses)


def updated_weights(weights: Tensor, losses: Tensor, eta: float) -> Tensor:
    """The domains' weights (E,) after a step with these losses (E,); their sum is 1."""
    grown = weights * torch.exp(eta * losses.detach())
    return grown / grown.sum()


def weighted_loss(weights: Tensor, losses: Tensor) -> Tensor:
    """L from the weights and the losses of the domains, (E,) each."""
    return (weights * losses).sum()
