"""Test what the base classes of methods that train a whole network compute."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import AlignmentMethod, AttentionMethod, Batch, SampleDraws
from fergen_bench.training.trunk import domain_losses, mean_over_pairs


@dataclass
class Apart(AlignmentMethod):
    """The squared distance of the means of two domains."""

    def distance(self, first: Tensor, second: Tensor) -> Tensor:
        return (first.mean(0) - second.mean(0)).pow(2).sum()


class Heads(AttentionMethod):
    """A method with the schedule and the augmentation of AttentionMethod alone."""

    def build(self, ctx: object) -> nn.Module:
        return nn.Identity()

    def loss(self, batch: Batch) -> Tensor:
        return batch.images.sum()

    def logits(self, images: Tensor) -> Tensor:
        return images


def test_losses_of_domains_are_their_cross_entropies() -> None:
    logits, labels = [torch.randn(5, 7), torch.randn(3, 7)], [torch.arange(5), torch.arange(3)]
    expected = [functional.cross_entropy(z, y) for z, y in zip(logits, labels, strict=True)]
    assert torch.equal(domain_losses(logits, labels), torch.stack(expected))


def test_the_penalty_is_the_mean_over_all_pairs_and_0_with_one_domain() -> None:
    features = [torch.full((2, 1), value) for value in (0.0, 1.0, 3.0)]
    assert mean_over_pairs(features, lambda a, b: (a - b).abs().mean()).item() == pytest.approx((1 + 3 + 2) / 3)
    assert mean_over_pairs(features[:1], lambda a, b: (a - b).abs().mean()) == 0


def test_alignment_compares_labelled_and_unlabelled_domains() -> None:
    torch.manual_seed(0)
    method = Apart(penalty=2.0)
    method.model = nn.Sequential(nn.Flatten(), nn.Linear(12, 7))
    images, index = torch.rand(8, 3, 2, 2), torch.arange(8)
    draws, generator = SampleDraws(index, "test"), torch.Generator()
    unlabelled = torch.rand(4, 3, 2, 2)
    batch = Batch(images, index % 7, index, 0, 0, draws, generator, images, domains=2, unlabelled=unlabelled)
    terms = method.loss(batch)
    parts = [part.flatten(1) for part in (*images.chunk(2), unlabelled)]
    expected = torch.stack([method.distance(parts[a], parts[b]) for a, b in ((0, 1), (0, 2), (1, 2))]).mean()
    torch.testing.assert_close(terms["penalty"], 2.0 * expected)
    logits = method.model(images).chunk(2)
    torch.testing.assert_close(
        terms["classification"], domain_losses(logits, (index % 7).chunk(2)).mean(), rtol=1e-5, atol=1e-6
    )


def test_the_exponential_schedule_of_attention_methods_changes_every_few_epochs() -> None:
    method = Heads(decay=0.5, decay_every=3)
    assert [method.rate(epoch * 4, 4) for epoch in (0, 2, 3, 5, 6)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    assert Heads(schedule="constant").rate(100, 4) == 1.0
