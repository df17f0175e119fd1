"""MEK: make an image and its mirror image agree on where rare expressions appear, and smooth labels towards them.

Source: Zhang et al., "Leave No Stone Unturned: Mine Extra Knowledge for Imbalanced Facial Expression Recognition"
(NeurIPS 2023); the equations are those of github.com/zyh-uaiaaaa/Mine-Extra-Knowledge at 2ec823d, which lacks a
licence; this file is written from a description of them. Expression k has n_k of the N images of the source. The tokens
t are the normalised positions (layer norm over channels) of the last map of an image, t' those of its mirror image. The
head has the weight W and the bias b.

    w_k = N / (10 n_k)
    A_k(position) = W_k t(position), with W detached and without b;  A' likewise from t'
    C = mean over images of  sum over k of  w_k * mean over positions of (A_k - mirrored(A'_k))^2
    label of an image of y:  0.7 for y, and 0.3 among the others in proportion to w
    L = ce(mean over positions of t times W' + b, label) + 0.1 C.

C is a sum over expressions, not a mean. The first view alone is classified, and the gradient of C reaches the tokens of
both. The second view is the exact mirror image of the finished first one. AdamW has a warm-up and a cosine schedule,
and gradients are clipped at norm 5.

Departures: the released code has the w of RAF-DB as constants for every dataset; here they are those of the source, and
0 for an expression that it lacks. The trunk is the suite's, with a new layer norm (released: a Swin-T that was trained
on face recognition, with its own last norm). The trunk sees the two views one after the other. Images get the noise,
mirroring and box of full_finetune.py (released: mirroring, RandAugment and a box of noise). The warm-up takes a tenth
of the steps, and the schedule ends at 0 (released: 2000 of 60000 steps, and a hundredth of the rate). The default of
156 epochs is 60000 steps on RAF-DB. The last epoch or the best on held-out images of the source is scored (released:
test images are evaluated every 1000 steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, BenchError, Context, Inputs, Split, TrunkMethod


@dataclass
class Mek(TrunkMethod):
    """Frequent expressions contain knowledge about rare ones, in their maps and as a share of their labels."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "FER"
    static_step: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml on web and film.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    epochs: int = 156  # passes over the source
    learning_rate: float = 3.125e-5  # highest value of the schedule
    weight_decay: float = 0.05  # decoupled with adamw
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"  # sgd has momentum 0.9
    schedule: Literal["exponential", "cosine", "constant"] = "cosine"  # cosine: warm-up over a tenth, then to 0
    consistency: float = 0.1  # weight of C
    smoothing: float = 0.3  # share of a label that the other expressions get
    clip: float = 5.0  # largest norm of the gradient over all weights

    def build(self, ctx: Context) -> nn.Module:
        if not 0 <= self.smoothing < 1:
            raise BenchError(f"mek: smoothing is {self.smoothing:g}; it must be 0 or more, and less than 1")
        self.network = ctx.backbone(self.trunk, trainable=True)
        channels = self.network.map_shape()[0]
        return nn.ModuleDict(
            {"trunk": self.network, "norm": nn.LayerNorm(channels), "head": nn.Linear(channels, len(EXPRESSIONS))}
        )

    def inputs(self, split: Split, ctx: Context) -> Inputs:
        self.weights = balance_weights(torch.from_numpy(split.counts)).float().to(ctx.device)
        return super().inputs(split, ctx)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        norm, head = self.model["norm"], self.model["head"]
        maps = self.network.feature_map(batch.images).float()  # the first view updates the running statistics first
        mirrored = self.network.feature_map(batch.images.flip(3)).float()
        with torch.autocast(maps.device.type, enabled=False):
            first, second = tokens_of(maps, norm), tokens_of(mirrored, norm)
            logits = self.adjusted(token_logits(first, head.weight, head.bias))
            distances = consistency(
                activation_maps(first, head.weight, maps.shape[2:]),
                activation_maps(second, head.weight, maps.shape[2:]),
                self.weights,
            )
            return {
                "classification": soft_loss(logits, smooth_labels(batch.labels, self.weights, self.smoothing)),
                "consistency": self.consistency * distances.mean(),
            }

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> dict[str, Tensor]:
        terms = self.descend(batch, optimizer, ctx)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        optimizer.step()
        return terms

    def logits(self, images: Tensor) -> Tensor:
        maps, head = self.network.feature_map(images).float(), self.model["head"]
        with torch.autocast(maps.device.type, enabled=False):
            return token_logits(tokens_of(maps, self.model["norm"]), head.weight, head.bias)


def balance_weights(counts: Tensor) -> Tensor:
    """Return w, float64 (K,), from the images of each expression, (K,)."""
    counts = counts.double()
    return torch.where(counts > 0, counts.sum() / (10 * counts.clamp_min(1)), 0.0)


def tokens_of(maps: Tensor, norm: nn.Module) -> Tensor:
    """Return the normalised positions of maps (N, C, height, width), row by row: (N, height * width, C)."""
    tokens: Tensor = norm(maps.flatten(2).transpose(1, 2))
    return tokens


def token_logits(tokens: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Classify the mean of normalised tokens over positions: (N, positions, C) → (N, K)."""
    return functional.linear(tokens.mean(1), weight, bias)


def activation_maps(tokens: Tensor, weight: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return A, (N, K, height, width), without a gradient for the weight.

    Args:
        tokens: Normalised tokens, row by row, (N, height * width, C).
        weight: W, (K, C).
        size: height and width.
    """
    return (tokens @ weight.detach().T).transpose(1, 2).unflatten(2, size)


def consistency(first: Tensor, second: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted distance of each image's maps to the mirrored maps of its mirror image.

    Args:
        first: A, (N, K, height, width).
        second: A', (N, K, height, width).
        weights: w, (K,).

    Returns:
        (N,).
    """
    return (first - second.flip(3)).square().mean((2, 3)) @ weights


def smooth_labels(labels: Tensor, weights: Tensor, smoothing: float) -> Tensor:
    """Return the shares of each expression in the label of each image.

    Args:
        labels: int64 (N,).
        weights: w, (K,).
        smoothing: Share of the expressions other than the label.

    Returns:
        (N, K); each row sums to 1 where another expression has a weight.
    """
    own = functional.one_hot(labels, len(weights)).to(weights)
    others = (1 - own) * weights
    shares = others / others.sum(1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
    return (1 - smoothing) * own + smoothing * shares


def soft_loss(logits: Tensor, shares: Tensor) -> Tensor:
    """Return the mean cross-entropy of logits (N, K) with labels that are shares, (N, K)."""
    return functional.cross_entropy(logits, shares)
