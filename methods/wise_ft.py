"""WiSE-FT: average a network before and after fine-tuning, weight by weight.

Source: Wortsman et al., "Robust fine-tuning of zero-shot models" (CVPR 2022); github.com/mlfoundations/wise-ft at
58b7a4b.

    theta = (1 - alpha) * theta_0 + alpha * theta_1
    rate[t] = (t + 1) / warm_up  for t < warm_up, then  (1 + cos(pi (t - warm_up) / (steps - warm_up))) / 2
    L = (1 - smoothing) * ce + smoothing * mean over images and expressions of -log softmax.

theta is averaged for every entry of the state: network, buffers and head. theta_0 is the pretrained network with a head
that was fitted to its frozen features (`head=text`: computed from sentences by the text tower). theta_1 is the same
after fine-tuning on L with AdamW and gradients clipped at norm 1. alpha is 1/2 and is not tuned. The zero-shot head is
exp(logit scale) times the normalised mean over sentences of normalised text features, without bias, on normalised image
features; it is float32.

Departures: theta_0's head is that of the linear probe, on raw features, which any backbone allows and which uses the
source's labels (version 1: of equally accurate strengths the smallest). Noise, flip and erasing are those of
full_finetune.py (released: random crops of 90 % and more), so that the two differ in the start and the average. With
the selection source-val the fine-tuned network is its best epoch on held-out images (released: the last).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Batch, Context, NetworkMethod, Source
from fergen_bench.training.logistic import best_strength, solve


@dataclass
class WiseFt(NetworkMethod):
    """The average preserves most of what fine-tuning gains on the source and most of what it would lose elsewhere."""

    version: ClassVar[int] = 2
    group: ClassVar[str] = "fine-tuning"
    static_step: ClassVar[bool] = True
    # The recipe of full_finetune.py for this backbone, learning rate included; not tuned for this method yet.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2.5e-4, "warm_up": 20}}

    epochs: int = 10  # passes over the source
    batch_size: int = 512  # images per step
    learning_rate: float = 3e-5  # highest value of the schedule
    weight_decay: float = 0.1  # decoupled with adamw
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"  # sgd has momentum 0.9
    schedule: Literal["exponential", "cosine", "constant"] = "cosine"  # cosine: warm_up steps, then to 0
    warm_up: int = 500  # steps over which the learning rate rises
    backbone: Backbone = "suite"  # the network that is trained
    head: Literal["probe", "text"] = "probe"  # head before fine-tuning; text needs a backbone with a text tower
    alpha: float = 0.5  # share of the fine-tuned network in the average
    strength: float | None = None  # C of the probe; null: chosen on the source's validation part
    smoothing: float = 0.0  # label smoothing
    clip: float = 1.0  # largest norm of the gradient over all weights

    def fit(self, source: Source, ctx: Context) -> None:
        self.start = self._start(source, ctx)
        super().fit(source, ctx)
        self.model.load_state_dict(merged(self.before, self.model.state_dict(), self.alpha))

    def build(self, ctx: Context) -> nn.Module:
        self.network = ctx.backbone(self.backbone, trainable=True)
        model = nn.ModuleDict({"network": self.network, "head": nn.Linear(self.network.features, len(EXPRESSIONS))})
        with torch.no_grad():
            for parameter, value in zip(model["head"].parameters(), self.start, strict=True):
                parameter.copy_(value)
        self.before = {name: value.detach().clone() for name, value in model.state_dict().items()}
        return model

    def loss(self, batch: Batch) -> Tensor:
        return smoothed_loss(self.adjusted(self.logits(batch.images).float()), batch.labels, self.smoothing)

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> dict[str, Tensor]:
        terms = self.descend(batch, optimizer, ctx)
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        optimizer.step()
        return terms

    def rate(self, step: int, steps_per_epoch: int) -> float:
        if self.schedule != "cosine":
            return super().rate(step, steps_per_epoch)
        return warmed_cosine(step, self.warm_up, self.epochs * steps_per_epoch)

    def logits(self, images: Tensor) -> Tensor:
        head = self.model["head"]
        return head_logits(self.model["network"](images), head.weight, head.bias, normalised=self.head == "text")

    def _start(self, source: Source, ctx: Context) -> tuple[Tensor, Tensor]:
        """Return weight (7, features) and bias (7,) of the head before fine-tuning."""
        if self.head == "text":
            tower = ctx.text_tower(self.backbone)
            with torch.no_grad():
                return zero_shot_head(tower.class_vectors()[:, None], tower.scale.log())
        encoder = ctx.backbone(self.backbone)
        strength = self.strength
        if strength is None:
            fit, val = ctx.features(encoder, source.fit), ctx.features(encoder, source.val)
            strength = best_strength(*fit, *val, len(EXPRESSIONS))
        # The head is fitted to the images that fine-tuning uses, so that held-out images stay unseen.
        split = source.fit if ctx.selection == "source-val" else source.train
        features, labels = ctx.features(encoder, split)
        return solve(features.double(), labels, len(EXPRESSIONS), strength)


def merged(before: Mapping[str, Tensor], after: Mapping[str, Tensor], alpha: float) -> dict[str, Tensor]:
    """Return theta from theta_0 and theta_1, tensors by name; integers (counters) are rounded down."""
    return {
        name: ((1 - alpha) * before[name].to(value.device) + alpha * value).to(value.dtype)
        for name, value in after.items()
    }


def zero_shot_head(text: Tensor, log_scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return weight (K, D) and bias (K,) of the zero-shot head from text features (K, sentences, D)."""
    classes = functional.normalize(functional.normalize(text, dim=-1).mean(1), dim=-1)
    weight = (log_scale.exp() * classes).float()
    return weight, torch.zeros_like(weight[:, 0])


def head_logits(features: Tensor, weight: Tensor, bias: Tensor, normalised: bool) -> Tensor:
    """Apply the head.

    Args:
        features: (N, D).
        weight: (K, D).
        bias: (K,).
        normalised: Normalise the features first, as a head from text requires.

    Returns:
        Logits (N, K).
    """
    if not normalised:
        return functional.linear(features, weight, bias)
    # Times the scale, the rounding error of a cosine in half precision exceeds the distance of some classes.
    with torch.autocast(features.device.type, enabled=False):
        return functional.linear(functional.normalize(features.to(weight), dim=-1), weight, bias)


def smoothed_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return L for logits (N, K) and labels (N,)."""
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)


def warmed_cosine(step: int, warm_up: int, steps: int) -> float:
    """Return the factor on the learning rate at a step, counted from 0."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - warm_up) / max(1, steps - warm_up)))
