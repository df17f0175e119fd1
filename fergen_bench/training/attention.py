"""Attention over the places and over the channels of a feature map, as DAN and Latent-OFER use it.

Source: github.com/yaoing/DAN at 3872eef.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SpatialAttention(nn.Module):
    """A map (N, C, height, width) → where to look, (N, 1, height, width)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv_1x1, self.bn_1x1 = nn.Conv2d(channels, width, 1), nn.BatchNorm2d(width)
        self.conv_3x3, self.bn_3x3 = nn.Conv2d(width, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.conv_1x3, self.bn_1x3 = nn.Conv2d(width, channels, (1, 3), padding=(0, 1)), nn.BatchNorm2d(channels)
        self.conv_3x1, self.bn_3x1 = nn.Conv2d(width, channels, (3, 1), padding=(1, 0)), nn.BatchNorm2d(channels)

    def forward(self, maps: Tensor) -> Tensor:
        thin = self.bn_1x1(self.conv_1x1(maps))
        wide = self.bn_3x3(self.conv_3x3(thin)) + self.bn_1x3(self.conv_1x3(thin)) + self.bn_3x1(self.conv_3x1(thin))
        return functional.relu(wide).sum(1, keepdim=True)


class ChannelAttention(nn.Module):
    """Pooled features (N, C) → a gate for each of them in 0..1."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.linear_reduce, self.bn = nn.Linear(channels, width), nn.BatchNorm1d(width)
        self.linear_expand = nn.Linear(width, channels)

    def forward(self, pooled: Tensor) -> Tensor:
        return torch.sigmoid(self.linear_expand(functional.relu(self.bn(self.linear_reduce(pooled)))))
