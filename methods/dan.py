"""DAN: push several attention heads on one feature map apart, and pull features towards a centre per expression.

Source: Wen, Lin, Wang and Xu, "Distract Your Attention: Multi-head Cross Attention Network for Facial Expression
Recognition" (Biomimetics 2023, arXiv 2109.07270); github.com/yaoing/DAN at 3872eef. The trunk's maps before pooling are
F (N, C, height, width), with the mean f over space. The H heads are o_h, the logits z and the centres c.

    t = BN(conv 1x1 (F))
    m = sum over channels of relu(BN(conv 3x3 (t)) + BN(conv 1x3 (t)) + BN(conv 3x1 (t)))
    a = mean over space of F * m
    o_h = a * sigmoid(linear(relu(BN(linear(a)))))
    g = log softmax of o over the heads
    z = BN(linear(sum over heads of g))
    L_affinity  = mean over n of |f_n - c[y_n]|^2 / (sum over dimensions of the variance over the centres c)
    L_partition = log(1 + H / mean over n and dimensions of the variance of g over the heads)
    L = ce(z, y) + L_affinity + L_partition.

As in the released code, the centres are drawn from N(0, 1) and trained by the same optimiser, with weight decay, and
also through the variance in the denominator. There are 8 centres for 7 expressions, and the unused one counts in the
variance (`centres=7` avoids it). The variances of both losses divide by n - 1. Logits are batch-normalised, so
predictions depend on running statistics of the source. With one head, the softmax over heads and L_partition are left
out.

Departures: the recipe is that of RAF-DB for every source (for AffectNet the released code has another augmentation and
class-balanced batches). A clamp of distances at 1e-12 is left out. The trunk is the suite's (released: a ResNet-18 with
MS-Celeb-1M weights, which are not distributed any more). Images are mirrored, rotated, shifted and erased at their
stored size, then resized. On a GPU the trunk and the heads run in bfloat16, the losses in float32. The last epoch or
the best on held-out images of the source is scored (released: the best on the test images).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, AttentionMethod, Batch, BenchError, Context
from fergen_bench.training.attention import ChannelAttention, HeadEnsemble, SpatialAttention

TINY = 2.220446049250313e-16
"""The machine epsilon of float64, used in every precision."""


@dataclass
class Dan(AttentionMethod):
    """An expression appears in several regions of the face at once, and one attention map covers only one of them."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "FER"
    static_step: ClassVar[bool] = True
    # The learning rate is the best of the three lowest of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2e-3}}

    epochs: int = 40  # passes over the source
    batch_size: int = 256  # images per step
    centres: int = 8  # number of centres of the affinity loss; one more than expressions, as released
    affinity: float = 1.0  # weight of L_affinity
    partition: float = 1.0  # weight of L_partition

    def build(self, ctx: Context) -> nn.Module:
        if self.centres < len(EXPRESSIONS):
            raise BenchError(f"centres is {self.centres}; set it to {len(EXPRESSIONS)}, one per expression, or more")
        if self.heads < 1:
            raise BenchError(f"heads is {self.heads}; it must be 1 or more")
        trunk = self.fresh_trunk(ctx)
        channels, _, _ = trunk.map_shape()
        attention = CrossAttention(channels, self.heads, self.spatial_width, self.channel_width, len(EXPRESSIONS))
        attention.apply(_initialise)
        centres = nn.ParameterDict({"centres": nn.Parameter(torch.randn(self.centres, channels))})
        return nn.ModuleDict({"trunk": trunk, "attention": attention, "criterion": centres})

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        maps = self.model["trunk"].feature_map(batch.images)
        logits, heads = self.model["attention"](maps)
        return self.terms(maps.float(), logits.float(), heads.float(), self.model["criterion"]["centres"], batch.labels)

    def terms(self, maps: Tensor, logits: Tensor, heads: Tensor, centres: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms of L.

        Args:
            maps: F, (N, C, height, width).
            logits: z, (N, K).
            heads: g, (N, H, C).
            centres: c, at least K of them, (M, C).
            labels: int64 (N,).

        Returns:
            The scalars `classification`, `affinity` and, with several heads, `partition`.
        """
        terms = {
            "classification": functional.cross_entropy(logits, labels),
            "affinity": self.affinity * affinity_loss(maps.mean((2, 3)), centres, labels),
        }
        if heads.shape[1] > 1:
            terms["partition"] = self.partition * partition_loss(heads)
        return terms

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model["attention"](self.model["trunk"].feature_map(images))[0]
        return logits.float()


class Head(nn.Module):
    """Attend to positions, then to channels: (N, C, height, width) → (N, C)."""

    def __init__(self, channels: int, spatial_width: int, channel_width: int) -> None:
        super().__init__()
        self.spatial = SpatialAttention(channels, spatial_width)
        self.channel = ChannelAttention(channels, channel_width)

    def forward(self, maps: Tensor) -> Tensor:
        pooled = (maps * self.spatial(maps)).mean((2, 3))
        return pooled * self.channel(pooled)


class CrossAttention(HeadEnsemble):
    """The layers behind the trunk: attention heads and a linear classifier.

    It maps features (N, C, height, width) to logits (N, K) and to the heads' outputs g (N, H, C).

    Args:
        channels: C.
        heads: H.
        spatial_width: The channels between the convolutions of a head.
        channel_width: The width between the two layers of a head's channel attention.
        classes: K.
    """

    def __init__(self, channels: int, heads: int, spatial_width: int, channel_width: int, classes: int) -> None:
        super().__init__(heads, lambda: Head(channels, spatial_width, channel_width))
        self.out_linear, self.out_bn = nn.Linear(channels, classes), nn.BatchNorm1d(classes)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        heads = self.raw_heads(maps)
        if self.count > 1:
            heads = torch.log_softmax(heads, 1)
        return self.out_bn(self.out_linear(heads.sum(1))), heads


def _initialise(module: nn.Module) -> None:
    """Initialise as released: He's method by outputs for convolutions, near zero for linear layers, biases 0."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.001)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def affinity_loss(features: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """Return L_affinity.

    Args:
        features: f, (N, C).
        centres: c, at least one per expression, (M, C).
        labels: int64 (N,).

    Returns:
        A scalar.
    """
    return (features - centres[labels]).pow(2).sum(1).mean() / centres.var(0).sum()


def partition_loss(heads: Tensor) -> Tensor:
    """Return L_partition, which is small where the heads g (N, H, C) differ."""
    return torch.log1p(heads.shape[1] / (heads.var(1).mean() + TINY))
