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

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Batch, BenchError, Context, GradientMethod, SampleDraws, Source, Trunk
from fergen_bench.training.augment import erase, random_boxes, random_flip, random_noise

Gate = Literal["sigmoid", "linear", "softmax", "tanh", "none"]


@dataclass
class Cafe(GradientMethod):
    """Selecting among features that were never fitted to a source leaves what generalises in them intact."""

    version: ClassVar[int] = 1
    repeats: ClassVar[bool] = True
    # For 64-pixel networks trained for minutes: another optimiser and schedule than released, ten epochs so that the
    # whole matrix takes minutes, and the learning rate with the best mean accuracy on held-out faces of the five
    # sources of synth5 (protocols/learning-rate.yaml).
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    epochs: int = 60  # passes over the source
    batch_size: int = 32  # faces per step
    learning_rate: float = 2e-4  # of trunk and head
    weight_decay: float = 1e-4  # coupled L2 with adam, decoupled with adamw
    backbone: Backbone = "suite"  # the frozen encoder whose features are selected
    trunk: Trunk = "suite"  # the network that learns the mask
    statistics: Literal["own", "imagenet"] = "own"  # how the backbone's input is normalised; imagenet is as released
    features: Literal["live", "cached"] = "live"  # of the face as augmented (as released), or of the face as it is
    gate: Literal["sigmoid", "linear", "softmax", "tanh", "none"] = "sigmoid"  # what the trunk's features go through
    head: Literal["fc", "channel"] = "fc"  # what is scored: the linear layer, or the largest channel of each group
    separation: float = 1.5  # weight of L_sep
    diversity: float = 5.0  # weight of L_div
    diversity_form: Literal["released", "distinct"] = "released"  # distinct: channels of a group answer to other faces
    groups: Literal["released", "even"] = "released"  # even: left-over channels are spread over the groups
    drop: float = 0.137  # share of each group's channels that L_sep does not see
    noise: float = 0.5  # share of faces that get Gaussian noise of variance 30
    erasing: float = 0.5  # share of faces that get a box of mean colour

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
        images = random_flip(random_noise(images, draws, self.noise), draws).float() / 255.0
        return erase(images, random_boxes(images.shape, draws, self.erasing), self.mean)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        masked = self._masked(batch.images, self._cached[batch.index] if self.features == "cached" else None)
        channels, share = masked.shape[1], self.drop
        borders = group_borders(channels, len(EXPRESSIONS), self.groups)
        drop = batch.drawn("drop", lambda generator: drop_mask(channels, borders, share, generator))
        return self.terms(masked, self._fc(masked), batch.labels, drop)

    def terms(self, masked: Tensor, logits: Tensor, labels: Tensor, drop: Tensor) -> dict[str, Tensor]:
        """The weighted terms of L. masked: (N, C), logits: (N, K), labels: (N,), drop: (C,)."""
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
        """The mask of each face, (B, C)."""
        if self.gate == "none":
            return {}
        preactivation = self.model["project"](self.model["trunk"](images)).float()
        return {"mask": masked_features(torch.ones_like(preactivation), preactivation, self.gate)}

    def _masked(self, images: Tensor, features: Tensor | None = None) -> Tensor:
        """Masked features of images. features: of the encoder, where they are known."""
        known = self.encoder.begin(images) if features is None else lambda: features
        if self.gate == "none":
            return known()
        # The mask is float32 whatever the networks ran in, as in the released code.
        preactivation = self.model["project"](self.model["trunk"](images)).float()
        return masked_features(known(), preactivation, self.gate)

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


def group_borders(channels: int, classes: int, groups: Literal["released", "even"] = "released") -> list[int]:
    """Where each expression's group of channels begins, and where the last one ends (K + 1 numbers)."""
    if channels < classes:
        raise BenchError(
            f"{channels} features cannot be divided among {classes} expressions; choose a backbone with more"
        )
    width, over = divmod(channels, classes)
    if groups == "released":
        return [group * width for group in range(classes + 1)]
    return [group * width + min(group, over) for group in range(classes + 1)]


def group_widths(borders: list[int], like: Tensor) -> Tensor:
    """Channels of each group, (K,), made where `like` is: a copy from the host would have to be waited for."""
    return torch.cat([like.new_full((1,), stop - start) for start, stop in itertools.pairwise(borders)])


def grouped(masked: Tensor, borders: list[int]) -> Tensor:
    """(N, C) → (N, K, width); groups narrower than the widest are filled up with minus infinity."""
    widths = [stop - start for start, stop in itertools.pairwise(borders)]
    if min(widths) == max(widths):
        return masked[:, : borders[-1]].unflatten(1, (len(widths), widths[0]))
    parts = masked[:, : borders[-1]].split(widths, dim=1)
    return torch.stack([functional.pad(p, (0, max(widths) - p.shape[1]), value=-torch.inf) for p in parts], 1)


def channel_logits(masked: Tensor, borders: list[int]) -> Tensor:
    """The largest channel of each group: (N, C) → (N, K)."""
    return grouped(masked, borders).amax(2)


def drop_mask(channels: int, borders: list[int], share: float, generator: torch.Generator) -> Tensor:
    """1 for channels that are kept, 0 for a share of each group: float (C,). The last group counts channels that belong
    to no group to itself.
    """
    mask = torch.ones(channels)
    for start, stop in itertools.pairwise([*borders[:-1], channels]):
        dropped = round(share * (borders[1] - borders[0]))
        mask[start + torch.randperm(stop - start, generator=generator)[:dropped]] = 0.0
    return mask


def separation_loss(masked: Tensor, drop: Tensor, labels: Tensor, borders: list[int]) -> Tensor:
    """Cross-entropy of the channel logits after the drop: each group is to stand for its expression."""
    return functional.cross_entropy(channel_logits(masked * drop, borders), labels)


def diversity_loss(masked: Tensor, borders: list[int]) -> Tensor:
    """One minus the mean largest channel over the group width, as released; nothing in it makes channels differ."""
    return 1.0 - (channel_logits(masked, borders).mean(0) / group_widths(borders, masked)).mean()


def distinctness_loss(masked: Tensor, borders: list[int]) -> Tensor:
    """One minus the mean over groups of how many different faces a group's channels stand for, as a share of how many
    could be: 0 where each channel answers to a face of its own, near 1 where all answer to the same.
    """
    shares = grouped(torch.softmax(masked, 0), borders)  # minus infinity in filled places never is the largest
    most = group_widths(borders, masked).clamp(max=len(masked))
    return 1.0 - (shares.amax(2).sum(0) / most).mean()
