"""A discriminator that tells domains apart by what a network computes, and the steps that it and the network take in
turns: for methods that hide the domain from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def discriminates(step: int, discriminator_steps: int) -> bool:
    """Whether a step (from 0) is the discriminator's: all but one of every 1 + discriminator_steps. Where they
    alternate, the first step is the network's.
    """
    return (step + 1) % (1 + discriminator_steps) < discriminator_steps


def discriminate(hidden: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Logits of the domains: linear layers (weight, bias) with ReLU between them. (N, C) → (N, E)."""
    for weight, bias in layers[:-1]:
        hidden = functional.relu(functional.linear(hidden, weight, bias))
    return functional.linear(hidden, *layers[-1])


def with_penalty(domain: Tensor, losses: Tensor, hidden: Tensor, gradient_penalty: float) -> dict[str, Tensor]:
    """Adds gamma R: R is the mean over faces of the squared gradient of the summed losses (N,) in hidden (N, C)."""
    if not gradient_penalty:
        return {"domain": domain, "total": domain}
    (gradient,) = torch.autograd.grad(losses.sum(), hidden, create_graph=True)
    penalty = gradient.pow(2).sum(1).mean()
    return {"domain": domain, "penalty": penalty, "total": domain + gradient_penalty * penalty}


def network_terms(logits: Tensor, labels: Tensor, discriminator: Tensor, adversarial: float) -> dict[str, Tensor]:
    """The weighted terms of the network's step. logits: (N, K), discriminator: its total loss, adversarial: lambda."""
    return {"classification": functional.cross_entropy(logits, labels), "adversarial": -adversarial * discriminator}
