"""RUL: mix the features of pairs of images by their relative uncertainty, and predict both labels from the mixture.

Source: Zhang, Wang and Deng, "Relative Uncertainty Learning for Facial Expression Recognition" (NeurIPS 2021);
github.com/zyh-uaiaaaa/Relative-Uncertainty-Learning at 63b73f2. The trunk's maps of a batch of N images before pooling
are F, and q is a permutation of the batch that is drawn in each step.

    branch(F) = BN(linear(dropout(BN(F))))
    u = mean over the 64 features of exp(s)
    x = (u m + u[q] m[q]) / (u + u[q])
    L = (ce(x W' + b, y) + ce(x W' + b, y[q])) / 2.

One branch computes m and another s, (N, 64) each; the inner BN is without weights. u is one number per image. In
prediction, x = m.

As in the released code, only the mixing weights, which are not detached, train the uncertainty (without a prior or a
divergence), and the more uncertain image gets the larger weight. s is batch-normalised, so it is relative to the batch.
An image may be paired with itself. The classifier learns ten times as fast as the rest.

Departures: the trunk is the suite's (released: a ResNet-18 with MS-Celeb-1M weights, which are not distributed any
more), and its map may have any size (released: 512 x 7 x 7). Images are mirrored, made noisy and erased at their stored
size, then resized. On a GPU the trunk runs in bfloat16 and the rest in float32. The last epoch or the best on held-out
images of the source is scored (released: the best on the test images).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, BenchError, Context, GradientMethod, SampleDraws, Trunk
from fergen_bench.training.augment import random_erase, random_flip_or_noise


@dataclass
class Rul(GradientMethod):
    """Uncertainty is learned by comparing images, and a network that has learned it need not fit doubtful labels."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "FER"
    static_step: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2e-3}}

    epochs: int = 60  # passes over the source
    batch_size: int = 64  # images per step
    learning_rate: float = 2e-4  # of the trunk and the two branches
    head_rate: float = 10.0  # the classifier's learning rate, as a multiple of the others'
    trunk: Trunk = "suite"  # the network that is trained
    embedding: int = 64  # width of both branches
    dropout: float = 0.4  # share of the map that is hidden from each branch in training
    changed: float = 0.5  # share of images that are either mirrored or get Gaussian noise of variance 30
    erasing: float = 0.5  # share of images in which a box is filled with the mean colour

    def build(self, ctx: Context) -> nn.Module:
        if not 0.0 <= self.dropout < 1.0:
            raise BenchError(f"dropout is {self.dropout}; it must be 0 or more and less than 1")
        trunk = ctx.backbone(self.trunk, trainable=True)
        self.mean = trunk.mean
        shape = trunk.map_shape()
        branches = {name: Branch(shape, self.embedding, self.dropout) for name in ("mu", "log_var")}
        return nn.ModuleDict({"trunk": trunk, **branches, "fc": nn.Linear(self.embedding, len(EXPRESSIONS))})

    def parameter_groups(self) -> Iterable[Any]:
        rest = [p for name, p in self.model.named_parameters() if not name.startswith("fc.")]
        return [
            {"params": rest},
            {"params": list(self.model["fc"].parameters()), "lr": self.head_rate * self.learning_rate},
        ]

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        return random_erase(random_flip_or_noise(images, draws, self.changed), draws, self.erasing, self.mean)

    def loss(self, batch: Batch) -> Tensor:
        maps = self.model["trunk"].feature_map(batch.images)
        shape, rate = maps.shape, self.dropout
        keep_mu, keep_log_var = (
            batch.drawn(name, lambda generator: torch.rand(shape, generator=generator) >= rate)
            for name in ("keep mu", "keep log_var")
        )
        partner = batch.drawn("partner", lambda generator: torch.randperm(shape[0], generator=generator))
        with torch.autocast(maps.device.type, enabled=False):
            maps = maps.float()
            mu, log_var = self.model["mu"](maps, keep_mu), self.model["log_var"](maps, keep_log_var)
            mixed = mixture(mu, uncertainty(log_var), partner)
            return pair_loss(self.model["fc"](mixed), batch.labels, partner)

    def logits(self, images: Tensor) -> Tensor:
        maps = self.model["trunk"].feature_map(images).float()
        logits: Tensor = self.model["fc"](self.model["mu"](maps))
        return logits


class Branch(nn.Module):
    """Embed a map: (N, C, height, width) → (N, width).

    Args:
        shape: C, height and width of the map.
        width: The width of the embedding.
        dropout: The share of the map that is hidden in training.
    """

    def __init__(self, shape: tuple[int, int, int], width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.bn2d = nn.BatchNorm2d(shape[0], eps=2e-5, affine=False)
        self.linear = nn.Linear(shape[0] * shape[1] * shape[2], width)
        self.bn1d = nn.BatchNorm1d(width, eps=2e-5)

    def forward(self, maps: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return the embedding of maps; `keep` is a dropout mask of their shape, and None applies no dropout."""
        visible = self.bn2d(maps)
        if keep is not None:
            visible = visible * keep / (1.0 - self.dropout)
        embedding: Tensor = self.bn1d(self.linear(visible.flatten(1)))
        return embedding


def uncertainty(log_var: Tensor) -> Tensor:
    """Return u, (N, 1), from s (N, width)."""
    return log_var.exp().mean(1, keepdim=True)


def mixing_weights(uncertain: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """Return the shares of each image and of its partner q (N,) in the mixture, (N, 1) each, from u (N, 1)."""
    both = uncertain + uncertain[partner]
    return uncertain / both, uncertain[partner] / both


def mixture(mu: Tensor, uncertain: Tensor, partner: Tensor) -> Tensor:
    """Return x: the embedding of each image, mixed with that of its partner.

    Args:
        mu: m, (N, width).
        uncertain: u, (N, 1).
        partner: q, int64 (N,).

    Returns:
        (N, width).
    """
    own, other = mixing_weights(uncertain, partner)
    return own * mu + other * mu[partner]


def pair_loss(logits: Tensor, labels: Tensor, partner: Tensor) -> Tensor:
    """Return L from logits (N, K), labels y (N,) and partners q (N,); each mixture has the labels of both images."""
    losses = functional.cross_entropy(logits, labels) + functional.cross_entropy(logits, labels[partner])
    return 0.5 * losses
