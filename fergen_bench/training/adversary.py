"""A discriminator that tells domains apart by what a network computes, and the steps that it and the network take in
turns: for methods that hide the domain from it.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench.data.domain import Split
from fergen_bench.data.labels import EXPRESSIONS
from fergen_bench.error import BenchError
from fergen_bench.training.contract import Context
from fergen_bench.training.domains import Domains
from fergen_bench.training.trunk import DomainMethod


@dataclass
class AdversarialMethod(DomainMethod):
    """Train a discriminator of domains against the trunk, in alternating steps."""

    # Twice the epochs of other methods, because every second step trains the discriminator.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"epochs": 20}}

    adversarial: float = 1.0  # lambda, the weight of the discriminator's loss in the network's
    gradient_penalty: float = 0.0  # gamma, the weight of R
    discriminator_steps: int = 1  # of the discriminator for each of the network
    discriminator_rate: float = 1.0  # its learning rate, as a share of the network's
    discriminator_width: int = 256  # of its hidden layers
    discriminator_depth: int = 3  # how many linear layers it has
    beta1: float = 0.5  # of adam and adamw, for both
    beta2: float = 0.9  # of adam and adamw, for both

    def domains(self, split: Split, ctx: Context) -> Domains:
        domains = super().domains(split, ctx)
        self.domain_count = len(domains)
        return domains

    def build(self, ctx: Context) -> nn.ModuleDict:
        """Return `trunk`, `head` and `discriminator`; the step of the discriminator trains all but the first two."""
        if self.discriminator_depth < 2 or self.discriminator_steps < 1:
            raise BenchError("discriminator_depth must be 2 or more, and discriminator_steps 1 or more")
        self.network = ctx.backbone(self.trunk, trainable=True)
        inner = [self.discriminator_width] * (self.discriminator_depth - 1)
        widths = [self.network.features, *inner, self.domain_count]
        return nn.ModuleDict(
            {
                "trunk": self.network,
                "head": nn.Linear(self.network.features, len(EXPRESSIONS)),
                "discriminator": nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(widths)),
            }
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        network: list[nn.Parameter] = []
        adversary: list[nn.Parameter] = []
        for name, module in self.model.items():
            (network if name in {"trunk", "head"} else adversary).extend(module.parameters())
        extra = {} if self.optimizer == "sgd" else {"betas": (self.beta1, self.beta2)}
        rate = self.learning_rate * self.discriminator_rate
        return [{"params": network, **extra}, {"params": adversary, "lr": rate, **extra}]

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model["head"](self.model["trunk"](images))
        return logits.float()

    def layers(self, trained: bool) -> list[tuple[Tensor, Tensor]]:
        """Return weights and biases of the discriminator; as constants in the network's own step."""
        layers = [(layer.weight, layer.bias) for layer in self.model["discriminator"]]
        return layers if trained else [(weight.detach(), bias.detach()) for weight, bias in layers]


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
