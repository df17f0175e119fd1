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

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, BenchError, Context, Domains, Split, TrunkMethod
from fergen_bench.adversary import discriminate, discriminates, network_terms, with_penalty


@dataclass
class Cdann(TrunkMethod):
    """What betrays the dataset should go, but not what datasets differ in because their expressions do."""

    version: ClassVar[int] = 1
    least_domains: ClassVar[int] = 2
    # For 64-pixel networks, as full_finetune's trunk; not tuned for this method yet. Twice the epochs of other methods,
    # because every second step is the discriminator's.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {
            "epochs": 20,
            "batch_size": 16,  # of each domain: 64 a step with the four sources of leave-one-out
            "learning_rate": 2e-3,
            "optimizer": "adamw",
            "weight_decay": 5e-3,
            "schedule": "cosine",
        }
    }

    epochs: int = 60  # passes over the sources; released: 5001 updates
    batch_size: int = 32  # faces of each domain per step
    learning_rate: float = 5e-5  # of trunk and head
    weight_decay: float = 0.0  # coupled L2 with adam, decoupled with adamw
    schedule: Literal["exponential", "cosine", "constant"] = "constant"  # of both learning rates
    adversarial: float = 1.0  # lambda, the weight of the discriminator's loss in the network's
    gradient_penalty: float = 0.0  # gamma, the weight of R
    discriminator_steps: int = 1  # of the discriminator for each of the network
    discriminator_rate: float = 1.0  # its learning rate, as a share of the network's
    discriminator_width: int = 256  # of its hidden layers
    discriminator_depth: int = 3  # how many linear layers it has
    beta1: float = 0.5  # of adam and adamw, for both
    beta2: float = 0.9  # of adam and adamw, for both
    pseudo_domains: int = 0  # clusters of the frozen trunk's features to treat as domains in place of the sources

    def domains(self, split: Split, ctx: Context) -> Domains:
        domains = Domains(self, split, ctx, self.trunk, self.pseudo_domains)
        self.domain_count = len(domains)
        return domains

    def build(self, ctx: Context) -> nn.Module:
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
                "embedding": nn.Embedding(len(EXPRESSIONS), self.network.features),
            }
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        network = [*self.model["trunk"].parameters(), *self.model["head"].parameters()]
        adversary = [*self.model["discriminator"].parameters(), *self.model["embedding"].parameters()]
        extra = {} if self.optimizer == "sgd" else {"betas": (self.beta1, self.beta2)}
        rate = self.learning_rate * self.discriminator_rate
        return [{"params": network, **extra}, {"params": adversary, "lr": rate, **extra}]

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

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model["head"](self.model["trunk"](images))
        return logits.float()

    def _adversary(self, trained: bool) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The embedding and the discriminator's weights and biases, as constants in the network's own step."""
        embedding = self.model["embedding"].weight
        layers = [(layer.weight, layer.bias) for layer in self.model["discriminator"]]
        if trained:
            return embedding, layers
        return embedding.detach(), [(weight.detach(), bias.detach()) for weight, bias in layers]


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
