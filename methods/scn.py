"""SCN: weight images by attention, rank the weights in two groups, and correct labels during training.

Source: Wang et al., "Suppressing Uncertainties for Large-Scale Facial Expression Recognition" (CVPR 2020, arXiv
2002.10392); github.com/kaiwang960112/Self-Cure-Network at 9f4c3ad. The trunk's pooled features of a batch of N images
are f.

    a = sigmoid(f v' + c)
    z = a * (f W' + b)
    L = ce(z, y) + max(0, margin - (mean of a over the high group - mean of a over the low group))
    p = softmax(z);  y becomes argmax p where max p - p[y] > 0.2, from the tenth epoch on.

a is one weight per image, (N, 1), and scales the logits together with their bias. The high group consists of the
int(0.7 * N) images with the largest a.

As in the released code, any image of the batch may be relabelled, not only those of the low group as in the paper. The
two losses are added one to one (the paper weights them by halves). int() truncates a product of floats, so that for
some N (90, 170, 180) the high group is one image smaller than 0.7 * N. The probabilities for relabelling are those of
the scaled logits, so a small weight causes few changes. A relabelled image has its new label in later epochs too, and
may change it again. Outputs are those of training mode, before the step of the optimiser.

Departures: the margin is the 0.07 that the authors recommend for batches of 64 (their arguments' default of 0.15 is for
1,024). Corrected labels are stored in memory apart from the given ones, which never change, and every fit starts with
the given ones. Where int(0.7 * N) leaves a group empty, the groups count as equal. The trunk is the suite's (released:
a ResNet-18 with ImageNet weights, or with face-pretrained ones where the file is available). Images are mirrored, made
noisy and erased at their stored size, then resized. On a GPU the trunk runs in bfloat16. The last epoch or the best on
held-out images of the source is scored (released: every epoch above a level on the test images is saved).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, BenchError, Context, GradientMethod, SampleDraws, Source, Trunk
from fergen_bench.training.augment import random_erase, random_flip_or_noise

UNCHANGED = -1
"""Stands for the given label in the tensor of corrected labels."""


@dataclass
class Scn(GradientMethod):
    """Images with a doubtful label get less weight, and confident predictions replace labels that contradict them."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "FER"
    # The learning rate is the best of protocols/learning-rate.yaml. Labels are corrected in the second half.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3, "relabel_from": 6}}

    epochs: int = 70  # passes over the source
    batch_size: int = 64  # images per step
    learning_rate: float = 1e-3  # of all weights
    trunk: Trunk = "suite"  # the network that is trained
    high_share: float = 0.7  # share of a batch that forms the high group
    rank_margin: float = 0.07  # margin by which the high group's mean weight should exceed the low group's
    relabel_from: int = 10  # first epoch, from 1, in which labels are corrected; never if beyond the last
    relabel_margin: float = 0.2  # margin by which the largest probability must exceed that of the label
    changed: float = 0.5  # share of images that are either mirrored or get Gaussian noise of variance 30
    erasing: float = 0.5  # share of images in which a box is filled with the mean colour

    def fit(self, source: Source, ctx: Context) -> None:
        # Indexed by the split that is trained on. With held-out images, a method must not access source.train.
        split = source.fit if ctx.selection == "source-val" else source.train
        self.corrected = torch.full((len(split),), UNCHANGED, device=ctx.device)
        super().fit(source, ctx)

    def build(self, ctx: Context) -> nn.Module:
        if not 0.0 < self.high_share < 1.0:
            raise BenchError(
                f"high_share is {self.high_share}; it must lie between 0 and 1, so that both groups have images"
            )
        trunk = ctx.backbone(self.trunk, trainable=True)
        self.mean = trunk.mean
        heads = {"alpha": nn.Linear(trunk.features, 1), "fc": nn.Linear(trunk.features, len(EXPRESSIONS))}
        return nn.ModuleDict({"trunk": trunk, **heads})

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        return random_erase(random_flip_or_noise(images, draws, self.changed), draws, self.erasing, self.mean)

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
    """Return attention and the logits that it scales.

    Args:
        features: f, (N, C).
        alpha_weight: v, (1, C).
        alpha_bias: c, (1,).
        fc_weight: W, (K, C).
        fc_bias: b, (K,).

    Returns:
        a (N, 1) and z (N, K).
    """
    with torch.autocast(features.device.type, enabled=False):
        attention = torch.sigmoid(functional.linear(features, alpha_weight, alpha_bias))
        return attention, attention * functional.linear(features, fc_weight, fc_bias)


def rank_groups(attention: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the indices of the int(share * N) images with the largest attention (N, 1), and those of the others."""
    order = attention.flatten().argsort(descending=True, stable=True)
    count = int(len(order) * share)
    return order[:count], order[count:]


def rank_loss(attention: Tensor, share: float, margin: float) -> Tensor:
    """Return the second term of L, a scalar, for attention (N, 1)."""
    return functional.relu(rank_difference(attention, share, margin))


def rank_difference(attention: Tensor, share: float, margin: float) -> Tensor:
    """Return mean of the low group - mean of the high group + margin; an empty group counts as equal to the other."""
    high, low = rank_groups(attention, share)
    if not len(high) or not len(low):
        return attention.sum() * 0.0 + margin
    return attention[low].mean() - attention[high].mean() + margin


def relabelling(logits: Tensor, labels: Tensor, margin: float) -> tuple[Tensor, Tensor]:
    """Choose the images that get a new label.

    Args:
        logits: z, (N, K).
        labels: Present labels, int64 (N,).
        margin: The margin by which the largest probability must exceed that of the label.

    Returns:
        Whether each image gets a new label, bool (N,), and the predicted labels, int64 (N,).
    """
    probability, predicted = torch.softmax(logits, 1).max(1)
    return probability - label_probability(logits, labels) > margin, predicted


def label_probability(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the probability of each image's label, (N,)."""
    return torch.softmax(logits, 1).gather(1, labels[:, None])[:, 0]
