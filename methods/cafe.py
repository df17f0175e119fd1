"""CAFE: select among the fixed features of CLIP with a learned sigmoid mask.

Source: Zhang et al., "Generalizable Facial Expression Recognition" (ECCV 2024, arXiv 2408.10614);
github.com/zyh-uaiaaaa/Generalizable-FER at 268c293. For a batch of N images, C channels and K expressions, F are the
frozen features and p the pooled features of the trunk, both (N, C).

    X = F * sigmoid(p)
    L = ce(X W' + b, y) + 1.5 * L_sep + 5 * L_div
    L_sep = ce(max over group k of X * d, y)
    L_div = 1 - mean over n, k of (max over group k of X) / (C // K).

The mask d drops 10 of the 73 channels of each group and is drawn in each step.

As in the released code, the linear layer is scored (the abstract of the paper names the channel groups themselves:
`head=channel`). F is not normalised. p is a mean of rectified values, so the mask lies in [1/2, 1) and at most halves a
channel. Both networks see the noisy, mirrored, erased image. The channels beyond K * (C // K) belong to no group, and
the drop mask counts them in the last group. A dropped channel is 0, not minus infinity. L_div does not compare
channels; it only raises the largest channel of each group.

Departures: the frozen network's input is normalised with its own statistics (`statistics=imagenet` is as released).
Images are mirrored and erased at their stored size, then resized (released: resized first): bilinearly for the trunk,
and as in its pre-training for the backbone. Erased boxes take the trunk's mean colour before each network normalises.
On a GPU the trunk and the head run in bfloat16 and the frozen network in fp16 (released: only CLIP in fp16). Random
numbers are drawn by name, per image and per step. The trunk of a user's own suite is an ImageNet ResNet-18 unless the
suite names the paper's face-pretrained weights (MS-Celeb-1M), which are not distributed any more; the difference is
known to be large. A trunk with another number of features than the backbone gets a linear projection (not needed in the
paper, where both have 512).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Batch, BenchError, Context, GradientMethod, SampleDraws, Source, Trunk
from fergen_bench.training.augment import random_erase, random_flip, random_noise

Gate = Literal["sigmoid", "linear", "softmax", "tanh", "none"]


@dataclass
class Cafe(GradientMethod):
    """A mask over features that were never fitted to a source preserves how well those features generalise."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "FER"
    static_step: ClassVar[bool] = True
    # The learning rate with the best mean accuracy on held-out images of the five sources of synth5
    # (protocols/learning-rate.yaml).
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    epochs: int = 60  # passes over the source
    batch_size: int = 32  # images per step
    learning_rate: float = 2e-4  # of trunk and head
    weight_decay: float = 1e-4  # coupled L2 with adam, decoupled with adamw
    backbone: Backbone = "suite"  # the frozen encoder whose features are selected
    trunk: Trunk = "suite"  # the network that predicts the mask
    statistics: Literal["own", "imagenet"] = "own"  # how the backbone's input is normalised; imagenet is as released
    features: Literal["live", "cached"] = "live"  # of the augmented image, as released; or of the unchanged image
    gate: Literal["sigmoid", "linear", "softmax", "tanh", "none"] = "sigmoid"  # applied to the trunk's features
    head: Literal["fc", "channel"] = "fc"  # scored output: the linear layer, or the largest channel of each group
    separation: float = 1.5  # weight of L_sep
    diversity: float = 5.0  # weight of L_div
    diversity_form: Literal["released", "distinct"] = "released"  # distinct: channels respond to different images
    groups: Literal["released", "even"] = "released"  # even: the remaining channels are spread over the groups
    drop: float = 0.137  # share of each group's channels that L_sep ignores
    noise: float = 0.5  # share of images that get Gaussian noise of variance 30
    erasing: float = 0.5  # share of images in which a box is filled with the mean colour

    def fit(self, source: Source, ctx: Context) -> None:
        if self.features == "cached":
            encoder = ctx.backbone(self.backbone, statistics=self.statistics)
            self._cached, _ = ctx.features(encoder, source.fit if ctx.selection == "source-val" else source.train)
        super().fit(source, ctx)

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
        images = random_flip(random_noise(images, draws, self.noise), draws)
        return random_erase(images, draws, self.erasing, self.mean)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        masked = self._masked(batch.images, self._cached[batch.index] if self.features == "cached" else None)
        channels, share = masked.shape[1], self.drop
        borders = group_borders(channels, len(EXPRESSIONS), self.groups)
        drop = batch.drawn("drop", lambda generator: drop_mask(channels, borders, share, generator))
        return self.terms(masked, self._fc(masked), batch.labels, drop)

    def terms(self, masked: Tensor, logits: Tensor, labels: Tensor, drop: Tensor) -> dict[str, Tensor]:
        """Return the weighted terms of L.

        Args:
            masked: X, (N, C).
            logits: (N, K).
            labels: int64 (N,).
            drop: d, (C,).

        Returns:
            The scalars `classification`, `separation` and `diversity`, without those whose weight is 0.
        """
        borders = group_borders(masked.shape[1], logits.shape[1], self.groups)
        terms = {"classification": functional.cross_entropy(logits, labels)}
        if self.separation:
            terms["separation"] = self.separation * separation_loss(masked, drop, labels, borders)
        if self.diversity:
            form = diversity_loss if self.diversity_form == "released" else distinctness_loss
            terms["diversity"] = self.diversity * form(masked, borders)
        return terms

    def logits(self, images: Tensor) -> Tensor:
        masked = self._masked(images)
        if self.head == "fc":
            return self._fc(masked)
        return channel_logits(masked, group_borders(masked.shape[1], len(EXPRESSIONS), self.groups))

    def inspect(self, images: Tensor) -> dict[str, Tensor]:
        """Return the mask of each image, (B, C)."""
        if self.gate == "none":
            return {}
        preactivation = self.model["project"](self.model["trunk"](images)).float()
        return {"mask": masked_features(torch.ones_like(preactivation), preactivation, self.gate)}

    def _masked(self, images: Tensor, features: Tensor | None = None) -> Tensor:
        """Return the masked features of images, (B, C); the encoder runs unless its features are given."""
        encoded = self.encoder.begin(images) if features is None else lambda: features
        if self.gate == "none":
            return encoded()
        # As released, the mask is float32 in whatever precision the networks ran.
        preactivation = self.model["project"](self.model["trunk"](images)).float()
        return masked_features(encoded(), preactivation, self.gate)

    def _fc(self, masked: Tensor) -> Tensor:
        logits: Tensor = self.model["fc"](masked)
        return logits.float()


