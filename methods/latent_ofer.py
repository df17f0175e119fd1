"""Latent-OFER (classifier only): attention heads on a face, joined with tokens of a frozen vision transformer.

Source: Lee, Lee and Yoo, "Latent-OFER: Detect, Mask, and Reconstruct with Latent Vectors for Occluded Facial Expression
Recognition" (ICCV 2023, arXiv 2307.11404); github.com/leeisack/Latent-OFER at c602a2e. Equations, for maps F of the
trunk before pooling, (N, C, height, width), tokens T of a frozen encoder, (N, places, D), and H heads:

    G = F * sigmoid(linear(relu(BN(linear(mean over space of F)))))                     channels first, then space
    m = sum over channels of relu(BN(conv 3x3 (t)) + BN(conv 1x3 (t)) + BN(conv 3x1 (t))),  t = BN(conv 1x1 (G))
    o_h = mean over space of G * m;  g = sum over heads of log softmax of o over the heads
    l = BN(linear(linear(BN(linear(linear(T at the chosen places))))))                  10000, 5000, 1024, 256 wide
    z = BN(linear(BN(linear(linear(g beside l)))))                                      256, 128, K wide; logits
    L = ce(z, y)

Classifier only: this is the last of the paper's four stages. The detection of occluded patches and their coarse
reconstruction were never released, and the fine reconstruction needs images that the coarse one writes, so faces are
taken as they are (as if none were occluded), and no row of a published table can be expected to come out.

What the released code does and this file keeps: no activation between linear layers; no affinity or partition loss;
the chosen places are a fixed list, 78 of 14 x 14, where the paper speaks of class activation maps; the image is
mirrored, turned, moved and erased while its tokens are those of the unchanged face.

Departures: tokens are those of any frozen encoder in their own width (released: files of 512 numbers per token, most
likely of a masked autoencoder's decoder), computed in each step instead of read; on another grid than 14 x 14 the
places are those whose centre lies in a place of the list; where the encoder is no vision transformer, the cells of its
last map stand for tokens. Widths of the linear layers are parameters. Layers start from torch's own initial values. The
trunk is the suite's (released: a ResNet-18 with MS-Celeb-1M weights, which nobody distributes any more). Faces are
changed at the size they are kept in, then resized; on a GPU the networks run in bfloat16, the encoder in fp16. The last
epoch or the best on held-out faces of the source is scored (released: the best on the test faces).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Batch, BenchError, Context, GradientMethod, SampleDraws, Trunk
from fergen_bench.training.attention import ChannelAttention, SpatialAttention
from fergen_bench.training.augment import erase, random_boxes, random_flip, random_turn_and_shift

GRID = 14
PLACES = frozenset(
    [(row, column) for row in range(3, 12) for column in range(3, 11)] + [(12, column) for column in range(3, 9)]
)
"""Rows and columns of the released list on a grid of 14 x 14."""


@dataclass
class LatentOfer(GradientMethod):
    """What a general encoder sees in the middle of a face helps where the face's own map is occluded."""

    version: ClassVar[int] = 1
    note: ClassVar[str] = "the classifier alone, the only one of four stages that was released in full"
    # The learning rate is not tuned for this method yet. Narrower layers, as the two networks are.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"spatial_width": 64, "latent_widths": (256, 128, 64, 64), "joint_widths": (128, 64)}
    }

    epochs: int = 60  # passes over the source
    batch_size: int = 128  # faces per step
    learning_rate: float = 0.1  # at the start
    optimizer: Literal["adam", "adamw", "sgd"] = "sgd"  # with momentum 0.9
    decay: float = 0.1  # of the exponential schedule
    decay_every: int = 10  # epochs between two steps of the exponential schedule
    trunk: Trunk = "suite"  # the network that is trained
    backbone: Backbone = "suite"  # the frozen encoder whose tokens are joined
    heads: int = 4  # attention heads
    spatial_width: int = 256  # channels between the convolutions of a head
    channel_width: int = 32  # width between the two layers of a head's channel attention
    latent_widths: tuple[int, ...] = (10000, 5000, 1024, 256)  # of the four linear layers on the tokens
    joint_widths: tuple[int, ...] = (256, 128)  # of the two linear layers before the last
    turning: float = (
        0.2  # share of faces that are turned by up to 20 degrees and moved by up to a seventh of their side
    )
    erasing: float = 0.5  # share of faces that get a box of mean colour

    def build(self, ctx: Context) -> nn.Module:
        for name, count in (("latent_widths", 4), ("joint_widths", 2)):
            widths = getattr(self, name)
            if len(widths) != count or min(widths) < 1:
                raise BenchError(f"{name} is {widths}; give {count} widths of 1 or more")
        trunk, self.encoder = ctx.backbone(self.trunk, trainable=True), ctx.backbone(self.backbone)
        self.mean = trunk.mean
        blank = torch.zeros(1, 3, self.encoder.size, self.encoder.size, device=self.mean.device)
        latent = self._latent(blank).shape[1]
        widths = (self.spatial_width, self.channel_width)
        classifier = Classifier(
            trunk.map_shape()[0], latent, self.heads, widths, self.latent_widths, self.joint_widths, len(EXPRESSIONS)
        )
        return nn.ModuleDict({"trunk": trunk, "classifier": classifier})

    def rate(self, step: int, steps_per_epoch: int) -> float:
        if self.schedule != "exponential":
            return super().rate(step, steps_per_epoch)
        return self.decay ** (step // (steps_per_epoch * self.decay_every))

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        images = random_turn_and_shift(random_flip(images, draws), draws, self.turning).float() / 255.0
        return erase(images, random_boxes(images.shape, draws, self.erasing), self.mean)

    def loss(self, batch: Batch) -> Tensor:
        return functional.cross_entropy(self._logits(batch.images, batch.faces), batch.labels)

    def logits(self, images: Tensor) -> Tensor:
        return self._logits(images, images)

    def _logits(self, images: Tensor, faces: Tensor) -> Tensor:
        logits: Tensor = self.model["classifier"](self.model["trunk"].feature_map(images), self._latent(faces))
        return logits.float()

    def _latent(self, faces: Tensor) -> Tensor:
        grid = self.encoder.patch_map(faces)
        places = torch.tensor(token_places(*grid.shape[2:]), device=grid.device)
        return select_tokens(grid.flatten(2).transpose(1, 2), places)


def token_places(rows: int, columns: int) -> list[int]:
    """Which tokens of a grid are used, row by row, without a class token."""
    return [
        row * columns + column
        for row in range(rows)
        for column in range(columns)
        if (int((row + 0.5) * GRID / rows), int((column + 0.5) * GRID / columns)) in PLACES
    ]


def select_tokens(tokens: Tensor, places: Tensor) -> Tensor:
    """The tokens at some places, one after the other: (N, tokens, D) → (N, places * D)."""
    return tokens[:, places].flatten(1)


class Head(nn.Module):
    """Attention over channels, then over space: (N, C, height, width) → (N, C)."""

    def __init__(self, channels: int, spatial_width: int, channel_width: int) -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, channel_width)
        self.spatial = SpatialAttention(channels, spatial_width)

    def forward(self, maps: Tensor) -> Tensor:
        gated = maps * self.channel(maps.mean((2, 3)))[:, :, None, None]
        return (gated * self.spatial(gated)).mean((2, 3))


class Classifier(nn.Module):
    """Everything behind the two networks: maps (N, C, height, width) and latent (N, places * D) → logits (N, K)."""

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
        super().__init__()
        self.count = heads
        for head in range(heads):
            self.add_module(f"head{head}", Head(channels, *head_widths))
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
        """(N, C)"""
        heads = torch.stack([self.get_submodule(f"head{head}")(maps) for head in range(self.count)], 1)
        return torch.log_softmax(heads, 1).sum(1)

    def forward(self, maps: Tensor, latent: Tensor) -> Tensor:
        latent = self.latent_bn1(self.latent_linear2(self.latent_linear1(latent)))
        latent = self.latent_bn2(self.latent_linear4(self.latent_linear3(latent)))
        joint = torch.cat([self.heads_summed(maps), latent], 1)
        joint = self.fuse_bn(self.fuse_linear2(self.fuse_linear1(joint)))
        logits: Tensor = self.out_bn(self.out_linear(joint))
        return logits
