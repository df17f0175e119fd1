"""Latent-OFER (classifier only): join attention heads on a face with tokens of a frozen vision transformer.

Source: Lee, Lee and Yoo, "Latent-OFER: Detect, Mask, and Reconstruct with Latent Vectors for Occluded Facial Expression
Recognition" (ICCV 2023, arXiv 2307.11404); github.com/leeisack/Latent-OFER at c602a2e. The trunk's maps before pooling
are F (N, C, height, width), the tokens of a frozen encoder T (N, tokens, D), the H heads o_h and the logits z.

    G = F * sigmoid(linear(relu(BN(linear(mean over space of F)))))
    t = BN(conv 1x1 (G))
    m = sum over channels of relu(BN(conv 3x3 (t)) + BN(conv 1x3 (t)) + BN(conv 3x1 (t)))
    o_h = mean over space of G * m
    g = sum over heads of log softmax of o over the heads
    l = BN(linear(linear(BN(linear(linear(T at the selected positions))))))
    z = BN(linear(BN(linear(linear(g and l concatenated)))))
    L = ce(z, y).

The linear layers of l are 10000, 5000, 1024 and 256 wide, those of z 256, 128 and K.

The classifier is the last of the paper's four stages. The detection of occluded patches and their coarse reconstruction
were never released, and the fine reconstruction needs the images that the coarse one writes. Images are therefore used
unchanged, as if none were occluded, and a row of a published table cannot be expected to be reproduced.

As in the released code, linear layers follow each other without an activation, and affinity and partition losses are
absent. The selected positions are a fixed list, 78 of 14 x 14, where the paper describes class activation maps. The
image is mirrored, rotated, shifted and erased while its tokens are those of the unchanged image.

Departures: tokens are those of any frozen encoder in their own width (released: files of 512 numbers per token, most
likely of a masked autoencoder's decoder), computed in each step instead of read. On another grid than 14 x 14 the
selected positions are those whose centre lies in a position of the list. An encoder other than a vision transformer
provides the cells of its last map as tokens. Widths of the linear layers are parameters. Layers start from torch's own
initial values. The trunk is the suite's (released: a ResNet-18 with MS-Celeb-1M weights, which are not distributed any
more). Images are changed at their stored size, then resized. On a GPU the networks run in bfloat16, the encoder in
fp16. The last epoch or the best on held-out images of the source is scored (released: the best on the test images).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, AttentionMethod, Backbone, Batch, BenchError, Context
from fergen_bench.training.attention import ChannelAttention, HeadEnsemble, SpatialAttention

GRID = 14
"""Rows and columns of the released grid."""
SELECTED = frozenset(
    [(row, column) for row in range(3, 12) for column in range(3, 11)] + [(12, column) for column in range(3, 9)]
)
"""Row and column of each position of the released list."""


@dataclass
class LatentOfer(AttentionMethod):
    """A general encoder's tokens of the centre of a face help where the trunk's own map is occluded."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "FER"
    note: ClassVar[str] = "the classifier alone, the only one of four stages that was released in full"
    # The learning rate is the best of protocols/learning-rate.yaml on web and film. The layers are narrower, as the two
    # networks are.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"learning_rate": 4e-3, "latent_widths": (256, 128, 64, 64), "joint_widths": (128, 64)}
    }

    epochs: int = 60  # passes over the source
    batch_size: int = 128  # images per step
    backbone: Backbone = "suite"  # the frozen encoder of the tokens
    latent_widths: tuple[int, ...] = (10000, 5000, 1024, 256)  # widths of the four linear layers on the tokens
    joint_widths: tuple[int, ...] = (256, 128)  # widths of the two linear layers before the last

    def build(self, ctx: Context) -> nn.Module:
        for name, count in (("latent_widths", 4), ("joint_widths", 2)):
            widths = getattr(self, name)
            if len(widths) != count or min(widths) < 1:
                raise BenchError(f"{name} is {widths}; set it to {count} widths of 1 or more")
        trunk, self.encoder = self.fresh_trunk(ctx), ctx.backbone(self.backbone)
        blank = torch.zeros(1, 3, self.encoder.size, self.encoder.size, device=self.mean.device)
        latent = self._latent(blank).shape[1]
        widths = (self.spatial_width, self.channel_width)
        classifier = Classifier(
            trunk.map_shape()[0], latent, self.heads, widths, self.latent_widths, self.joint_widths, len(EXPRESSIONS)
        )
        return nn.ModuleDict({"trunk": trunk, "classifier": classifier})

    def loss(self, batch: Batch) -> Tensor:
        return functional.cross_entropy(self._logits(batch.images, batch.faces), batch.labels)

    def logits(self, images: Tensor) -> Tensor:
        return self._logits(images, images)

    def _logits(self, images: Tensor, faces: Tensor) -> Tensor:
        logits: Tensor = self.model["classifier"](self.model["trunk"].feature_map(images), self._latent(faces))
        return logits.float()

    def _latent(self, faces: Tensor) -> Tensor:
        grid = self.encoder.patch_map(faces)
        selected = torch.tensor(token_indices(*grid.shape[2:]), device=grid.device)
        return select_tokens(grid.flatten(2).transpose(1, 2), selected)


