"""SagNet: train the content network under swapped styles, and the features so that a style network cannot use them.

Source: Nam et al., "Reducing Domain Gap by Reducing Style Bias" (CVPR 2021), in the form of DomainBed
(github.com/facebookresearch/DomainBed at b93c22a). Features x have the mean m and the unbiased variance s over the
feature axis of each image (over positions, for a map), and n = (x - m) / sqrt(s + 1e-5). Each image gets a partner q
and a ~ U(0, 1).

    style swapped    S(x) = n * sqrt(a s + (1 - a) s[q] + 1e-5) + a m + (1 - a) m[q]
    content swapped  C(x) = stop(n[q]) * sqrt(s + 1e-5) + m.

Each step makes three updates, each with a forward pass and random numbers of its own:

    trunk and content head   ce(content(S(x)), y)
    style head               ce(style(C(x)), y)
    trunk                    0.1 * mean over images and expressions of -log softmax(style(C(x))).

The content head is scored, on features without swapping. Variances are mixed, not deviations. One optimiser replaces
the three of DomainBed: it has separate moments for each weight and skips weights without a gradient, so an update moves
just the weights whose gradient was computed (the trunk twice, as released). The running statistics of batch norm change
in all three passes, as released.

Departures: the method trains the suite's trunk. Optimiser, schedule, augmentation and selection are those of
full_finetune.py instead of DomainBed's (Adam, 5e-5, 5001 steps, crops and colour jitter), so that the two differ in the
method alone. Features, statistics and heads are float32, even where the trunk runs in bfloat16. The paper swaps the
styles of maps; this file has DomainBed's form on pooled features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, Context, TrunkMethod


@dataclass
class SagNet(TrunkMethod):
    """Domains differ in style, so a network that cannot use style has to rely on the expression."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "domain generalization"
    static_step: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    adversarial: float = 0.1  # weight of the loss that hides the style

    def build(self, ctx: Context) -> nn.Module:
        self.network = ctx.backbone(self.trunk, trainable=True)
        heads = {name: nn.Linear(self.network.features, len(EXPRESSIONS)) for name in ("content", "style")}
        return nn.ModuleDict({"trunk": self.network, **heads})

    def loss(self, batch: Batch) -> Tensor:
        logits = self._swapped_logits(batch, "style", self.model["content"], "content")
        return functional.cross_entropy(self.adjusted(logits), batch.labels)

    def update(self, batch: Batch, optimizer: torch.optim.Optimizer, ctx: Context) -> Mapping[str, Tensor]:
        trunk, content, style = (list(self.model[name].parameters()) for name in ("trunk", "content", "style"))

        def descend(loss: Tensor, weights: Iterable[Tensor]) -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            loss.backward(inputs=list(weights))
            optimizer.step()
            return loss.detach()

        with ctx.autocast():
            loss = self.loss(batch)
        terms = {"loss": descend(loss, [*trunk, *content])}
        with ctx.autocast():
            logits = self._swapped_logits(batch, "content", self.model["style"], "style")
        terms["style"] = descend(functional.cross_entropy(logits, batch.labels), style)
        with ctx.autocast():
            logits = self._swapped_logits(batch, "content", self.model["style"], "adversarial")
        terms["adversarial"] = descend(adversarial_loss(logits, self.adversarial), trunk)
        return terms

    def _swapped_logits(self, batch: Batch, swap: Literal["style", "content"], head: nn.Module, name: str) -> Tensor:
        """Return a head's logits (N, K) of features with swapped style or content; `name` is their random stream."""
        features = self.model["trunk"](batch.images).float()
        count = len(features)
        share = batch.drawn(f"{name} share", lambda generator: torch.rand(count, 1, generator=generator))
        partner = batch.drawn(f"{name} partner", lambda generator: torch.randperm(count, generator=generator))
        with torch.autocast(features.device.type, enabled=False):
            return head(
                swapped_style(features, share, partner) if swap == "style" else swapped_content(features, partner)
            )

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model["content"](self.model["trunk"](images))
        return logits


def _parts(features: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return normalised content, mean and variance of vectors (N, D), or of maps (N, C, H, W) as (N, C, H * W)."""
    flat = features.flatten(2) if features.dim() == 4 else features
    mean, variance = flat.mean(-1, keepdim=True), flat.var(-1, keepdim=True)
    return (flat - mean) / (variance + epsilon).sqrt(), mean, variance


def swapped_style(features: Tensor, share: Tensor, partner: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Return S(x) of vectors (N, D) or maps (N, C, H, W), from shares a (N, 1) and partners q, int64 (N,)."""
    content, mean, variance = _parts(features, epsilon)
    share = share.reshape(-1, *[1] * (mean.dim() - 1))
    mean, variance = (share * part + (1 - share) * part[partner] for part in (mean, variance))
    return (content * (variance + epsilon).sqrt() + mean).reshape(features.shape)


def swapped_content(features: Tensor, partner: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Return C(x) of vectors (N, D) or maps (N, C, H, W), from partners q, int64 (N,)."""
    content, mean, variance = _parts(features, epsilon)
    return (content[partner].detach() * (variance + epsilon).sqrt() + mean).reshape(features.shape)


def adversarial_loss(logits: Tensor, weight: float = 0.1) -> Tensor:
    """Return the trunk's loss from the style head's logits (N, K); it is smallest where they are uniform."""
    return -weight * torch.log_softmax(logits, 1).mean()
