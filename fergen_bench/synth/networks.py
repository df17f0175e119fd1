"""The two small networks that are pretrained for synth5. `pretrain.py` trains them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class ResidualBlock(nn.Module):
    """The basic block of He et al. (CVPR 2016), with a 1 x 1 shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output: (B, inputs, H, W) → (B, outputs, H / stride, W / stride)."""
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


def _conv(inputs: int, outputs: int, size: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def _stages(widths: tuple[int, int, int, int], blocks: tuple[int, int, int]) -> nn.Sequential:
    """Return a stem that quarters the image, then three stages of which the last two halve it: 64 x 64 → 16 → 8 → 4."""
    layers: list[nn.Module] = [_conv(3, widths[0], 3, 2), _conv(widths[0], widths[1], 3, 2)]
    inputs = widths[1]
    for stage, (width, count) in enumerate(zip(widths[1:], blocks, strict=True)):
        for block in range(count):
            layers.append(ResidualBlock(inputs, width, stride=2 if stage and not block else 1))
            inputs = width
    return nn.Sequential(*layers)


class FaceEncoder(nn.Module):
    """The frozen encoder of synth5 in the role of CLIP: (B, 3, 64, 64) → (B, 512), 1.9 million parameters.

    The last map is pooled to 2 x 2 and projected, which preserves the position of a feature. The output is signed, like
    that of CLIP.
    """

    features = 512
    size = 64

    def __init__(self) -> None:
        super().__init__()
        self.stages = _stages((24, 32, 96, 192), (1, 2, 2))
        self.project = nn.Linear(192 * 4, self.features)

    def feature_map(self, images: Tensor) -> Tensor:
        """Return the last map: (B, 3, 64, 64) → (B, 192, 4, 4)."""
        return self.stages(images)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images: (B, 3, 64, 64) → (B, 512)."""
        return self.project(functional.avg_pool2d(self.feature_map(images), 2).flatten(1))


class Trunk(nn.Module):
    """The trunk of synth5 in the role of a face-pretrained ResNet-18: (B, 3, 64, 64) → (B, 512), 0.38 M parameters.

    Like ResNet-18 it ends in a rectified map of 512 channels (`feature_map`) that is pooled over space, so its features
    are not negative.
    """

    features = 512
    size = 64

    def __init__(self) -> None:
        super().__init__()
        self.stages = _stages((16, 32, 64, 128), (1, 1, 1))
        self.expand = _conv(128, self.features, 1, 1)

    def feature_map(self, images: Tensor) -> Tensor:
        """Return the last map: (B, 3, 64, 64) → (B, 512, 4, 4)."""
        return self.expand(self.stages(images))

    def forward(self, images: Tensor) -> Tensor:
        """Return the features of images: (B, 3, 64, 64) → (B, 512)."""
        maps = self.feature_map(images)
        # The gradient of a mean over two dimensions is not in channels-last order, which slows the layers before it.
        return functional.avg_pool2d(maps, maps.shape[-2:]).flatten(1)


def normalise(faces: Tensor) -> Tensor:
    """Normalise images with values in 0..255 (uint8 or float) as for the training of both networks."""
    return (faces.float() - 127.5) / 64.0


MEAN, DEVIATION = 127.5 / 255.0, 64.0 / 255.0
"""The statistics of `normalise`, the same for each channel, for values in 0..1."""


def to_channels_last(network: nn.Module) -> nn.Module:
    """Store the weights of a network in channels-last order."""
    return network.to(memory_format=torch.channels_last)
