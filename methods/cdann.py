"""CDANN: as DANN, within each expression: the discriminator is told the expression, and each counts equally.

Source: Li et al., "Deep Domain Generalization via Conditional Invariant Adversarial Networks" (ECCV 2018), as released
in github.com/facebookresearch/DomainBed at b93c22a. For features h, an embedding E of the expressions that the
discriminator learns, and discriminator D over the domains d:

    A = sum_n w_n ce_n(D(h_n + E[y_n]), d_n) + gamma R,   w_n = 1 / (faces of y_n in the batch * M)
    discriminator's step:  A          R = mean over faces of |d (sum ce) / d (h + E[y])|^2,  gamma = 0
    network's step:        ce(z, y) - lambda A,                                             lambda = 1

M is the largest label in the batch plus one, as released: not K where the last expression is absent.

The network and the discriminator take turns, a step each, with an Adam each (beta1 0.5 instead of 0.9, beta2 0.9
instead of 0.999); the first step is the network's. There is no layer that turns gradients round; the network's gradient
is the same as with one. Here one optimiser holds both: in the discriminator's step the network has no gradient and is
passed over, in the network's step the discriminator's weights are constants, so each keeps its own moments and count.

Domains are the sources, or with `pseudo_domains` clusters of the source. It needs the labels of every domain, so there
is nothing it could do with unlabelled images of a target. With one domain it is refused.

Departures: weights w in float64 until they meet the losses (released: float32); the loss is the weighted sum, as
released; the suite's trunk in place of a ResNet-50; CAFE's augmentation in place of DomainBed's crops and colour
jitter, so that methods differ in the method alone; passes over the sources in place of 5001 updates (an epoch shows as
many labelled faces as there are, equally many of each domain). No dropout in the discriminator (released: 0).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, AdversarialMethod, Batch, Context
from fergen_bench.training.adversary import discriminate, discriminates, network_terms, with_penalty


@dataclass
class Cdann(AdversarialMethod):
    """What betrays the dataset should go, but not what datasets differ in because their expressions do."""

    version: ClassVar[int] = 1

    def build(self, ctx: Context) -> nn.ModuleDict:
        model = super().build(ctx)
        model["embedding"] = nn.Embedding(len(EXPRESSIONS), self.network.features)
        return model

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        size = len(batch.labels) // batch.domains
        domains = torch.arange(batch.domains, device=batch.labels.device).repeat_interleave(size)
        if discriminates(batch.step, self.discriminator_steps):
            with torch.no_grad():
                features = self.model["trunk"](batch.images).float()
            embedding, layers = self._adversary(trained=True)
            hidden = conditioned(features, batch.labels, embedding)
            loss = discriminator_loss(hidden, batch.labels, domains, layers, self.gradient_penalty)["total"]
            return {"discriminator": loss}
        features = self.model["trunk"](batch.images).float()
        logits = self.model["head"](features).float()
        embedding, layers = self._adversary(trained=False)
        hidden = conditioned(features, batch.labels, embedding)
        loss = discriminator_loss(hidden, batch.labels, domains, layers, self.gradient_penalty)["total"]
        return network_terms(logits, batch.labels, loss, self.adversarial)

    def _adversary(self, trained: bool) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The embedding and the discriminator's weights and biases, as constants in the network's own step."""
        embedding = self.model["embedding"].weight
        return embedding if trained else embedding.detach(), self.layers(trained)


def conditioned(features: Tensor, labels: Tensor, embedding: Tensor) -> Tensor:
    """What the discriminator sees: features (N, C) plus the row of the embedding (K, C) that belongs to the label."""
    return features + embedding[labels]


def class_weights(labels: Tensor) -> Tensor:
    """1 over the count of a face's expression in the batch and over the largest label in the batch plus one, (N,)."""
    counts = torch.bincount(labels)
    return 1.0 / (counts[labels].double() * len(counts))


def discriminator_loss(
    hidden: Tensor, labels: Tensor, domains: Tensor, layers: Sequence[tuple[Tensor, Tensor]], gradient_penalty: float
) -> dict[str, Tensor]:
    """`domain`: the weighted sum of the domain losses; `penalty`: R; `total`: domain + gamma R. hidden: (N, C)."""
    if gradient_penalty and not hidden.requires_grad:
        hidden = hidden.detach().requires_grad_()
    losses = functional.cross_entropy(discriminate(hidden, layers), domains, reduction="none")
    domain = (class_weights(labels).to(losses) * losses).sum()
    return with_penalty(domain, losses, hidden, gradient_penalty)
