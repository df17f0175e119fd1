"""Keep and train: pool a probe on frozen features with a fine-tuned encoder and a fine-tuned trunk.

A method of this project. Where the frozen features suit the source, a probe that keeps them generalises best; where
they do not, networks that are trained win. Which of the two holds is measured on held-out images of the source. Three
members predict log-probabilities log p_m(y | x) of an image x, and the logits are their weighted sum

    z(x) = sum over m of a_m * log p_m(. | x),    a_m in {0, 0.1, ..., 1}.

1. The probe: logistic regression on the frozen features of images and of their mirror images, with the strength C that
   has the smallest cross-entropy on held-out images (as even_probe.py).
2. The encoder: the same network with every weight fine-tuned; its head starts as the probe.
3. The trunk: the suite's face-pretrained network, fine-tuned with a new head.

Of all combinations, the shares a have the smallest cross-entropy on the held-out images of the source and their mirror
images. Their sum is free, so they calibrate the pool as well. Members 2 and 3 are trained in the same
steps, each with its own cross-entropy. Both learn from restyled images: mirrored, rotated by up to 15 degrees, scaled
and shifted, with other saturation, contrast, brightness and gamma, a quarter of them grey, half of them at a lower
resolution, some noisy, half of them with an erased box. Their weights, with batch norm's statistics, are averaged:

    theta_mean <- k * theta_mean + (1 - k) * theta,    k = min(averaging, (1 + step) / (10 + step)).

The averages are scored. With either selection the method learns from `source.fit`, because the shares are measured on
`source.val`; with `source-val` the epoch is selected there too. Score it with both views (`--views plain,mirror`).

The method was chosen by its accuracy on held-out images of the source, plain and corrupted, before any target was
looked at. docs/own-method.md has the rule, each variant that was tried, and the comparison with CAFE.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Batch, Context, NetworkMethod, SampleDraws, Source, Split, Trunk
from fergen_bench.training.augment import random_erase, random_noise
from fergen_bench.training.logistic import best_strength, solve

COARSE = (0.3, 0.45, 0.6, 0.8)
"""Shares of the side that images are reduced to, an eighth of the images each."""


@dataclass
class KeepAndTrain(NetworkMethod):
    """Kept features and trained networks err on different images, and held-out images show how far to rely on each."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "domain generalization"
    # Fewer epochs than other methods have, so that the training costs less than twice that of CAFE. The trunk's rate is
    # that of full_finetune.py with backbone=trunk; the encoder's is a first guess.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"epochs": 8, "learning_rate": 4e-3, "encoder_rate": 5e-4}}

    learning_rate: float = 2e-4  # of the trunk and its head, the highest of the schedule
    encoder_rate: float = 1e-5  # of the encoder and its head, the highest of the schedule
    backbone: Backbone = "suite"  # the encoder, frozen for the probe and fine-tuned as a member
    trunk: Trunk = "suite"  # the other network that is fine-tuned
    strength: float | None = None  # C of the probe; null: chosen on the source's validation part
    averaging: float = 0.98  # k: share of the mean weights that a step keeps
    style: float = 1.0  # factor on how far images are restyled

    def fit(self, source: Source, ctx: Context) -> None:
        self._start = self.probe = self._fit_probe(source, ctx)
        super().fit(replace(source, train=source.fit), ctx)
        self.shares = pool_shares(*self._held_out(source, ctx))

    def _fit_probe(self, source: Source, ctx: Context) -> tuple[Tensor, Tensor]:
        """Return weight (7, features) and bias (7,) of the probe."""
        encoder, classes = ctx.backbone(self.backbone), len(EXPRESSIONS)

        def both_views(split: Split) -> tuple[Tensor, Tensor]:
            plain, labels = ctx.features(encoder, split)
            mirror, _ = ctx.features(encoder, split, view="mirror")
            return torch.cat([plain, mirror]), labels.repeat(2)

        features, labels = both_views(source.fit)
        strength = self.strength
        if strength is None:
            strength = best_strength(features, labels, *both_views(source.val), classes, by="loss")
        weight, bias = solve(features.double(), labels, classes, strength)
        return weight.float(), bias.float()

    def _held_out(self, source: Source, ctx: Context) -> tuple[Tensor, Tensor]:
        """Return the members' log-probabilities (3, 2 N, 7) of held-out images and mirror images, and labels (2 N,)."""
        images = [batch for batch in source.val.batches(ctx.device, 256)]
        views = [*images, *(batch.flip(3) for batch in images)]
        with torch.no_grad():
            told = torch.cat([self._members(view) for view in views], 1)
        return told, torch.from_numpy(source.val.labels).to(ctx.device).repeat(2)

    def build(self, ctx: Context) -> nn.Module:
        self.encoder = ctx.backbone(self.backbone)
        self.network = ctx.backbone(self.trunk, trainable=True)
        encoder = ctx.backbone(self.backbone, trainable=True)
        head = nn.Linear(encoder.features, len(EXPRESSIONS))
        members = nn.ModuleDict(
            {
                "encoder": nn.Sequential(encoder, head),
                "trunk": nn.Sequential(self.network, nn.Linear(self.network.features, len(EXPRESSIONS))),
            }
        )
        if hasattr(self, "_start"):  # a checkpoint is opened without it
            with torch.no_grad():
                for parameter, value in zip(head.parameters(), self._start, strict=True):
                    parameter.copy_(value)
        self.shares = torch.full((3,), 1 / 3, device=ctx.device)  # while the networks are trained
        return nn.ModuleDict({"trained": members, "mean": copy.deepcopy(members).requires_grad_(False)})

    def parameter_groups(self) -> Iterable[Any]:
        trained = self.model["trained"]
        return [
            {"params": [*trained["encoder"].parameters()], "lr": self.encoder_rate},
            {"params": [*trained["trunk"].parameters()], "lr": self.learning_rate},
        ]

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        images = random_noise(restyled(images, draws, self.style), draws, self.noise / 2)
        return random_erase(images, draws, self.erasing, self.network.mean)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        return {
            name: functional.cross_entropy(self.adjusted(member(batch.images).float()), batch.labels)
            for name, member in self.model["trained"].items()
        }

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> Mapping[str, Tensor]:
        terms = super().update(batch, optimizer, ctx)
        average(self.model["mean"], self.model["trained"], min(self.averaging, (1 + batch.step) / (10 + batch.step)))
        return terms

    def _members(self, images: Tensor) -> Tensor:
        """Return the log-probabilities of the probe, the encoder and the trunk, (3, B, 7)."""
        weight, bias = self.probe
        logits = [self.encoder(images) @ weight.T + bias, *(member(images) for member in self.model["mean"].values())]
        return torch.stack([part.float().log_softmax(1) for part in logits])

    def logits(self, images: Tensor) -> Tensor:
        return torch.einsum("m,mbk->bk", self.shares, self._members(images))

    def inspect(self, images: Tensor) -> dict[str, Tensor]:
        """Return the share of each member, the same for all images, (B, 3)."""
        return {"share": self.shares.expand(len(images), 3)}


