"""CDANN: apply DANN within each expression, with a discriminator that receives the label and equal class weights.

Source: Li et al., "Deep Domain Generalization via Conditional Invariant Adversarial Networks" (ECCV 2018), as released
in github.com/facebookresearch/DomainBed at b93c22a. The features are h and the logits z. The discriminator D over the
domains d learns an embedding E of the expressions. lambda is 1 and gamma 0.

    A = sum_n w_n ce_n(D(h_n + E[y_n]), d_n) + gamma R,   w_n = 1 / (images of y_n in the batch * M)
    R = mean over images of |d (sum ce) / d (h + E[y])|^2
    discriminator's step:  A
    network's step:        ce(z, y) - lambda A.

M is the largest label in the batch plus one, as released; it is not K where the last expression is absent.
`AdversarialMethod` describes how the two steps alternate.

Domains are the sources, or with `pseudo_domains` clusters of the source. Unlabelled images of a target cannot be used,
because the method needs the labels of every domain. One domain is refused.

Departures: the weights w are float64 until they meet the losses (released: float32). The loss is the weighted sum, as
released. The others are those of every `DomainMethod`: the suite's trunk, CAFE's augmentation, and passes over the
sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, AdversarialMethod, Context
from fergen_bench.training.adversary import discriminate, with_penalty


@dataclass
class Cdann(AdversarialMethod):
    """Features should not reveal the dataset, except where datasets differ in how often expressions occur."""

    version: ClassVar[int] = 1
    # The learning rate is the best of protocols/learning-rate-sources.yaml, without web and without wild.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 8e-3}}

    def build(self, ctx: Context) -> nn.ModuleDict:
        model = super().build(ctx)
        model["embedding"] = nn.Embedding(len(EXPRESSIONS), self.network.features)
        return model

    def domain_loss(self, features: Tensor, labels: Tensor, domains: Tensor, trained: bool) -> Tensor:
        embedding = self.model["embedding"].weight
        hidden = conditioned(features, labels, embedding if trained else embedding.detach())
        return discriminator_loss(hidden, labels, domains, self.layers(trained), self.gradient_penalty)["total"]


def conditioned(features: Tensor, labels: Tensor, embedding: Tensor) -> Tensor:
    """Return the discriminator's input (N, C): features (N, C) plus the row of the embedding (K, C) of each label."""
    return features + embedding[labels]


def class_weights(labels: Tensor) -> Tensor:
    """Return the weight w of each image, float64 (N,), from the labels of a batch."""
    counts = torch.bincount(labels)
    return 1.0 / (counts[labels].double() * len(counts))


def discriminator_loss(
    hidden: Tensor, labels: Tensor, domains: Tensor, layers: Sequence[tuple[Tensor, Tensor]], gradient_penalty: float
) -> dict[str, Tensor]:
    """Return the discriminator's loss and its parts.

    Args:
        hidden: Conditioned features, (N, C).
        labels: int64 (N,).
        domains: Index of each image's domain, int64 (N,).
        layers: Weight and bias of each layer of the discriminator.
        gradient_penalty: gamma.

    Returns:
        The scalars `domain` (weighted sum of cross-entropies), `penalty` (R, where gamma is not 0) and `total` (A).
    """
    if gradient_penalty and not hidden.requires_grad:
        hidden = hidden.detach().requires_grad_()
    losses = functional.cross_entropy(discriminate(hidden, layers), domains, reduction="none")
    domain = (class_weights(labels).to(losses) * losses).sum()
    return with_penalty(domain, losses, hidden, gradient_penalty)
