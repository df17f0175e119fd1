"""Test the attention heads that DAN and Latent-OFER share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fergen_bench.training.attention import ChannelAttention, HeadEnsemble, SpatialAttention


class Scaled(nn.Module):
    """A head that returns the mean of a map over space, times a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, maps: Tensor) -> Tensor:
        return self.factor * maps.mean((2, 3))


def test_spatial_attention_weights_each_position_with_a_number_that_is_not_negative() -> None:
    torch.manual_seed(0)
    weights = SpatialAttention(6, 4)(torch.randn(3, 6, 5, 7))
    assert weights.shape == (3, 1, 5, 7)
    assert (weights >= 0).all()


def test_channel_attention_gates_each_channel_between_0_and_1() -> None:
    torch.manual_seed(0)
    gates = ChannelAttention(6, 4)(torch.randn(3, 6))
    assert gates.shape == (3, 6)
    assert ((gates > 0) & (gates < 1)).all()


def test_an_ensemble_stacks_its_heads_in_their_order() -> None:
    factors = iter([1.0, 2.0, 3.0])
    ensemble = HeadEnsemble(3, lambda: Scaled(next(factors)))
    assert [name for name, _ in ensemble.named_children()] == ["head0", "head1", "head2"]
    maps = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(ensemble.raw_heads(maps), torch.stack([f * maps.mean((2, 3)) for f in (1, 2, 3)], 1))
