"""CAFE: a sigmoid mask, learned on faces, selects among the fixed features of CLIP.

Source: Zhang et al., "Generalizable Facial Expression Recognition" (ECCV 2024, arXiv 2408.10614);
github.com/zyh-uaiaaaa/Generalizable-FER at 268c293. Equations, for a batch of N faces, C channels and K expressions:

    X = F * sigmoid(p)                              F: frozen features, p: pooled features of the trunk, both (N, C)
    L = ce(X W' + b, y) + 1.5 * L_sep + 5 * L_div
    L_sep = ce(max over group k of X * d, y)        d: drop mask, 10 of 73 channels per group, drawn per step
    L_div = 1 - mean over n, k of (max over group k of X) / (C // K)

What the released code does and this file keeps: the head that is scored is the linear layer (the abstract says the
channel groups themselves: `head=channel`); F is not normalised; p is a mean of rectified values, so the mask lies in
[1/2, 1) and can only halve a channel; both networks see the noisy, mirrored, erased face; the channels beyond K * (C //
K) belong to no group, and the drop mask counts them to the last; a dropped channel is 0, not minus infinity; L_div
holds no term for diversity, only "raise each group's largest channel".

Departures: the frozen network sees its own statistics (`statistics=imagenet` is as released). Faces are mirrored and
erased at the size they are kept in, then resized (released: resized first), bilinearly for the trunk and as the
backbone was trained for the backbone; erased boxes take the trunk's mean colour before each network normalises. On a
GPU the trunk and the head run in bfloat16 and the frozen network in fp16 (released: only CLIP in fp16). Randomness is
drawn per face and step by name. The trunk of a suite of one's own is an ImageNet ResNet-18 unless it names the
face-pretrained weights of the paper (MS-Celeb-1M), which nobody distributes any more; the difference is known to be
large. A trunk whose features are not as many as the backbone's gets a linear projection (none in the paper's case: 512
and 512).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Batch, Context, GradientMethod, SampleDraws, Trunk
from fergen_bench.augment import erase, random_boxes, random_flip, random_noise

Gate = Literal["sigmoid", "linear", "softmax", "tanh", "none"]


@dataclass
class Cafe(GradientMethod):
    """Selecting among features that were never fitted to a source leaves what generalises in them intact."""

    version: ClassVar[int] = 1
    # For 64-pixel networks trained for minutes: another optimiser and schedule than released, ten epochs so that the
    # whole matrix takes minutes, and the learning rate with the best mean accuracy on held-out faces of the five
    # sources of synth5 (protocols/learning-rate.yaml).
    recipes: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {
            "epochs": 10,
            "batch_size": 64,
            "learning_rate": 4e-3,
            "optimizer": "adamw",
            "weight_decay": 5e-3,
            "schedule": "cosine",
        }
    }

    epochs: int = 60  # passes over the source
    batch_size: int = 32  # faces per step
    learning_rate: float = 2e-4  # of trunk and head
    weight_decay: float = 1e-4  # coupled L2 with adam, decoupled with adamw
    backbone: Backbone = "suite"  # the frozen encoder whose features are selected
    trunk: Trunk = "suite"  # the network that learns the mask
    statistics: Literal["own", "imagenet"] = "own"  # how the backbone's input is normalised; imagenet is as released
    gate: Literal["sigmoid", "linear", "softmax", "tanh", "none"] = "sigmoid"  # what the trunk's features go through
    head: Literal["fc", "channel"] = "fc"  # what is scored: the linear layer, or the largest channel of each group
    separation: float = 1.5  # weight of L_sep
    diversity: float = 5.0  # weight of L_div
    drop: float = 0.137  # share of each group's channels that L_sep does not see
    noise: float = 0.5  # share of faces that get Gaussian noise of variance 30
    erasing: float = 0.5  # share of faces that get a box of mean colour

    def build(self, ctx: Context) -> nn.Module:
        self.encoder = ctx.backbone(self.backbone, statistics=self.statistics)
        modules: dict[str, nn.Module] = {"fc": nn.Linear(self.encoder.features, len(EXPRESSIONS))}
        self.mean = self.encoder.mean
        if self.gate != "none":
            modules["trunk"] = trunk = ctx.backbone(self.trunk, trainable=True)
            same = trunk.features == self.encoder.features
            modules["project"] = nn.Identity() if same else nn.Linear(trunk.features, self.encoder.features)
            self.mean = trunk.mean
        return nn.ModuleDict(modules)

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        images = random_flip(random_noise(images, draws, self.noise), draws).float() / 255.0
        return erase(images, random_boxes(images.shape, draws, self.erasing), self.mean)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        masked = self._masked(batch.images)
        drop = drop_mask(masked.shape[1], len(EXPRESSIONS), self.drop, batch.generator).to(masked)
        return self.terms(masked, self._fc(masked), batch.labels, drop)

    def terms(self, masked: Tensor, logits: Tensor, labels: Tensor, drop: Tensor) -> dict[str, Tensor]:
        """The weighted terms of L. masked: (N, C), logits: (N, K), labels: (N,), drop: (C,)."""
        classes = logits.shape[1]
        terms = {"classification": functional.cross_entropy(logits, labels)}
        if self.separation:
            terms["separation"] = self.separation * separation_loss(masked, drop, labels, classes)
        if self.diversity:
            terms["diversity"] = self.diversity * diversity_loss(masked, classes)
        return terms

    def logits(self, images: Tensor) -> Tensor:
        masked = self._masked(images)
        return channel_logits(masked, len(EXPRESSIONS)) if self.head == "channel" else self._fc(masked)

    def _masked(self, images: Tensor) -> Tensor:
        features = self.encoder(images)
        if self.gate == "none":
            return features
        # The mask is float32 whatever the networks ran in, as in the released code.
        return masked_features(features, self.model["project"](self.model["trunk"](images)).float(), self.gate)

    def _fc(self, masked: Tensor) -> Tensor:
        logits: Tensor = self.model["fc"](masked)
        return logits.float()


def masked_features(features: Tensor, preactivation: Tensor, gate: Gate = "sigmoid") -> Tensor:
    """F * gate(p), both (N, C). softmax is taken over the channels and scaled by C, so that its mean is 1."""
    match gate:
        case "sigmoid":
            return features * torch.sigmoid(preactivation)
        case "softmax":
            return features * torch.softmax(preactivation, 1) * preactivation.shape[1]
        case "tanh":
            return features * torch.tanh(preactivation)
        case "linear":
            return features * preactivation
        case "none":
            return features


def channel_logits(masked: Tensor, classes: int) -> Tensor:
    """The largest channel of each group: (N, C) → (N, K). Channels beyond K * (C // K) belong to no group."""
    width = masked.shape[1] // classes
    return masked[:, : classes * width].unflatten(1, (classes, width)).amax(2)


def drop_mask(channels: int, classes: int, share: float, generator: torch.Generator) -> Tensor:
    """1 for channels that are kept, 0 for a share of each group: float (C,). The last group counts the left-over
    channels to itself.
    """
    width = channels // classes
    dropped = round(share * width)
    mask = torch.ones(channels)
    for group in range(classes):
        start = group * width
        stop = channels if group == classes - 1 else start + width
        mask[start + torch.randperm(stop - start, generator=generator)[:dropped]] = 0.0
    return mask


def separation_loss(masked: Tensor, drop: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Cross-entropy of the channel logits after the drop: each group is to stand for its expression."""
    return functional.cross_entropy(channel_logits(masked * drop, classes), labels)


def diversity_loss(masked: Tensor, classes: int) -> Tensor:
    """One minus the mean largest channel over the group width, as released; nothing in it makes channels differ."""
    return 1.0 - channel_logits(masked, classes).mean() / (masked.shape[1] // classes)
