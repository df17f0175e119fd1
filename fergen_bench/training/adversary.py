"""Base class of methods that train a network so that a discriminator cannot recognise the domain of its features."""

from __future__ import annotations

import itertools
from abc import abstractmethod
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
from fergen_bench.training.graph import Batch
from fergen_bench.training.trunk import DomainMethod


@dataclass
class AdversarialMethod(DomainMethod):
    """Train a discriminator of domains against the trunk, in alternating steps.

    The network takes the first step. Each side has an Adam of its own, with beta1 0.5 instead of 0.9 and beta2 0.9
    instead of 0.999. One optimiser serves both and keeps separate moments and step counts: the discriminator's step
    gives the network no gradient, so that it is skipped, and in the network's step the discriminator's weights are
    constants. The network's gradient is the same as with a gradient-reversal layer. Dropout in the discriminator is 0,
    as released. A subclass defines `domain_loss`.
    """

    # Twice the epochs of other methods, because every second step trains the discriminator.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"epochs": 20}}

    adversarial: float = 1.0  # lambda, the weight of the discriminator's loss in the network's loss
    gradient_penalty: float = 0.0  # gamma, the weight of the gradient penalty R
    discriminator_steps: int = 1  # steps of the discriminator for each step of the network
    discriminator_rate: float = 1.0  # the discriminator's learning rate, as a multiple of the network's
    discriminator_width: int = 256  # width of the discriminator's hidden layers
    discriminator_depth: int = 3  # number of the discriminator's linear layers
    beta1: float = 0.5  # of adam and adamw, for the network and the discriminator
    beta2: float = 0.9  # of adam and adamw, for the network and the discriminator

    def domains(self, split: Split, ctx: Context) -> Domains:
        """Return the domains that every batch contains."""
        domains = super().domains(split, ctx)
        self.domain_count = len(domains)
        return domains

    def build(self, ctx: Context) -> nn.ModuleDict:
        """Return `trunk`, `head` and `discriminator`; the discriminator's step trains all but the first two."""
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
        """Return one group of parameters for the network and one for the discriminator."""
        network: list[nn.Parameter] = []
        adversary: list[nn.Parameter] = []
        for name, module in self.model.items():
            (network if name in {"trunk", "head"} else adversary).extend(module.parameters())
        extra = {} if self.optimizer == "sgd" else {"betas": (self.beta1, self.beta2)}
        rate = self.learning_rate * self.discriminator_rate
        return [{"params": network, **extra}, {"params": adversary, "lr": rate, **extra}]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return the discriminator's loss in its steps, and the weighted terms of the network's loss in the others."""
        images = batch.images if batch.unlabelled is None else torch.cat([batch.images, batch.unlabelled])
        size = len(batch.labels) // batch.domains
        domains = torch.arange(len(images) // size, device=images.device).repeat_interleave(size)
        if discriminates(batch.step, self.discriminator_steps):
            with torch.no_grad():
                features = self.model["trunk"](images).float()
            return {"discriminator": self.domain_loss(features, batch.labels, domains, trained=True)}
        features = self.model["trunk"](images).float()
        logits = self.model["head"](features[: len(batch.labels)]).float()
        loss = self.domain_loss(features, batch.labels, domains, trained=False)
        return network_terms(self.adjusted(logits), batch.labels, loss, self.adversarial)

    @abstractmethod
    def domain_loss(self, features: Tensor, labels: Tensor, domains: Tensor, trained: bool) -> Tensor:
        """Return the discriminator's loss, gradient penalty included.

        Args:
            features: (N, C), those of unlabelled images last.
            labels: Labels of the labelled images, int64.
            domains: Index of each image's domain, int64 (N,).
            trained: Whether the discriminator is trained; its weights are constants otherwise.

        Returns:
            A scalar.
        """

    def logits(self, images: Tensor) -> Tensor:
        """Return logits (B, 7) of images."""
        logits: Tensor = self.model["head"](self.model["trunk"](images))
        return logits.float()

    def layers(self, trained: bool) -> list[tuple[Tensor, Tensor]]:
        """Return the weight and bias of each layer of the discriminator, as constants unless it is trained."""
        layers = [(layer.weight, layer.bias) for layer in self.model["discriminator"]]
        return layers if trained else [(weight.detach(), bias.detach()) for weight, bias in layers]


def discriminates(step: int, discriminator_steps: int) -> bool:
    """Return whether a step, counted from 0, trains the discriminator.

    Of every 1 + discriminator_steps steps, all but one train the discriminator. With one each, the network is first.
    """
    return (step + 1) % (1 + discriminator_steps) < discriminator_steps


def discriminate(hidden: Tensor, layers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
    """Apply the discriminator: linear layers with ReLU between them.

    Args:
        hidden: Features, (N, C).
        layers: Weight and bias of each layer.

    Returns:
        Logits of the domains, (N, E).
    """
    for weight, bias in layers[:-1]:
        hidden = functional.relu(functional.linear(hidden, weight, bias))
    return functional.linear(hidden, *layers[-1])


def with_penalty(domain: Tensor, losses: Tensor, hidden: Tensor, gradient_penalty: float) -> dict[str, Tensor]:
    """Add the gradient penalty gamma R to the discriminator's loss.

    R is the mean over images of the squared gradient of the summed losses in the features.

    Args:
        domain: The discriminator's loss, a scalar.
        losses: The loss of each image, (N,).
        hidden: The features that the losses were computed from, (N, C).
        gradient_penalty: gamma; with 0, R is not computed.

    Returns:
        The scalars `domain`, `penalty` (where gamma is not 0) and `total`.
    """
    if not gradient_penalty:
        return {"domain": domain, "total": domain}
    (gradient,) = torch.autograd.grad(losses.sum(), hidden, create_graph=True)
    penalty = gradient.pow(2).sum(1).mean()
    return {"domain": domain, "penalty": penalty, "total": domain + gradient_penalty * penalty}


def network_terms(logits: Tensor, labels: Tensor, discriminator: Tensor, adversarial: float) -> dict[str, Tensor]:
    """Return the weighted terms of the network's loss.

    Args:
        logits: (N, K).
        labels: int64 (N,).
        discriminator: The discriminator's loss, gradient penalty included.
        adversarial: lambda.

    Returns:
        The scalars `classification` and `adversarial`.
    """
    return {"classification": functional.cross_entropy(logits, labels), "adversarial": -adversarial * discriminator}
