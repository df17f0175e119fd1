"""DAN: several attention heads on one map, pushed apart from each other, and features drawn to centres per expression.

Source: Wen, Lin, Wang and Xu, "Distract Your Attention: Multi-head Cross Attention Network for Facial Expression
Recognition" (Biomimetics 2023, arXiv 2109.07270); github.com/yaoing/DAN at 3872eef. Equations, for maps F of the trunk
before pooling, (N, C, height, width), with f their mean over space, and H heads:

    t = BN(conv 1x1 (F)),  m = sum over channels of relu(BN(conv 3x3 (t)) + BN(conv 1x3 (t)) + BN(conv 3x1 (t)))
    a = mean over space of F * m,  o_h = a * sigmoid(linear(relu(BN(linear(a)))))        space first, then channels
    g = log softmax of o over the heads;  z = BN(linear(sum over heads of g))            logits
    L_affinity  = mean over n of |f_n - c[y_n]|^2 / (sum over dimensions of the variance over the centres c)
    L_partition = log(1 + H / mean over n and dimensions of the variance of g over the heads)
    L = ce(z, y) + L_affinity + L_partition

What the released code does and this file keeps: the centres are drawn from N(0, 1) and trained by the same optimiser,
weight decay included, also through the variance in the denominator; there are 8 centres for 7 expressions, and the
unused one counts in the variance (`centres=7` has none such); the variances of both losses divide by n - 1; logits are
batch-normalised, so predictions depend on running statistics of the source; with one head there is neither a softmax
over heads nor L_partition.

Departures: the recipe is that of RAF-DB for every source (AffectNet has another augmentation and class-balanced batches
in the released code). A clamp of distances at 1e-12 is left out. The trunk is the suite's (released: a ResNet-18 with
MS-Celeb-1M weights, which nobody distributes any more). Faces are mirrored, turned, moved and erased at the size they
are kept in, then resized; on a GPU the trunk and the heads run in bfloat16, the losses in float32. The last epoch or
the best on held-out faces of the source is scored (released: the best on the test faces).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, BenchError, Context, GradientMethod, SampleDraws, Trunk
from fergen_bench.training.attention import ChannelAttention, SpatialAttention
from fergen_bench.training.augment import erase, random_boxes, random_flip, random_turn_and_shift

TINY = 2.220446049250313e-16  # of float64, whatever the precision


@dataclass
class Dan(GradientMethod):
    """An expression shows in several regions at once, and one attention map sees one of them."""

    version: ClassVar[int] = 1
    repeats: ClassVar[bool] = True
    # The learning rate is the best of the three lowest of
    # protocols/learning-rate.yaml. The heads are narrower, as the trunk is.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2e-3, "spatial_width": 64}}

    epochs: int = 40  # passes over the source
    batch_size: int = 256  # faces per step
    learning_rate: float = 0.1  # at the start
    optimizer: Literal["adam", "adamw", "sgd"] = "sgd"  # with momentum 0.9
    decay: float = 0.1  # of the exponential schedule
    decay_every: int = 10  # epochs between two steps of the exponential schedule
    trunk: Trunk = "suite"  # the network that is trained
    heads: int = 4  # attention heads
    spatial_width: int = 256  # channels between the convolutions of a head
    channel_width: int = 32  # width between the two layers of a head's channel attention
    centres: int = 8  # of the affinity loss; one more than there are expressions, as released
    affinity: float = 1.0  # weight of L_affinity
    partition: float = 1.0  # weight of L_partition
    turning: float = (
        0.2  # share of faces that are turned by up to 20 degrees and moved by up to a seventh of their side
    )
    erasing: float = 0.5  # share of faces that get a box of mean colour

    def build(self, ctx: Context) -> nn.Module:
        if self.centres < len(EXPRESSIONS):
            raise BenchError(
                f"centres is {self.centres}; give one to each of the {len(EXPRESSIONS)} expressions, or more"
            )
        if self.heads < 1:
            raise BenchError(f"heads is {self.heads}; it must be 1 or more")
        trunk = ctx.backbone(self.trunk, trainable=True)
        self.mean = trunk.mean
        channels, _, _ = trunk.map_shape()
        attention = CrossAttention(channels, self.heads, self.spatial_width, self.channel_width, len(EXPRESSIONS))
        attention.apply(_initialise)
        centres = nn.ParameterDict({"centres": nn.Parameter(torch.randn(self.centres, channels))})
        return nn.ModuleDict({"trunk": trunk, "attention": attention, "criterion": centres})

    def rate(self, step: int, steps_per_epoch: int) -> float:
        if self.schedule != "exponential":
            return super().rate(step, steps_per_epoch)
        return self.decay ** (step // (steps_per_epoch * self.decay_every))

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        images = random_turn_and_shift(random_flip(images, draws), draws, self.turning).float() / 255.0
        return erase(images, random_boxes(images.shape, draws, self.erasing), self.mean)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        maps = self.model["trunk"].feature_map(batch.images)
        logits, heads = self.model["attention"](maps)
        return self.terms(maps.float(), logits.float(), heads.float(), self.model["criterion"]["centres"], batch.labels)

    def terms(self, maps: Tensor, logits: Tensor, heads: Tensor, centres: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The weighted terms of L. maps: (N, C, height, width), logits: (N, K), heads: (N, H, C), centres: (≥ K, C)."""
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
    """Attention over space, then over channels: (N, C, height, width) → (N, C)."""

    def __init__(self, channels: int, spatial_width: int, channel_width: int) -> None:
        super().__init__()
        self.spatial = SpatialAttention(channels, spatial_width)
        self.channel = ChannelAttention(channels, channel_width)

    def forward(self, maps: Tensor) -> Tensor:
        pooled = (maps * self.spatial(maps)).mean((2, 3))
        return pooled * self.channel(pooled)


class CrossAttention(nn.Module):
    """Everything behind the trunk: (N, C, height, width) → logits (N, K), and heads (N, H, C) after the softmax over
    heads.
    """

    def __init__(self, channels: int, heads: int, spatial_width: int, channel_width: int, classes: int) -> None:
        super().__init__()
        self.count = heads
        for head in range(heads):
            self.add_module(f"head{head}", Head(channels, spatial_width, channel_width))
        self.out_linear, self.out_bn = nn.Linear(channels, classes), nn.BatchNorm1d(classes)

    def raw_heads(self, maps: Tensor) -> Tensor:
        """(N, H, C), before the softmax."""
        return torch.stack([self.get_submodule(f"head{head}")(maps) for head in range(self.count)], 1)

    def forward(self, maps: Tensor) -> tuple[Tensor, Tensor]:
        heads = self.raw_heads(maps)
        if self.count > 1:
            heads = torch.log_softmax(heads, 1)
        return self.out_bn(self.out_linear(heads.sum(1))), heads


def _initialise(module: nn.Module) -> None:
    """As released: He's for convolutions (by outputs), nearly zero for linear layers, no biases."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    elif isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.001)
    if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


def affinity_loss(features: Tensor, centres: Tensor, labels: Tensor) -> Tensor:
    """Squared distance of features (N, C) to their expression's centre, over the spread of all centres (≥ K, C)."""
    return (features - centres[labels]).pow(2).sum(1).mean() / centres.var(0).sum()


def partition_loss(heads: Tensor) -> Tensor:
    """Small where heads differ. heads: (N, H, C) after the softmax over heads."""
    return torch.log1p(heads.shape[1] / (heads.var(1).mean() + TINY))
