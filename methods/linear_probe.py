"""Linear probe: fit multinomial logistic regression to the features of a frozen backbone.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021), appendix
A.3; github.com/openai/CLIP. On raw features of un-augmented images, with a free bias, it minimises

    C * sum_n ce_n + ||W||^2 / 2

over strengths C from 1e-6 to 1e6: seven of them first, then four halvings of the step around the best, down to eight
per decade. The strength is chosen on the source's validation part, and the probe is fitted again to all training images
of the source.

Departures: strengths are compared by accuracy and, where it is equal, by cross-entropy (the paper does not specify
this). For the comparison alone they are solved roughly, in float32; the final fit is solved closely, in float64. The
solver is a preconditioned L-BFGS that starts from the previous strength's solution; the problem is convex, so the
solution is the same.

`criterion=loss` compares by cross-entropy alone. Accuracy on a few hundred images is in part chance: on real faces the
accuracy on unseen domains moved by 7 points between seeds. Accuracy stays the default, since it is the usual reading of
the paper and the numbers of earlier records.

Version 1 took the smallest C of a tie, which on a small validation set could predict the most common expression for
every image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from fergen_bench import EXPRESSIONS, Backbone, Context, Method, Source
from fergen_bench.training.logistic import best_strength, solve


@dataclass
class LinearProbe(Method):
    """The lower bound that every other method should exceed: the backbone is not trained."""

    version: ClassVar[int] = 2
    group: ClassVar[str] = "frozen features"
    needs: ClassVar[tuple[str, ...]] = ("features",)

    backbone: Backbone = "suite"  # the frozen encoder
    strength: float | None = None  # C; null: chosen on the source's validation part
    criterion: Literal["accuracy", "loss"] = "accuracy"  # of the choice; loss: the cross-entropy
    max_iterations: int = 1000  # most iterations of the solver in the final fit

    def fit(self, source: Source, ctx: Context) -> None:
        self.encoder = ctx.backbone(self.backbone)
        features, labels = ctx.features(self.encoder, source.train)
        strength = self.strength if self.strength is not None else self._choose(source, ctx)
        self.weight, self.bias = solve(features.double(), labels, len(EXPRESSIONS), strength, self.max_iterations)
        ctx.epoch_done(1, 1, log10_strength=torch.tensor(strength).log10().item())

    def _choose(self, source: Source, ctx: Context) -> float:
        """Return the strength that is best on held-out images of the source."""
        fit, val = ctx.features(self.encoder, source.fit), ctx.features(self.encoder, source.val)
        return best_strength(*fit, *val, len(EXPRESSIONS), by=self.criterion)

    def predict(self, images: Tensor) -> Tensor:
        return self.encoder(images).double() @ self.weight.T + self.bias
