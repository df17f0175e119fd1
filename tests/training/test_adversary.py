"""Test the alternating steps of a network and a discriminator of domains."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import AdversarialMethod, Batch, SampleDraws
from fergen_bench.training.adversary import discriminate, with_penalty


@dataclass
class Recognise(AdversarialMethod):
    """Plain cross-entropy of the domains, with a record of the domains that were requested."""

    def domain_loss(self, features: Tensor, labels: Tensor, domains: Tensor, trained: bool) -> Tensor:
        self.requested = domains.tolist()
        return functional.cross_entropy(discriminate(features, self.layers(trained)), domains)


def method() -> Recognise:
    """Return a method with a linear trunk of 4 features and 3 domains."""
    torch.manual_seed(0)
    found = Recognise()
    found.model = nn.ModuleDict(
        {
            "trunk": nn.Sequential(nn.Flatten(), nn.Linear(12, 4)),
            "head": nn.Linear(4, 7),
            "discriminator": nn.ModuleList([nn.Linear(4, 5), nn.Linear(5, 3)]),
        }
    )
    return found


def batch(step: int, unlabelled: bool = False) -> Batch:
    """Return a batch of two domains with 4 images each, and 4 unlabelled images where requested."""
    generator = torch.Generator().manual_seed(step)
    images, index = torch.rand(8, 3, 2, 2, generator=generator), torch.arange(8)
    more = torch.rand(4, 3, 2, 2, generator=generator) if unlabelled else None
    draws = SampleDraws(index, "test")
    return Batch(images, index % 7, index, 0, step, draws, generator, images, domains=2, unlabelled=more)


def trained_parts(found: Recognise, losses: dict[str, Tensor]) -> set[str]:
    """Return the modules that receive a gradient."""
    found.model.zero_grad(set_to_none=True)
    sum(losses.values(), torch.zeros(())).backward()
    return {name.split(".")[0] for name, weight in found.model.named_parameters() if weight.grad is not None}


def test_the_network_and_the_discriminator_are_trained_in_alternating_steps() -> None:
    found = method()
    network, discriminator = found.loss(batch(0)), found.loss(batch(1))
    assert set(network) == {"classification", "adversarial"}
    assert set(discriminator) == {"discriminator"}
    assert trained_parts(found, network) == {"trunk", "head"}
    assert trained_parts(found, discriminator) == {"discriminator"}
    assert network["adversarial"] < 0


@pytest.mark.parametrize("step", [0, 1])
def test_unlabelled_images_are_one_more_domain(step: int) -> None:
    found = method()
    found.loss(batch(step, unlabelled=True))
    assert found.requested == [0] * 4 + [1] * 4 + [2] * 4
    found.loss(batch(step))
    assert found.requested == [0] * 4 + [1] * 4


def test_the_penalty_is_the_mean_squared_gradient_of_the_summed_losses() -> None:
    hidden = torch.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    losses = (hidden**2).sum(1)  # its gradient is 2 h
    terms = with_penalty(losses.mean(), losses, hidden, 0.5)
    assert terms["penalty"].item() == pytest.approx((4 * (1 + 4) + 4 * (9 + 16)) / 2)
    assert terms["total"].item() == pytest.approx(losses.mean().item() + 0.5 * terms["penalty"].item())
    assert set(with_penalty(losses.mean(), losses, hidden, 0.0)) == {"domain", "total"}
