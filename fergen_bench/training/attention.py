"""Attention heads on a feature map, as DAN and Latent-OFER use them.

Source: github.com/yaoing/DAN at 3872eef.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class SpatialAttention(nn.Module):
    """Weight the positions of a feature map: (N, C, height, width) → (N, 1, height, width).

    Args:
        channels: C, the channels of the map.
        width: The channels between the convolutions.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv_1x1, self.bn_1x1 = nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width)
        self.conv_3x3, self.bn_3x3 = nn.Conv2d(width, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv_1x3, self.bn_1x3 = nn.Conv2d(width, channels, (1, 3), padding=(0, 1)), nn.BatchNorm2d(channels)
        self.conv_3x1, self.bn_3x1 = nn.Conv2d(width, channels, (3, 1), padding=(1, 0)), nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        """Return the weight of each position, summed over the channels and not negative."""
        thin = self.bn_1x1(self.conv_1x1(maps))
        wide = self.bn_3x3(self.conv_3x3(thin)) + self.bn_1x3(self.conv_1x3(thin)) + self.bn_3x1(self.conv_3x1(thin))
        return functional.relu(wide).sum(1, keepdim=True)


class ChannelAttention(nn.Module):
    """Weight channels by a gate in 0..1 for each of them: (N, C) → (N, C).

    Args:
        channels: C, the number of pooled features.
        width: The features between the two layers.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear_reduce, self.bn = nn.Linear(channels, width), nn.BatchNorm1d(width)
        self.linear_expand = nn.Linear(width, channels)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return the gates of pooled features."""
        return torch.sigmoid(self.linear_expand(functional.relu(self.bn(self.linear_reduce(pooled)))))


class HeadEnsemble(nn.Module):
    """Several attention heads on one feature map, as the submodules head0, head1 and so on.

    Args:
        heads: The number of heads.
        make_head: Returns a new head, a module (N, C, height, width) → (N, C).
    """

    def __init__(self, heads: int, make_head: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.count = heads
        for head in range(heads):
            self.add_module(f"head{head}", make_head())

    def raw_heads(self, maps: Tensor) -> Tensor:
        """Return the outputs of all heads, (N, H, C), for a map (N, C, height, width)."""
        return torch.stack([self.get_submodule(f"head{head}")(maps) for head in range(self.count)], 1)
