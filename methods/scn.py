"""SCN: an attention weight per face, ranked in two groups, and labels that are corrected while it trains.

Source: Wang et al., "Suppressing Uncertainties for Large-Scale Facial Expression Recognition" (CVPR 2020, arXiv
2002.10392); github.com/kaiwang960112/Self-Cure-Network at 9f4c3ad. Equations, for a batch of N faces with pooled
features f of the trunk:

    a = sigmoid(f v' + c)                     one weight per face, (N, 1)
    z = a * (f W' + b)                        logits, which the weight scales together with their bias
    L = ce(z, y) + max(0, margin - (mean of a over the high group - mean of a over the low group))
    p = softmax(z);  y becomes argmax p where max p - p[y] > 0.2, from the tenth epoch on

The high group are the int(0.7 * N) faces of the largest a.

What the released code does and this file keeps: any face of the batch may be relabelled, not only those of the low
group as the paper has it; the two losses are added one to one (the paper weights them by halves); int() truncates a
product of floats, so that for some N (90, 170, 180) the high group is one face smaller than 0.7 * N; probabilities for
relabelling are those of the scaled logits, so a small weight means few changes; a relabelled face keeps its new label
in later epochs, and can change it again; outputs are those of training mode, before the step of the optimiser.

Departures: the margin is the 0.07 that the authors advise for batches of 64 (their arguments' default of 0.15 is for
1,024). Corrected labels are kept in memory beside the given ones, which are never touched, and a fit starts without
any. Where int(0.7 * N) leaves a group without a face, the groups count as equal. The trunk is the suite's (released: a
ResNet-18 with ImageNet weights, or with face-pretrained ones where one has the file). Faces are mirrored, made noisy
and erased at the size they are kept in, then resized; on a GPU the trunk runs in bfloat16. The last epoch or the best
on held-out faces of the source is scored (released: every epoch above a level on the test faces is kept).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, BenchError, Context, GradientMethod, SampleDraws, Source, Trunk
from fergen_bench.training.augment import erase, random_boxes, random_flip_or_noise

UNCHANGED = -1


@dataclass
class Scn(GradientMethod):
    """Faces whose label is doubtful should weigh less, and confident contradictions of a label should win over it."""

    version: ClassVar[int] = 1
    # The learning rate is the best of protocols/learning-rate.yaml.
    # Labels are corrected in the second half.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3, "relabel_from": 6}}

    epochs: int = 70  # passes over the source
    batch_size: int = 64  # faces per step
    learning_rate: float = 1e-3  # of all weights
    trunk: Trunk = "suite"  # the network that is trained
    high_share: float = 0.7  # share of a batch that is the high group
    rank_margin: float = 0.07  # by which the high group's mean weight is to exceed the low group's
    relabel_from: int = 10  # first epoch, from 1, in which labels are corrected; beyond the last: never
    relabel_margin: float = 0.2  # by which the largest probability must exceed that of the label
    changed: float = 0.5  # share of faces that are either mirrored or get Gaussian noise of variance 30
    erasing: float = 0.5  # share of faces that get a box of mean colour

    def fit(self, source: Source, ctx: Context) -> None:
        # By position in the split that is learned from. Where a part is held out, nothing may ask for all of train.
        split = source.fit if ctx.selection == "source-val" else source.train
        self.corrected = torch.full((len(split),), UNCHANGED, device=ctx.device)
        super().fit(source, ctx)

    def build(self, ctx: Context) -> nn.Module:
        if not 0.0 < self.high_share < 1.0:
            raise BenchError(
                f"high_share is {self.high_share}; it must lie between 0 and 1, so that both groups have faces"
            )
        trunk = ctx.backbone(self.trunk, trainable=True)
        self.mean = trunk.mean
        heads = {"alpha": nn.Linear(trunk.features, 1), "fc": nn.Linear(trunk.features, len(EXPRESSIONS))}
        return nn.ModuleDict({"trunk": trunk, **heads})

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        images = random_flip_or_noise(images, draws, self.changed).float() / 255.0
        return erase(images, random_boxes(images.shape, draws, self.erasing), self.mean)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        attention, logits = self._weighted(batch.images)
        corrected = self.corrected[batch.index]
        labels = torch.where(corrected == UNCHANGED, batch.labels, corrected)
        if batch.epoch + 1 >= self.relabel_from:
            flag, predicted = relabelling(logits.detach(), labels, self.relabel_margin)
            self.corrected[batch.index] = torch.where(flag, predicted, corrected)
        return {
            "classification": functional.cross_entropy(logits, labels),
            "rank": rank_loss(attention, self.high_share, self.rank_margin),
        }

    def logits(self, images: Tensor) -> Tensor:
        return self._weighted(images)[1]

    def _weighted(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features, alpha, fc = self.model["trunk"](images), self.model["alpha"], self.model["fc"]
        return weighted_logits(features.float(), alpha.weight, alpha.bias, fc.weight, fc.bias)


def weighted_logits(
    features: Tensor, alpha_weight: Tensor, alpha_bias: Tensor, fc_weight: Tensor, fc_bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention (N, 1) and the logits (N, K) that it scales. features: (N, C), weights: (1, C) and (K, C)."""
    with torch.autocast(features.device.type, enabled=False):
        attention = torch.sigmoid(functional.linear(features, alpha_weight, alpha_bias))
        return attention, attention * functional.linear(features, fc_weight, fc_bias)


def rank_groups(attention: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Positions of the faces with the largest attention, int(share * N) of them, and of the others."""
    order = attention.flatten().argsort(descending=True, stable=True)
    count = int(len(order) * share)
    return order[:count], order[count:]


def rank_loss(attention: Tensor, share: float, margin: float) -> Tensor:
    """max(0, margin - (mean attention of the high group - that of the low group)); attention: (N, 1) → ()."""
    return functional.relu(rank_difference(attention, share, margin))


def rank_difference(attention: Tensor, share: float, margin: float) -> Tensor:
    """Mean of the low group - mean of the high group + margin. A group without a face counts as equal to the other."""
    high, low = rank_groups(attention, share)
    if not len(high) or not len(low):
        return attention.sum() * 0.0 + margin
    return attention[low].mean() - attention[high].mean() + margin


def relabelling(logits: Tensor, labels: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Which faces get a new label, bool (N,), and what the network takes them for, int64 (N,)."""
    probability, predicted = torch.softmax(logits, 1).max(1)
    return probability - label_probability(logits, labels) > margin, predicted


def label_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """What softmax gives each face's label, (N,)."""
    return torch.softmax(logits, 1).gather(1, labels[:, None])[:, 0]
