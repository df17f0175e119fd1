"""RUL: features of pairs of faces are mixed by their relative uncertainty, and the mixture must be told for both faces.

Source: Zhang, Wang and Deng, "Relative Uncertainty Learning for Facial Expression Recognition" (NeurIPS 2021);
github.com/zyh-uaiaaaa/Relative-Uncertainty-Learning at 63b73f2. Equations, for a batch of N faces with maps F of the
trunk before pooling, and a permutation q of the batch drawn per step:

    branch(F) = BN(linear(dropout(BN(F))))         one for m, one for s, (N, 64) each; the inner BN has no weights
    u = mean over the 64 of exp(s)                 one number per face
    x = (u m + u[q] m[q]) / (u + u[q])             in training;  x = m when it predicts
    L = (ce(x W' + b, y) + ce(x W' + b, y[q])) / 2

What the released code does and this file keeps: nothing but the mixing weights, which are not detached, trains the
uncertainty (no prior, no divergence), and the more uncertain face gets the larger weight; s is batch-normalised, so it
is relative to the batch; a face may be paired with itself. The classifier learns ten times as fast as the rest.

Departures: the trunk is the suite's (released: a ResNet-18 with MS-Celeb-1M weights, which nobody distributes any
more), and its map may have any size (released: 512 x 7 x 7). Faces are mirrored, made noisy and erased at the size they
are kept in, then resized; on a GPU the trunk runs in bfloat16 and the rest in float32. The last epoch or the best on
held-out faces of the source is scored (released: the best on the test faces).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, BenchError, Context, GradientMethod, SampleDraws, Trunk
from fergen_bench.training.augment import erase, random_boxes, random_flip_or_noise


@dataclass
class Rul(GradientMethod):
    """How uncertain a face is shows against other faces, and a network that knows it need not fit the doubtful ones."""

    version: ClassVar[int] = 1
    repeats: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2e-3}}

    epochs: int = 60  # passes over the source
    batch_size: int = 64  # faces per step
    learning_rate: float = 2e-4  # of the trunk and the two branches
    head_rate: float = 10.0  # the classifier's learning rate, as a multiple of the others'
    trunk: Trunk = "suite"  # the network that is trained
    embedding: int = 64  # width of both branches
    dropout: float = 0.4  # share of the map that each branch does not see in training
    changed: float = 0.5  # share of faces that are either mirrored or get Gaussian noise of variance 30
    erasing: float = 0.5  # share of faces that get a box of mean colour

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
        images = random_flip_or_noise(images, draws, self.changed).float() / 255.0
        return erase(images, random_boxes(images.shape, draws, self.erasing), self.mean)

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
    """A map (N, C, height, width) → an embedding (N, width)."""

    def __init__(self, shape: tuple[int, int, int], width: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.bn2d = nn.BatchNorm2d(shape[0], eps=2e-5, affine=False)
        self.linear = nn.Linear(shape[0] * shape[1] * shape[2], width)
        self.bn1d = nn.BatchNorm1d(width, eps=2e-5)

    def forward(self, maps: Tensor, keep: Tensor | None = None) -> Tensor:
        """keep: which numbers of the map are seen, of its shape; all of them without it."""
        seen = self.bn2d(maps)
        if keep is not None:
            seen = seen * keep / (1.0 - self.dropout)
        embedding: Tensor = self.bn1d(self.linear(seen.flatten(1)))
        return embedding


def uncertainty(log_var: Tensor) -> Tensor:
    """(N, width) → (N, 1)."""
    return log_var.exp().mean(1, keepdim=True)


def mixing_weights(uncertain: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """The share of each face in its mixture, and of its partner, (N, 1) each. partner: int64 (N,)."""
    both = uncertain + uncertain[partner]
    return uncertain / both, uncertain[partner] / both


def mixture(mu: Tensor, uncertain: Tensor, partner: Tensor) -> Tensor:
    """Each face's embedding (N, width) mixed with its partner's."""
    own, other = mixing_weights(uncertain, partner)
    return own * mu + other * mu[partner]


def pair_loss(logits: Tensor, labels: Tensor, partner: Tensor) -> Tensor:
    """A mixture must be told for both of its faces."""
    losses = functional.cross_entropy(logits, labels) + functional.cross_entropy(logits, labels[partner])
    return 0.5 * losses