def masked_features(features: Tensor, preactivation: Tensor, gate: Gate = "sigmoid") -> Tensor:
    """Multiply features by a gate.

    Args:
        features: F, (N, C).
        preactivation: p, (N, C).
        gate: The function of p; softmax runs over the channels and is scaled by C, so that its mean is 1.

    Returns:
        (N, C).
    """
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


def group_borders(channels: int, classes: int, groups: Literal["released", "even"] = "released") -> list[int]:
    """Return the offset of each expression's group of channels, and the end of the last group (K + 1 numbers)."""
    if channels < classes:
        raise BenchError(
            f"{channels} features cannot be divided among {classes} expressions; choose a backbone with more features"
        )
    width, over = divmod(channels, classes)
    if groups == "released":
        return [group * width for group in range(classes + 1)]
    return [group * width + min(group, over) for group in range(classes + 1)]


def group_widths(borders: list[int], like: Tensor) -> Tensor:
    """Return the number of channels of each group, (K,).

    The result is created on the device of `like`, because a copy from the host would stall the device.
    """
    return torch.cat([like.new_full((1,), stop - start) for start, stop in itertools.pairwise(borders)])


def grouped(masked: Tensor, borders: list[int]) -> Tensor:
    """Split channels into groups: (N, C) → (N, K, width).

    Groups narrower than the widest are padded with minus infinity.
    """
    widths = [stop - start for start, stop in itertools.pairwise(borders)]
    if min(widths) == max(widths):
        return masked[:, : borders[-1]].unflatten(1, (len(widths), widths[0]))
    parts = masked[:, : borders[-1]].split(widths, dim=1)
    return torch.stack([functional.pad(p, (0, max(widths) - p.shape[1]), value=-torch.inf) for p in parts], 1)


def channel_logits(masked: Tensor, borders: list[int]) -> Tensor:
    """Return the largest channel of each group: (N, C) → (N, K)."""
    return grouped(masked, borders).amax(2)


def drop_mask(channels: int, borders: list[int], share: float, generator: torch.Generator) -> Tensor:
    """Draw a mask that is 0 for a share of each group's channels and 1 for the others.

    Args:
        channels: C.
        borders: Offsets of the groups, from `group_borders`. Channels behind the last group count in it.
        share: The share of a group's channels that is dropped.
        generator: The source of random numbers.

    Returns:
        float32 (C,) on the CPU.
    """
    mask = torch.ones(channels)
    for start, stop in itertools.pairwise([*borders[:-1], channels]):
        dropped = round(share * (borders[1] - borders[0]))
        mask[start + torch.randperm(stop - start, generator=generator)[:dropped]] = 0.0
    return mask


def separation_loss(masked: Tensor, drop: Tensor, labels: Tensor, borders: list[int]) -> Tensor:
    """Return the cross-entropy of the channel logits after the drop, so that each group stands for its expression."""
    return functional.cross_entropy(channel_logits(masked * drop, borders), labels)


def diversity_loss(masked: Tensor, borders: list[int]) -> Tensor:
    """Return one minus the mean of largest channel over group width, as released; it does not compare channels."""
    return 1.0 - (channel_logits(masked, borders).mean(0) / group_widths(borders, masked)).mean()


def distinctness_loss(masked: Tensor, borders: list[int]) -> Tensor:
    """Return how far the channels of a group respond to the same images.

    The loss is one minus the mean over groups of the number of different images that a group's channels respond to, as
    a share of the largest possible number. It is 0 where each channel responds to an image of its own, and near 1 where
    all respond to the same image.

    Args:
        masked: X, (N, C).
        borders: Offsets of the groups, from `group_borders`.

    Returns:
        A scalar.
    """
    shares = grouped(torch.softmax(masked, 0), borders)  # a padded minus infinity is never the largest
    most = group_widths(borders, masked).clamp(max=len(masked))
    return 1.0 - (shares.amax(2).sum(0) / most).mean()
