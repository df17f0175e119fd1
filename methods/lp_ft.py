"""LP-FT: fit a linear probe first, then fine-tune every weight from its head.

Source: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (ICLR 2022);
github.com/AnanyaKumar/transfer_learning at 13c3e2b. Two stages:

1. Logistic regression on frozen features x of un-augmented images, normalised by one mean m and one deviation d over
   all their entries. Of 100 strengths C from 1e-7 to 1e2, each with at most 200 iterations from the previous solution,
   the most accurate on held-out images of the source is taken. The normalisation is folded back into the head:
   W <- W / d,  b <- b - m * (sum of W over features) / d. Expressions that the source lacks get a head of 0.
2. Every weight is trained with cross-entropy: SGD, momentum 0.9, no weight decay, cosine per epoch. The network stays
   in evaluation mode, so batch norm's statistics are those of pre-training throughout.

Departures: strengths are compared after a rough solution. The chosen one is solved closely, in float64, and with the
selection `last` on all training images of the source, since stage 2 learns from them. Of equally accurate strengths the
one with the smallest loss on the held-out images is taken (version 1: the smallest strength). The solver is that of
this project (the problem is convex). Noise, flip and erasing in stage 2 are those of full_finetune.py, so that the two
differ in the start and in batch norm. The learning rate was swept from 3e-7 to 1e-2 on held-out images; here it is a
parameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from fergen_bench import EXPRESSIONS, Backbone, Context, Network, NetworkMethod, Source
from fergen_bench.training.logistic import Problem, Score, held_out_score

EXPONENTS = (-7.0, 2.0)
"""The exponents of ten between which strengths are compared."""


@dataclass
class LpFt(NetworkMethod):
    """A head that already fits the features prevents the large first steps that would distort them."""

    version: ClassVar[int] = 2
    group: ClassVar[str] = "fine-tuning"
    static_step: ClassVar[bool] = True
    # The recipe of full_finetune.py for this backbone, learning rate included; not tuned for this method yet.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2.5e-4}}

    epochs: int = 20  # passes over the source in stage 2
    batch_size: int = 64  # images per step
    learning_rate: float = 1e-3  # highest value of the schedule in stage 2
    weight_decay: float = 0.0  # in stage 2
    optimizer: Literal["adam", "adamw", "sgd"] = "sgd"  # sgd has momentum 0.9
    schedule: Literal["exponential", "cosine", "constant"] = "cosine"  # cosine falls after each epoch, without warm-up
    backbone: Backbone = "suite"  # the network that is trained
    strength: float | None = None  # C of stage 1; null: chosen on the source's validation part
    strengths: int = 100  # number of strengths that are compared
    max_iterations: int = 200  # most iterations of the solver for each strength

    def fit(self, source: Source, ctx: Context) -> None:
        self.start = self._probe(source, ctx)
        super().fit(source, ctx)

    def build(self, ctx: Context) -> nn.Module:
        model = AlwaysEvaluating(*self.classifier(ctx, self.backbone))
        with torch.no_grad():
            for parameter, value in zip(model[1].parameters(), self.start, strict=True):
                parameter.copy_(value)
        return model

    def rate(self, step: int, steps_per_epoch: int) -> float:
        if self.schedule != "cosine":
            return super().rate(step, steps_per_epoch)
        return 0.5 * (1 + math.cos(math.pi * (step // steps_per_epoch) / self.epochs))

    def _probe(self, source: Source, ctx: Context) -> tuple[Tensor, Tensor]:
        """Return the head of stage 1: weight (7, features) and bias (7,)."""
        encoder = ctx.backbone(self.backbone)
        strength = self.strength if self.strength is not None else self._choose(encoder, source, ctx)
        features, labels = ctx.features(encoder, source.fit if ctx.selection == "source-val" else source.train)
        return Probe(features.double(), labels, len(EXPRESSIONS), self.max_iterations).head(strength)

    def _choose(self, encoder: Network, source: Source, ctx: Context) -> float:
        """Return the strength that is best on held-out images of the source."""
        probe = Probe(*ctx.features(encoder, source.fit), len(EXPRESSIONS), self.max_iterations)
        features, labels = ctx.features(encoder, source.val)
        scores: dict[float, Score] = {}
        for exponent in torch.linspace(*EXPONENTS, self.strengths).tolist():
            scores[10.0**exponent] = held_out_score(probe.head(10.0**exponent, tolerance=1e-4), features, labels)
        return max(scores, key=lambda strength: scores[strength])


class AlwaysEvaluating(nn.Sequential):
    """A sequence that stays in evaluation mode: batch norm and dropout act as in prediction during training."""

    def train(self, mode: bool = True) -> AlwaysEvaluating:
        super().train(False)
        return self


class Probe:
    """The regression of stage 1, solved for one strength after another, each from the previous solution.

    Args:
        features: (N, D).
        labels: int64 (N,).
        classes: K, the number of classes of the head.
        max_iterations: The most iterations of the solver for each strength.
    """

    def __init__(self, features: Tensor, labels: Tensor, classes: int, max_iterations: int) -> None:
        self.classes, self.max_iterations = classes, max_iterations
        self.mean, self.deviation = features.mean(), features.std(correction=0)
        self.present = labels.unique()
        normalised = (features - self.mean) / self.deviation
        self.problem = Problem(normalised, torch.searchsorted(self.present, labels), len(self.present))

    def head(self, strength: float, tolerance: float = 1e-8) -> tuple[Tensor, Tensor]:
        """Return weight (K, D) and bias (K,) for features before normalisation.

        Args:
            strength: C.
            tolerance: The largest remaining gradient, as a share of the gradient at zero weights.
        """
        weight, bias = self.problem.solve(strength, self.max_iterations, tolerance)
        weight, bias = folded(weight, bias, self.mean, self.deviation)
        whole_weight, whole_bias = weight.new_zeros(self.classes, weight.shape[1]), bias.new_zeros(self.classes)
        return whole_weight.index_copy(0, self.present, weight), whole_bias.index_copy(0, self.present, bias)


def folded(weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """Fold a normalisation into a head.

    Args:
        weight: Weight for normalised features, (K, D).
        bias: Bias for normalised features, (K,).
        mean: m, a scalar.
        deviation: d, a scalar.

    Returns:
        Weight and bias that return on x what the given ones return on (x - m) / d.
    """
    weight = weight / deviation
    return weight, bias - mean * weight.sum(1)
