"""SAR: minimise the entropy of reliable test images towards a flat minimum, and recover from a collapse.

Source: Niu et al., "Towards Stable Test-Time Adaptation in Dynamic Wild World" (ICLR 2023), as released in
github.com/mr-eggplant/SAR at 20f6e24. w are the scales and shifts of the normalisation layers, H the entropy of a
prediction in nats, K the number of expressions. For each batch

    S1 = {n: H_n(w) < E0};  g = gradient of the mean of H over S1;  w+ = w + rho g / (|g| + 1e-12)
    S2 = {n in S1: H_n(w+) < E0};  w <- SGD step (momentum 0.9) with the gradient at w+ of the mean of H over S2
    e <- 0.9 e + 0.1 (that mean), at first the mean itself;  if e < e0, w <- the weights of the source.

As released: batches are scored with the logits at w, before the update. Batch norms use the statistics of the batch, so
a batch of one image is refused for them; group norms and layer norms take any batch. The upper layers are left out by
parts of their names (`skipped`). A batch without reliable images leaves e alone, but the momentum moves w. After a
recovery the low e remains, so that it may recover again in the next batches, and so does the momentum. The learning
rate is lower for batches of less than 32 images: rate / 64 * images * 2, and twice that for one image.

Departures: E0 is 0.4 ln K, and e0 is the released share of ln K, too: 0.2 nats with the K = 1000 of ImageNet are
0.029 ln K (`recovery`). With K = 7, a working network often has 0.2 nats, so it would be reset to the source all the
time. The momentum is reset before each target (released: kept), because nothing may pass from one target to another.
All other parts of the network are in evaluation mode (released: training mode). `skipped` names the last stage and the
expansion of the packaged trunk under the recipe `small`. The learning rate is the published one for ResNets: labels
of the source do not show which rate is best for a target, so none is chosen. The base is full fine-tuning of the
suite's trunk.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from fergen_bench import EXPRESSIONS, BenchError, Context, Method, OnlineMethod
from fergen_bench.training.normalisation import (
    entropy,
    normalisations,
    restore,
    scale_and_shift,
    trained_network,
    use_batch_statistics,
)


@dataclass
class Sar(OnlineMethod):
    """Uncertain images and sharp minima are what makes entropy minimisation collapse."""

    version: ClassVar[int] = 1
    # The learning rate of the base is that of protocols/synth5-all.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"base": "full_finetune backbone=trunk learning_rate=0.004", "skipped": ("stages.4", "expand")}
    }

    learning_rate: float = 2.5e-4  # of batches with 32 images or more
    momentum: float = 0.9  # of the gradients
    rho: float = 0.05  # distance to the point where the gradient is computed
    margin: float = 0.4  # E0, as a share of ln K
    recovery: float = 0.029  # e0, as a share of ln K; released: 0.2 nats, with K = 1000
    skipped: tuple[str, ...] = ("layer4", "blocks.9", "blocks.10", "blocks.11", "norm.")  # parts of names left out

    def start(self, base: Method, ctx: Context) -> None:
        self._check()
        model = trained_network(base, "sar")
        layers = normalisations(model)
        use_batch_statistics(list(layers.values()), self.stream_batch, "sar")
        trained = [layer for name, layer in layers.items() if not any(part in f"{name}." for part in self.skipped)]
        if not trained:
            one = f"sar: the network of its base, {type(base).__name__}, has no normalisation layer"
            if not layers:
                raise BenchError(f"{one} with scale and shift; choose another base")
            raise BenchError(
                f"{one} outside of {', '.join(self.skipped)}; choose another base, or leave fewer out with --set "
                f"skipped=[]"
            )
        most = math.log(len(EXPRESSIONS))
        rate = rate_for(self.learning_rate, self.stream_batch)
        self._descent = SharpDescent(
            base.predict,
            scale_and_shift(trained),
            lambda weights: torch.optim.SGD(weights, rate, momentum=self.momentum),
            self.margin * most,
            self.recovery * most,
            self.rho,
        )

    def _check(self) -> None:
        """Raise for parameters with which nothing could be adapted."""
        for name, fits, wanted in (
            ("learning_rate", self.learning_rate > 0, "above 0"),
            ("momentum", 0 <= self.momentum < 1, "0 or more, and less than 1"),
            ("rho", self.rho >= 0, "0 or more"),
            ("margin", self.margin > 0, "above 0"),
            ("recovery", self.recovery >= 0, "0 or more"),
        ):
            if not fits:
                raise BenchError(f"sar: {name} is {getattr(self, name):g}; it must be {wanted}")

    def reset(self) -> None:
        self._descent.restore()
        self._descent.forget_momentum()

    def predict(self, images: Tensor) -> Tensor:
        return self._descent.adapt(images).logits


def rate_for(rate: float, images: int) -> float:
    """Return the learning rate for batches of some images."""
    if images >= 32:
        return rate
    return rate / 64 * images * 2 * (2 if images == 1 else 1)


class Step(NamedTuple):
    """The computations of one batch of N images.

    Attributes:
        logits: (N, K), at w.
        entropies: (N,) at w, and at w+.
        kept: bool (N,), S1 and S2.
        norm: |g|.
        perturbed: w+, each parameter.
        gradients: The gradient at w+, each parameter.
        recovered: True where w was restored afterwards.
    """

    logits: Tensor
    entropies: tuple[Tensor, Tensor]
    kept: tuple[Tensor, Tensor]
    norm: Tensor
    perturbed: list[Tensor]
    gradients: list[Tensor]
    recovered: bool


class SharpDescent:
    """The state of SAR.

    Args:
        forward: Returns the logits (N, K) of images.
        parameters: w.
        make: Returns the optimiser of parameters.
        margin: E0, in nats.
        recovery: e0, in nats.
        rho: The distance of w+.

    Attributes:
        average: e; None before the first reliable image.
    """

    def __init__(
        self,
        forward: Callable[[Tensor], Tensor],
        parameters: Sequence[nn.Parameter],
        make: Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer],
        margin: float,
        recovery: float,
        rho: float,
    ) -> None:
        self.forward, self.parameters, self.make = forward, parameters, make
        self.margin, self.recovery, self.rho = margin, recovery, rho
        self.first = [parameter.detach().clone() for parameter in parameters]
        self.average: float | None = None
        self.forget_momentum()

    def restore(self) -> None:
        """Restore w and forget e; the momentum stays, as in the released reset."""
        restore(self.parameters, self.first)
        self.average = None

    def forget_momentum(self) -> None:
        """Begin with a fresh optimiser."""
        self.optimizer = self.make(self.parameters)

    def adapt(self, images: Tensor) -> Step:
        """Update w after a batch."""
        with torch.enable_grad():
            logits = self.forward(images)
            first = entropy(logits)
            kept = first.detach() < self.margin
            gradients = torch.autograd.grad(mean_over(first, kept), self.parameters)
        norm = torch.stack([gradient.norm() for gradient in gradients]).norm()
        before = [parameter.detach().clone() for parameter in self.parameters]
        perturbed = [
            value + self.rho / (norm + 1e-12) * gradient for value, gradient in zip(before, gradients, strict=True)
        ]
        restore(self.parameters, perturbed)
        with torch.enable_grad():
            second = entropy(self.forward(images))
            still = kept & (second.detach() < self.margin)
            loss = mean_over(second, still)
            gradients = torch.autograd.grad(loss, self.parameters)
        restore(self.parameters, before)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        recovered = self._recovered(float(loss.detach()), bool(still.any()))
        entropies = first.detach(), second.detach()
        return Step(logits.detach(), entropies, (kept, still), norm, perturbed, list(gradients), recovered)

    def _recovered(self, loss: float, reliable: bool) -> bool:
        """Move the average by the loss of a batch with reliable images, and restore w where it is low."""
        if reliable:
            self.average = loss if self.average is None else 0.9 * self.average + 0.1 * loss
        if self.average is None or self.average >= self.recovery:
            return False
        restore(self.parameters, self.first)
        return True


def mean_over(values: Tensor, kept: Tensor) -> Tensor:
    """Return the mean of the values (N,) that are kept, bool (N,); 0, with the gradient 0, where none is."""
    return (values * kept).sum() / kept.sum().clamp_min(1)
