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
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from fergen_bench import Batch, Context, TrunkMethod
from fergen_bench.training.sharpness import worst_point


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
        with worst_point(self.model.parameters(), self.rho, self.adaptive), frozen_statistics(self.model):
            terms["loss_perturbed"] = self.descend(batch, optimizer, ctx)["loss"]
        optimizer.step()
        return terms


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
