"""SAM: each step follows the gradient at the worst point near the weights, so that training ends in a flat place.

Source: Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization" (ICLR 2021), and the
adaptive form of Kwon et al. (ICML 2021); in the form of github.com/davda54/sam at 3c3afdb. Equations, for weights w
with gradient g, over all parameters together:

    e = rho * a^2 * g / (|| a * g || + 1e-12)     a = 1, or |w| in the adaptive form
    w <- step of the optimiser at w, with the gradient taken at w + e

Two passes per step; the running statistics of batch norm move in the first one only. The adaptive form wants a rho
about ten times larger.

Departures: trained on the suite's trunk; optimiser, schedule, augmentation and selection are those of full_finetune.py
instead of SGD's, so that the two differ in the step alone. Weights are put back from a copy, not by
subtracting e.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fergen_bench import Batch, Context, TrunkMethod


@dataclass
class Sam(TrunkMethod):
    """Where the loss stays low around the weights, it should stay low under a shift of the faces too."""

    version: ClassVar[int] = 1
    repeats: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    rho: float = 0.05  # how far the worst point is looked for
    adaptive: bool = False  # measures distance relative to each weight

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> dict[str, Tensor]:
        terms = self.descend(batch, optimizer, ctx)
        weights = [weight for weight in self.model.parameters() if weight.grad is not None]
        here = [weight.detach().clone() for weight in weights]
        offsets, _ = ascent(here, [weight.grad for weight in weights], self.rho, self.adaptive)
        with torch.no_grad():
            torch._foreach_add_(weights, offsets)
        with statistics_kept(self.model):
            terms["loss_perturbed"] = self.descend(batch, optimizer, ctx)["loss"]
        with torch.no_grad():
            torch._foreach_copy_(weights, here)
        optimizer.step()
        return terms


def ascent(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float, adaptive: bool
) -> tuple[list[Tensor], Tensor]:
    """e of each weight, and the norm || a * g || over all."""
    scaled = [weight.abs() * g for weight, g in zip(weights, gradients, strict=True)] if adaptive else list(gradients)
    norm = torch.stack([g.norm() for g in scaled]).norm()
    scale = rho / (norm + 1e-12)
    if adaptive:
        return [weight.abs() * g * scale for weight, g in zip(weights, scaled, strict=True)], norm
    return [g * scale for g in scaled], norm


@contextlib.contextmanager
def statistics_kept(model: nn.Module) -> Iterator[None]:
    """Batch norm goes on normalising by the batch, but its running statistics stand still."""
    layers = [
        layer
        for layer in model.modules()
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.track_running_stats
    ]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer in layers:
            layer.track_running_stats = True
