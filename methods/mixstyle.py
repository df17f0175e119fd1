"""MixStyle: blend the styles of two images in early feature maps.

Source: Zhou et al., "Domain Generalization with MixStyle" (ICLR 2021); github.com/KaiyangZhou/mixstyle-release at
16f7cf1. A map x (N, C, H, W) has the mean m and the deviation d = sqrt(unbiased variance + 1e-6) over its positions,
neither of which carries a gradient. Each image gets a partner q and l ~ Beta(0.1, 0.1).

    x <- (x - m) / d * (l d + (1 - l) d[q]) + l m + (1 - l) m[q].

This happens after the first two stages of the trunk, each time with probability 1/2, in training only. Partners are a
permutation of the batch: the released `random`, which is meant for one source (`crossdomain` pairs the halves of a
batch).

Departures: optimiser, schedule, augmentation and selection are those of full_finetune.py instead of the released ones
(SGD, 1e-3, 50 epochs, batch 64), so that the two differ in the mixing alone. Statistics are float32, even where the
trunk runs in bfloat16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import Batch, BenchError, Context, Trunk, TrunkMethod
from fergen_bench.training.augment import beta_draws


@dataclass
class MixStyle(TrunkMethod):
    """Unseen styles lie between the styles of the source, and the label does not depend on them."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "domain generalization"
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    trunk: Trunk = "suite"  # the network that is trained; it must be convolutional
    stages: tuple[str, ...] = ()  # modules of the trunk after which styles are mixed; empty: its first two stages
    probability: float = 0.5  # probability of mixing, per stage and step
    alpha: float = 0.1  # the share of the own style comes from Beta(alpha, alpha)

    def build(self, ctx: Context) -> nn.Module:
        model = super().build(ctx)
        self.generator: torch.Generator | None = None
        for stage in chosen_stages(self.network.body, self.stages, self.trunk):
            self.network.body.get_submodule(stage).register_forward_hook(self._mix)
        return model

    def loss(self, batch: Batch) -> Tensor:
        self.generator = batch.generator
        logits = self.model(batch.images).float()
        self.generator = None
        return functional.cross_entropy(self.adjusted(logits), batch.labels)

    def _mix(self, stage: nn.Module, inputs: Any, x: Tensor) -> Tensor | None:
        """Return a stage's map with mixed styles, or None to leave it unchanged."""
        if x.dim() != 4:
            raise BenchError(
                f"mixstyle: a stage of {self.trunk} returns {tuple(x.shape[1:])} per image, which is not a map with a "
                f"style; choose a convolutional trunk, or name stages that return maps with --set stages=…"
            )
        if not stage.training or self.generator is None or torch.rand((), generator=self.generator) >= self.probability:
            return None
        share = beta_draws(self.alpha, len(x), self.generator).to(x.device)
        partner = torch.randperm(len(x), generator=self.generator).to(x.device)
        return mixed_style(x.float(), share, partner).to(x.dtype)


def style(x: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of a map (N, C, H, W) over its positions, (N, C, 1, 1) each, without gradients."""
    x = x.detach()
    return x.mean((2, 3), keepdim=True), (x.var((2, 3), keepdim=True) + epsilon).sqrt()


def mixed_style(x: Tensor, share: Tensor, partner: Tensor, epsilon: float = 1e-6) -> Tensor:
    """Return a map (N, C, H, W) with mixed styles, from shares l (N,) and partners q, int64 (N,)."""
    mean, deviation = style(x, epsilon)
    share = share[:, None, None, None]
    mixed_mean, mixed_deviation = (share * part + (1 - share) * part[partner] for part in (mean, deviation))
    return (x - mean) / deviation * mixed_deviation + mixed_mean


def chosen_stages(body: nn.Module, stages: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Return the names of the modules after which styles are mixed.

    Args:
        body: The network.
        stages: Names from the user; empty: the first two stages. A network names its stages layer1, layer2 and so on
            (ResNet), or has them in `stages`, whose entries with a single convolution are the stem.
        name: The network's name, for errors.

    Raises:
        BenchError: The network lacks a named module, or two stages.
    """
    modules = dict(body.named_modules())
    for stage in stages:
        if stage not in modules:
            known = [module for module in modules if module and module.count(".") < 2]
            raise BenchError(
                f"mixstyle: stages: {name} does not have a module {stage!r}; its modules include "
                f"{', '.join(known[:20])}"
            )
    if stages:
        return stages
    if {"layer1", "layer2"} <= modules.keys():
        return "layer1", "layer2"
    found = [
        f"stages.{child}"
        for child, stage in (modules["stages"].named_children() if "stages" in modules else ())
        if sum(isinstance(module, nn.Conv2d) for module in stage.modules()) > 1
    ]
    if len(found) < 2:
        raise BenchError(
            f"mixstyle: {name} does not have stages named layer1, layer2 or stages; name the modules whose maps are "
            f"mixed with --set stages=…, or choose a convolutional trunk"
        )
    return found[0], found[1]
