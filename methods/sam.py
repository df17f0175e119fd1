"""SAM: compute each step's gradient at the worst point near the weights, so that training ends in a flat minimum.

Source: Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization" (ICLR 2021), and the
adaptive form of Kwon et al. (ICML 2021); in the form of github.com/davda54/sam at 3c3afdb. The weights w of all
parameters together have the gradient g, and a is 1 or, in the adaptive form, |w|.

    e = rho * a^2 * g / (|| a * g || + 1e-12)
    w <- step of the optimiser at w, with the gradient taken at w + e.

Each step has two passes; the running statistics of batch norm change in the first one only. The adaptive form needs a
rho about ten times larger.

Departures: the method trains the suite's trunk. Optimiser, schedule, augmentation and selection are those of
full_finetune.py instead of SGD's, so that the two differ in the step alone. The weights are restored from a copy, not
by subtracting e.
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
    """A loss that is low everywhere around the weights should also be low when the images change."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "domain generalization"
    static_step: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    rho: float = 0.05  # distance at which the worst point is searched
    adaptive: bool = False  # whether the distance is relative to each weight

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> dict[str, Tensor]:
        terms = self.descend(batch, optimizer, ctx)
        weights = [weight for weight in self.model.parameters() if weight.grad is not None]
        before = [weight.detach().clone() for weight in weights]
        offsets, _ = ascent(before, [weight.grad for weight in weights], self.rho, self.adaptive)
        with torch.no_grad():
            torch._foreach_add_(weights, offsets)
        with frozen_statistics(self.model):
            terms["loss_perturbed"] = self.descend(batch, optimizer, ctx)["loss"]
        with torch.no_grad():
            torch._foreach_copy_(weights, before)
        optimizer.step()
        return terms


def ascent(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float, adaptive: bool
) -> tuple[list[Tensor], Tensor]:
    """Return the offset e of each weight, and the norm || a * g || over all weights."""
    scaled = [weight.abs() * g for weight, g in zip(weights, gradients, strict=True)] if adaptive else list(gradients)
    norm = torch.stack([g.norm() for g in scaled]).norm()
    scale = rho / (norm + 1e-12)
    if adaptive:
        return [weight.abs() * g * scale for weight, g in zip(weights, scaled, strict=True)], norm
    return [g * scale for g in scaled], norm


@contextlib.contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Freeze the running statistics of batch norm, which continues to normalise by the batch."""
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
