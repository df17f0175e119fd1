"""DANN: the network is trained so that a discriminator cannot tell from its features which domain a face is from.

Source: Ganin et al., "Domain-Adversarial Training of Neural Networks" (JMLR 2016, arXiv 1505.07818), as released in
github.com/facebookresearch/DomainBed at b93c22a. For features h and discriminator D over the domains d:

    discriminator's step:  ce(D(h), d) + gamma R          R = mean over faces of |d (sum ce) / d h|^2,  gamma = 0
    network's step:        ce(z, y) - lambda (ce(D(h), d) + gamma R)                                    lambda = 1

The network and the discriminator take turns, a step each, with an Adam each (beta1 0.5 instead of 0.9, beta2 0.9
instead of 0.999); the first step is the network's. There is no layer that turns gradients round; the network's gradient
is the same as with one. Here one optimiser holds both: in the discriminator's step the network has no gradient and is
passed over, in the network's step the discriminator's weights are constants, so each keeps its own moments and count.

Domains are the sources, or with `adapt` the sources and the unlabelled target (the paper's own setting; DomainBed
trains on sources alone), or with `pseudo_domains` clusters of the source. With one domain the discriminator has nothing
to tell apart: it is refused.

Departures: the suite's trunk in place of a ResNet-50; CAFE's augmentation in place of DomainBed's crops and colour
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
class Dann(TrunkMethod):
    """Features that do not betray their dataset cannot rest on what is peculiar to it."""

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
    adapt: bool = False  # treat the unlabelled training images of the target as one more domain

    def domains(self, split: Split, ctx: Context) -> Domains:
        domains = Domains(self, split, ctx, self.trunk, self.pseudo_domains, self.adapt)
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
            }
        )

    def parameter_groups(self) -> list[dict[str, Any]]:
        network = [*self.model["trunk"].parameters(), *self.model["head"].parameters()]
        adversary = [*self.model["discriminator"].parameters()]
        extra = {} if self.optimizer == "sgd" else {"betas": (self.beta1, self.beta2)}
        rate = self.learning_rate * self.discriminator_rate
        return [{"params": network, **extra}, {"params": adversary, "lr": rate, **extra}]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        images = batch.images if batch.unlabelled is None else torch.cat([batch.images, batch.unlabelled])
        size = len(batch.labels) // batch.domains
        domains = torch.arange(len(images) // size, device=images.device).repeat_interleave(size)
        if discriminates(batch.step, self.discriminator_steps):
            with torch.no_grad():
                features = self.model["trunk"](images).float()
            loss = discriminator_loss(features, domains, self._layers(trained=True), self.gradient_penalty)["total"]
            return {"discriminator": loss}
        features = self.model["trunk"](images).float()
        logits = self.model["head"](features[: len(batch.labels)]).float()
        loss = discriminator_loss(features, domains, self._layers(trained=False), self.gradient_penalty)["total"]
        return network_terms(logits, batch.labels, loss, self.adversarial)

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model["head"](self.model["trunk"](images))
        return logits.float()

    def _layers(self, trained: bool) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of the discriminator, as constants in the network's own step."""
        layers = [(layer.weight, layer.bias) for layer in self.model["discriminator"]]
        return layers if trained else [(weight.detach(), bias.detach()) for weight, bias in layers]


def discriminator_loss(
    hidden: Tensor, domains: Tensor, layers: Sequence[tuple[Tensor, Tensor]], gradient_penalty: float
) -> dict[str, Tensor]:
    """`domain`: the mean of the domain losses; `penalty`: R; `total`: domain + gamma R. hidden: (N, C)."""
    if gradient_penalty and not hidden.requires_grad:
        hidden = hidden.detach().requires_grad_()
    losses = functional.cross_entropy(discriminate(hidden, layers), domains, reduction="none")
    return with_penalty(losses.mean(), losses, hidden, gradient_penalty)