def token_indices(rows: int, columns: int) -> list[int]:
    """Return the indices of the selected tokens of a grid, row by row, without a class token."""
    return [
        row * columns + column
        for row in range(rows)
        for column in range(columns)
        if (int((row + 0.5) * GRID / rows), int((column + 0.5) * GRID / columns)) in SELECTED
    ]


def select_tokens(tokens: Tensor, selected: Tensor) -> Tensor:
    """Concatenate selected tokens.

    Args:
        tokens: T, (N, tokens, D).
        selected: Indices of tokens, int64 (M,).

    Returns:
        (N, M * D).
    """
    return tokens[:, selected].flatten(1)


class Head(nn.Module):
    """Attend to channels, then to positions: (N, C, height, width) → (N, C)."""

    def __init__(self, channels: int, spatial_width: int, channel_width: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, channel_width)
        self.spatial = SpatialAttention(channels, spatial_width)

    def forward(self, maps: Tensor) -> Tensor:
        gated = maps * self.channel(maps.mean((2, 3)))[:, :, None, None]
        return (gated * self.spatial(gated)).mean((2, 3))


class Classifier(HeadEnsemble):
    """The layers behind the two networks.

    They map features (N, C, height, width) and concatenated tokens (N, latent) to logits (N, K).

    Args:
        channels: C.
        latent: The number of features of the concatenated tokens.
        heads: H.
        head_widths: `spatial_width` and `channel_width` of each head.
        latent_widths: The widths of the four linear layers on the tokens.
        joint_widths: The widths of the two linear layers before the last.
        classes: K.
    """

    def __init__(
        self,
        channels: int,
        latent: int,
        heads: int,
        head_widths: tuple[int, int],
        latent_widths: tuple[int, ...],
        joint_widths: tuple[int, ...],
        classes: int,
    ) -> None:
        super().__init__(heads, lambda: Head(channels, *head_widths))
        first, second, third, fourth = latent_widths
        self.latent_linear1, self.latent_linear2 = nn.Linear(latent, first), nn.Linear(first, second)
        self.latent_bn1 = nn.BatchNorm1d(second)
        self.latent_linear3, self.latent_linear4 = nn.Linear(second, third), nn.Linear(third, fourth)
        self.latent_bn2 = nn.BatchNorm1d(fourth)
        first, second = joint_widths
        self.fuse_linear1, self.fuse_linear2 = nn.Linear(channels + fourth, first), nn.Linear(first, second)
        self.fuse_bn = nn.BatchNorm1d(second)
        self.out_linear, self.out_bn = nn.Linear(second, classes), nn.BatchNorm1d(classes)

    def heads_summed(self, maps: Tensor) -> Tensor:
        """Return g, (N, C)."""
        return torch.log_softmax(self.raw_heads(maps), 1).sum(1)

    def forward(self, maps: Tensor, latent: Tensor) -> Tensor:
        latent = self.latent_bn1(self.latent_linear2(self.latent_linear1(latent)))
        latent = self.latent_bn2(self.latent_linear4(self.latent_linear3(latent)))
        joint = torch.cat([self.heads_summed(maps), latent], 1)
        joint = self.fuse_bn(self.fuse_linear2(self.fuse_linear1(joint)))
        logits: Tensor = self.out_bn(self.out_linear(joint))
        return logits
