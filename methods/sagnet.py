"""SagNet: the content network learns under swapped styles, and the features learn to tell a style network nothing.

Source: Nam et al., "Reducing Domain Gap by Reducing Style Bias" (CVPR 2021), in the form of DomainBed
(github.com/facebookresearch/DomainBed at b93c22a). For features x with mean m and unbiased variance s over the feature
axis of each face (over places, for a map), n = (x - m) / sqrt(s + 1e-5), a partner q and a ~ U(0, 1) per face:

    style swapped    S(x) = n * sqrt(a s + (1 - a) s[q] + 1e-5) + a m + (1 - a) m[q]
    content swapped  C(x) = stop(n[q]) * sqrt(s + 1e-5) + m

and in each step three descents, each with its own forward pass and draws:

    trunk and content head   ce(content(S(x)), y)
    style head               ce(style(C(x)), y)
    trunk                    0.1 * mean over faces and expressions of -log softmax(style(C(x)))

The content head is scored, on features that nothing was swapped in. Variances are mixed, not deviations. The three
optimisers of DomainBed are one here: moments are kept per weight, and a weight without a gradient is left alone, so a
step moves just what the gradient was taken for (the trunk twice, as released). Batch norm's running statistics move in
all three passes, as released.

Departures: trained on the suite's trunk; optimiser, schedule, augmentation and selection are those of full_finetune.py
instead of DomainBed's (Adam, 5e-5, 5001 steps, crops and colour jitter), so that the two differ in the method alone.
Features, statistics and heads are float32, also where the trunk runs in bfloat16. The paper swaps the styles of maps;
DomainBed's form on pooled features is kept.
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
    """Style is what domains differ in: a network that cannot use it has to look at the expression."""

    version: ClassVar[int] = 1
    repeats: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    adversarial: float = 0.1  # weight of the loss that hides the style

    def build(self, ctx: Context) -> nn.Module:
        self.network = ctx.backbone(self.trunk, trainable=True)
        heads = {name: nn.Linear(self.network.features, len(EXPRESSIONS)) for name in ("content", "style")}
        return nn.ModuleDict({"trunk": self.network, **heads})

    def loss(self, batch: Batch) -> Tensor:
        return functional.cross_entropy(self._shown(batch, "style", self.model["content"], "content"), batch.labels)

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
            logits = self._shown(batch, "content", self.model["style"], "style")
        terms["style"] = descend(functional.cross_entropy(logits, batch.labels), style)
        with ctx.autocast():
            logits = self._shown(batch, "content", self.model["style"], "adversarial")
        terms["adversarial"] = descend(adversarial_loss(logits, self.adversarial), trunk)
        return terms

    def _shown(self, batch: Batch, swap: Literal["style", "content"], head: nn.Module, name: str) -> Tensor:
        """Logits of the head on features in which style or content was swapped. name: of what is drawn."""
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
    """Normalised content, mean and variance of vectors (N, D), or of maps (N, C, H, W) taken as (N, C, H * W)."""
    flat = features.flatten(2) if features.dim() == 4 else features
    mean, variance = flat.mean(-1, keepdim=True), flat.var(-1, keepdim=True)
    return (flat - mean) / (variance + epsilon).sqrt(), mean, variance


def swapped_style(features: Tensor, share: Tensor, partner: Tensor, epsilon: float = 1e-5) -> Tensor:
    """S(x) of vectors (N, D) or maps (N, C, H, W). share: (N, 1), partner: int64 (N,)."""
    content, mean, variance = _parts(features, epsilon)
    share = share.reshape(-1, *[1] * (mean.dim() - 1))
    mean, variance = (share * part + (1 - share) * part[partner] for part in (mean, variance))
    return (content * (variance + epsilon).sqrt() + mean).reshape(features.shape)


def swapped_content(features: Tensor, partner: Tensor, epsilon: float = 1e-5) -> Tensor:
    """C(x) of vectors (N, D) or maps (N, C, H, W). partner: int64 (N,)."""
    content, mean, variance = _parts(features, epsilon)
    return (content[partner].detach() * (variance + epsilon).sqrt() + mean).reshape(features.shape)


def adversarial_loss(logits: Tensor, weight: float = 0.1) -> Tensor:
    """Smallest where every expression is as likely: logits (N, K) of the style head."""
    return -weight * torch.log_softmax(logits, 1).mean()
