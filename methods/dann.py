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

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench import AdversarialMethod, Batch
from fergen_bench.training.adversary import discriminate, discriminates, network_terms, with_penalty


@dataclass
class Dann(AdversarialMethod):
    """Features that do not betray their dataset cannot rest on what is peculiar to it."""

    version: ClassVar[int] = 1

    adapt: bool = False  # treat the unlabelled training images of the target as one more domain

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        images = batch.images if batch.unlabelled is None else torch.cat([batch.images, batch.unlabelled])
        size = len(batch.labels) // batch.domains
        domains = torch.arange(len(images) // size, device=images.device).repeat_interleave(size)
        if discriminates(batch.step, self.discriminator_steps):
            with torch.no_grad():
                features = self.model["trunk"](images).float()
            loss = discriminator_loss(features, domains, self.layers(trained=True), self.gradient_penalty)["total"]
            return {"discriminator": loss}
        features = self.model["trunk"](images).float()
        logits = self.model["head"](features[: len(batch.labels)]).float()
        loss = discriminator_loss(features, domains, self.layers(trained=False), self.gradient_penalty)["total"]
        return network_terms(logits, batch.labels, loss, self.adversarial)


def discriminator_loss(
    hidden: Tensor, domains: Tensor, layers: Sequence[tuple[Tensor, Tensor]], gradient_penalty: float
) -> dict[str, Tensor]:
    """`domain`: the mean of the domain losses; `penalty`: R; `total`: domain + gamma R. hidden: (N, C)."""
    if gradient_penalty and not hidden.requires_grad:
        hidden = hidden.detach().requires_grad_()
    losses = functional.cross_entropy(discriminate(hidden, layers), domains, reduction="none")
    return with_penalty(losses.mean(), losses, hidden, gradient_penalty)
