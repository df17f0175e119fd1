"""LP-FT: a linear probe first, then full fine-tuning that starts from its head.

Source: Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform Out-of-Distribution" (ICLR 2022);
github.com/AnanyaKumar/transfer_learning at 13c3e2b. Two stages:

1. Frozen features x of un-augmented faces, normalised by one mean m and one deviation d over all their entries;
   logistic regression at 100 strengths C from 1e-7 to 1e2 (at most 200 iterations each, each starting from the last),
   of which the most accurate on held-out faces of the source is taken. The normalisation is folded back into the head:
   W <- W / d,  b <- b - m * (sum of W over features) / d. Expressions that the source does not show get a head of 0.
2. Every weight is trained with cross-entropy: SGD, momentum 0.9, no weight decay, cosine per epoch. The network stays
   in evaluation mode, so batch norm's statistics are those of pre-training throughout.

Departures: strengths are compared after a rough solution; the chosen one is solved closely, in float64, and with the
selection `last` on all of the source's training faces, since that is what stage 2 learns from. Of equally accurate
strengths the smallest is taken. The solver is our own (the problem is convex). Noise, flip and erasing in stage 2 are
those of full_finetune.py, so that the start and batch norm are what differs. The learning rate was swept from 3e-7 to
1e-2 on held-out faces; here it is a parameter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Batch, Context, GradientMethod, Network, SampleDraws, Source
from fergen_bench.training.augment import erase, random_boxes, random_flip, random_noise
from fergen_bench.training.logistic import Problem

EXPONENTS = (-7.0, 2.0)


@dataclass
class LpFt(GradientMethod):
    """A head that fits the features already spares them the large first steps that distort them."""

    version: ClassVar[int] = 1
    repeats: ClassVar[bool] = True
    # The recipe of full_finetune.py for this backbone, learning rate included; not tuned for this method yet.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2.5e-4}}

    epochs: int = 20  # passes over the source in stage 2
    batch_size: int = 64  # faces per step
    learning_rate: float = 1e-3  # of stage 2, at its highest
    weight_decay: float = 0.0  # of stage 2
    optimizer: Literal["adam", "adamw", "sgd"] = "sgd"  # sgd has momentum 0.9
    schedule: Literal["exponential", "cosine", "constant"] = "cosine"  # cosine falls after each epoch, without warm-up
    backbone: Backbone = "suite"  # the network that is trained
    strength: float | None = None  # C of stage 1; chosen on the source's validation part when null
    strengths: int = 100  # how many are tried
    max_iterations: int = 200  # of the solver, for each
    noise: float = 0.5  # share of faces that get Gaussian noise of variance 30
    erasing: float = 0.5  # share of faces that get a box of mean colour

    def fit(self, source: Source, ctx: Context) -> None:
        self.start = self._probe(source, ctx)
        super().fit(source, ctx)

    def build(self, ctx: Context) -> nn.Module:
        self.network = ctx.backbone(self.backbone, trainable=True)
        model = AlwaysEvaluating(self.network, nn.Linear(self.network.features, len(EXPRESSIONS)))
        with torch.no_grad():
            for parameter, value in zip(model[1].parameters(), self.start, strict=True):
                parameter.copy_(value)
        return model

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        images = random_flip(random_noise(images, draws, self.noise), draws).float() / 255.0
        return erase(images, random_boxes(images.shape, draws, self.erasing), self.network.mean)

    def loss(self, batch: Batch) -> Tensor:
        return functional.cross_entropy(self.model(batch.images).float(), batch.labels)

    def rate(self, step: int, steps_per_epoch: int) -> float:
        if self.schedule != "cosine":
            return super().rate(step, steps_per_epoch)
        return 0.5 * (1 + math.cos(math.pi * (step // steps_per_epoch) / self.epochs))

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits

    def _probe(self, source: Source, ctx: Context) -> tuple[Tensor, Tensor]:
        """Stage 1: weight (7, features) and bias (7,)."""
        encoder = ctx.backbone(self.backbone)
        strength = self.strength if self.strength is not None else self._choose(encoder, source, ctx)
        features, labels = ctx.features(encoder, source.fit if ctx.selection == "source-val" else source.train)
        return Probe(features.double(), labels, len(EXPRESSIONS), self.max_iterations).head(strength)

    def _choose(self, encoder: Network, source: Source, ctx: Context) -> float:
        """The strength that is best on held-out faces of the source."""
        probe = Probe(*ctx.features(encoder, source.fit), len(EXPRESSIONS), self.max_iterations)
        features, labels = ctx.features(encoder, source.val)
        right: dict[float, float] = {}
        for exponent in torch.linspace(*EXPONENTS, self.strengths).tolist():
            weight, bias = probe.head(10.0**exponent, tolerance=1e-4)
            right[10.0**exponent] = float(((features @ weight.T + bias).argmax(1) == labels).sum())
        return max(right, key=lambda strength: right[strength])


class AlwaysEvaluating(nn.Sequential):
    """Evaluation mode for good: batch norm and dropout act as in prediction, and weights move all the same."""

    def train(self, mode: bool = True) -> AlwaysEvaluating:
        super().train(False)
        return self


class Probe:
    """Stage 1 on features (N, D) and labels (N,): heads at one strength after another, each starting from the last."""

    def __init__(self, features: Tensor, labels: Tensor, classes: int, max_iterations: int) -> None:
        self.classes, self.max_iterations = classes, max_iterations
        self.mean, self.deviation = features.mean(), features.std(correction=0)
        self.present = labels.unique()
        normalised = (features - self.mean) / self.deviation
        self.problem = Problem(normalised, torch.searchsorted(self.present, labels), len(self.present))

    def head(self, strength: float, tolerance: float = 1e-8) -> tuple[Tensor, Tensor]:
        """Weight (K, D) and bias (K,) for features as they are."""
        weight, bias = self.problem.solve(strength, self.max_iterations, tolerance)
        weight, bias = folded(weight, bias, self.mean, self.deviation)
        whole_weight, whole_bias = weight.new_zeros(self.classes, weight.shape[1]), bias.new_zeros(self.classes)
        return whole_weight.index_copy(0, self.present, weight), whole_bias.index_copy(0, self.present, bias)


def folded(weight: Tensor, bias: Tensor, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """The head on x that gives what (weight, bias) gives on (x - mean) / deviation; mean and deviation are scalars."""
    weight = weight / deviation
    return weight, bias - mean * weight.sum(1)
