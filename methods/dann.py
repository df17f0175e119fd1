"""DANN: learn features from which a discriminator cannot recognise the domain.

Source: Ganin et al., "Domain-Adversarial Training of Neural Networks" (JMLR 2016, arXiv 1505.07818), as released in
github.com/facebookresearch/DomainBed at b93c22a. The features are h, the logits z, and D is a discriminator over the
domains d. lambda is 1 and gamma 0.

    discriminator's step:  ce(D(h), d) + gamma R
    network's step:        ce(z, y) - lambda (ce(D(h), d) + gamma R)
    R = mean over images of |d (sum ce) / d h|^2.

`AdversarialMethod` describes how the two steps alternate.

Domains are the sources; with `adapt`, the sources and the unlabelled target (the setting of the paper; DomainBed trains
on sources alone); with `pseudo_domains`, clusters of the source. One domain is refused, because it leaves the
discriminator nothing to learn.

Departures are those of every `DomainMethod`: the suite's trunk, CAFE's augmentation, and passes over the sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional

from fergen_bench import AdversarialMethod
from fergen_bench.training.adversary import discriminate, with_penalty


@dataclass
class Dann(AdversarialMethod):
    """Features that do not reveal their dataset cannot depend on what is specific to it."""

    version: ClassVar[int] = 1
    # The learning rate is the best of protocols/learning-rate-sources.yaml, without web and without wild.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    adapt: bool = False  # treat the unlabelled training images of the target as one more domain

    def domain_loss(self, features: Tensor, labels: Tensor, domains: Tensor, trained: bool) -> Tensor:
        return discriminator_loss(features, domains, self.layers(trained), self.gradient_penalty)["total"]


def discriminator_loss(
    hidden: Tensor, domains: Tensor, layers: Sequence[tuple[Tensor, Tensor]], gradient_penalty: float
) -> dict[str, Tensor]:
    """Return the discriminator's loss and its parts.

    Args:
        hidden: Features h, (N, C).
        domains: Index of each image's domain, int64 (N,).
        layers: Weight and bias of each layer of the discriminator.
        gradient_penalty: gamma.

    Returns:
        The scalars `domain` (mean cross-entropy), `penalty` (R, where gamma is not 0) and `total`.
    """
    if gradient_penalty and not hidden.requires_grad:
        hidden = hidden.detach().requires_grad_()
    losses = functional.cross_entropy(discriminate(hidden, layers), domains, reduction="none")
    return with_penalty(losses.mean(), losses, hidden, gradient_penalty)