def pool_shares(log_probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the shares, multiples of a tenth, whose pool has the smallest cross-entropy.

    Args:
        log_probabilities: Of each member, (M, N, K).
        labels: int64 (N,).

    Returns:
        float32 (M,), each from 0 to 1. Of equal pools the first is taken, in which later members have smaller shares.
    """
    tenths = [tenth / 10 for tenth in range(11)]
    grid = torch.tensor(list(itertools.product(tenths, repeat=len(log_probabilities))))[1:].to(log_probabilities)
    losses = [functional.cross_entropy(torch.einsum("m,mnk->nk", row, log_probabilities), labels) for row in grid]
    return grid[int(torch.stack(losses).argmin())]


@torch.no_grad()
def average(mean: nn.Module, trained: nn.Module, keep: float) -> None:
    """Move each number of a module's state towards that of another; integers (counters) are copied.

    Args:
        mean: The module that is changed.
        trained: A module of the same form.
        keep: The share of the present value that remains.
    """
    for old, new in zip(mean.state_dict().values(), trained.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


def restyled(images: Tensor, draws: SampleDraws, style: float = 1.0) -> Tensor:
    """Change place, colour and resolution of each image at random.

    Args:
        images: uint8 (B, 3, height, width).
        draws: The images' random numbers.
        style: Factor on the ranges of all changes but mirroring, grey, saturation and resolution.

    Returns:
        uint8 images of the same shape.
    """
    moved = _moved(images.float() / 255.0, draws, style)
    recoloured = _recoloured(moved, draws, style)
    return (_coarse(recoloured, draws) * 255.0).round().to(torch.uint8)


def _spread(draws: SampleDraws, name: str, most: float) -> Tensor:
    """Return numbers between -most and most, (B,)."""
    return (2 * draws.uniform(name) - 1) * most


def _moved(images: Tensor, draws: SampleDraws, style: float) -> Tensor:
    angle = _spread(draws, "angle", math.radians(15) * style)
    scale = 1 + _spread(draws, "scale", 0.15 * style)
    side = torch.where(draws.chance("flip", 0.5), -1.0, 1.0)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    across = torch.stack([cos * side, -sin, _spread(draws, "dx", 0.12 * style)], 1)
    down = torch.stack([sin * side, cos, _spread(draws, "dy", 0.12 * style)], 1)
    grid = functional.affine_grid(torch.stack([across, down], 1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, "bilinear", "border", align_corners=False)


def _recoloured(images: Tensor, draws: SampleDraws, style: float) -> Tensor:
    grey = images.mean(1, keepdim=True)
    saturation = torch.where(draws.chance("grey", 0.25), 0.0, 0.5 + draws.uniform("saturation"))
    images = grey + _each(saturation) * (images - grey)
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * _each(_spread(draws, "contrast", 0.5 * style).exp())
    images = images + _each(_spread(draws, "brightness", 0.25 * style))
    return images.clamp(0.0, 1.0) ** _each(_spread(draws, "gamma", 0.4 * style).exp())


def _coarse(images: Tensor, draws: SampleDraws) -> Tensor:
    """Reduce half of the images to one of the sizes of COARSE, and enlarge them again."""
    side = list(images.shape[2:])
    chosen = (draws.uniform("resolution") * 2 * len(COARSE)).long()
    for number, share in enumerate(COARSE):
        rows = (chosen == number).nonzero()[:, 0]
        if len(rows):
            small = [max(2, round(length * share)) for length in side]
            coarse = functional.interpolate(images[rows], small, mode="bilinear", antialias=True, align_corners=False)
            images[rows] = functional.interpolate(coarse, side, mode="bilinear", align_corners=False)
    return images


def _each(values: Tensor) -> Tensor:
    return values[:, None, None, None]
