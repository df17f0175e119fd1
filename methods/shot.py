"""SHOT: adapt the features of a source model to the unlabelled images of a target, and keep its classifier.

Source: Liang et al., "Do We Really Need to Access the Source Data? Source Hypothesis Transfer for Unsupervised Domain
Adaptation" (ICML 2020), as released in github.com/tim-learn/SHOT at f7d555a. The network is a trunk, a linear layer
with batch norm (the bottleneck), and a linear classifier whose rows are weight-normalised. First it is trained on the
source with smoothed labels, (1 - s) ce + s * mean over images and expressions of -log softmax. Then, with the
classifier frozen and p the softmax of a batch of target images, m the mean of p over the batch,

    L = 0.3 ce(z, y') + mean over images of sum_k -p log(p + 1e-5) - sum_k -m log(m + 1e-5).

The pseudo-labels y' are renewed before each epoch, in evaluation mode, over all target images. g are the features with
a 1 appended, divided by their norm; a centroid is the mean of g weighted by p, of the expressions that are predicted at
all; y' is the expression with the nearest centroid by cosine. Then a second round, with the hard labels of the first.

Target steps are SGD with Nesterov momentum 0.9 and weight decay 1e-3; the rate is lr (1 + 10 i / I)^-0.75 at step i of
I, counted from 1, and a tenth of that for the trunk. The last epoch is scored, without a choice. A last batch of one
image is left out.

This is offline adaptation: it needs all target images at once, here the training part of the target, and the tables
show it with the methods that have `adapt`. The last term of L pushes predictions towards equal shares of the
expressions, which faces in the wild do not have; `diversity=0` leaves it out.

Departures: the trunk is the suite's. The source is learned with the recipe and the augmentation of `NetworkMethod`
(released: SGD, 100 epochs or fewer, and a tenth of the source held out in any case); the rate of the recipe `small` is
that of full fine-tuning of the trunk, not chosen for this method. Target images are augmented like those of the source
(released: crops and mirror images). Target rates are the published ones: labels of the source do not show better ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, BenchError, Context, NetworkMethod, Source, Trunk
from fergen_bench.training.images import SplitImages

EPSILON = 1e-5


@dataclass
class Shot(NetworkMethod):
    """Features can move to where the source's classifier is certain, without the source."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "adaptation"
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3, "width": 128}}

    adapt: bool = True  # adapt to the unlabelled training images of the target; false: the source model
    trunk: Trunk = "suite"  # the network that is trained
    width: int = 256  # features of the bottleneck
    smoothing: float = 0.1  # s, of the source's labels
    target_epochs: int = 15  # passes over the target, each with renewed pseudo-labels
    target_batch: int = 64  # target images per step
    target_rate: float = 1e-2  # lr of bottleneck; the trunk has a tenth
    pseudo_labels: float = 0.3  # weight of ce(z, y')
    diversity: float = 1.0  # weight of the last term

    def build(self, ctx: Context) -> nn.Module:
        self.network = ctx.backbone(self.trunk, trainable=True)
        bottleneck = nn.Sequential(nn.Linear(self.network.features, self.width), nn.BatchNorm1d(self.width))
        head = nn.Linear(self.width, len(EXPRESSIONS))
        return nn.Sequential(self.network, bottleneck, nn.utils.parametrizations.weight_norm(head, dim=0))

    def loss(self, batch: Batch) -> Tensor:
        return smoothed_loss(self.adjusted(self.model(batch.images).float()), batch.labels, self.smoothing)

    def fit(self, source: Source, ctx: Context) -> None:
        if self.adapt and not ctx.unlabelled:
            raise BenchError(
                "shot adapts to unlabelled images of a target, which this run lacks; use --protocol adaptation"
            )
        self._check(None if ctx.unlabelled is None else len(ctx.unlabelled))
        super().fit(source, ctx)
        if self.adapt and ctx.unlabelled is not None:
            self._adapt(SplitImages(ctx.unlabelled, ctx.device), len(ctx.unlabelled), ctx)

    def _check(self, count: int | None) -> None:
        """Raise, before the source is learned, where a target of `count` images could not be adapted to."""
        for name, fits, wanted in (
            ("width", self.width >= 1, "1 or more"),
            ("smoothing", 0 <= self.smoothing < 1, "0 or more, and less than 1"),
            ("target_epochs", self.target_epochs >= 1, "1 or more; adapt=false scores the source model"),
            ("target_batch", self.target_batch >= 2, "2 or more, because batch norm needs two images"),
            ("target_rate", self.target_rate > 0, "above 0"),
            ("pseudo_labels", self.pseudo_labels >= 0, "0 or more"),
            ("diversity", self.diversity >= 0, "0 or more"),
        ):
            if not fits:
                raise BenchError(f"shot: {name} is {getattr(self, name):g}; it must be {wanted}")
        if self.adapt and count == 1:
            raise BenchError(
                "shot: the target has one training image, and batch norm needs two to adapt to it; leave it out with "
                "--targets"
            )

    def _adapt(self, images: SplitImages, count: int, ctx: Context) -> None:
        """Train trunk and bottleneck on all target images."""
        trunk, bottleneck, head = self.model
        head.requires_grad_(False)
        optimizer = target_optimizer(trunk.parameters(), bottleneck.parameters(), self.target_rate)
        starts = range(0, count - (count % self.target_batch == 1), self.target_batch)
        steps, step = self.target_epochs * len(starts), 0
        for epoch in range(self.target_epochs):
            labels = self._labels(images, count)
            order = torch.randperm(count, generator=ctx.generator("target order", epoch))
            self.model.train()
            for start in starts:
                rows, step = order[start : start + self.target_batch], step + 1
                draws = ctx.draws(rows.to(ctx.device), "target augment", epoch)
                logits = self.model(self.augment(images.at(rows), draws)).float()
                set_rates(optimizer, self.target_rate, step, steps)
                terms = target_loss(logits, labels[rows.to(labels.device)], self.pseudo_labels, 1.0, self.diversity)
                optimizer.zero_grad()
                terms.total.backward()
                optimizer.step()
            self.model.eval()
            ctx.epoch_done(self.epochs + epoch + 1, self.epochs + self.target_epochs, loss=terms.total.item())

    @torch.no_grad()
    def _labels(self, images: SplitImages, count: int) -> Tensor:
        """Return the pseudo-labels of all target images, int64 (N,)."""
        self.model.eval()
        trunk, bottleneck, head = self.model
        parts = [bottleneck(trunk(images.at(rows))).float() for rows in torch.arange(count).split(256)]
        features = torch.cat(parts)
        return pseudo_labels(features, head(features).float())[-1].labels


def smoothed_loss(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Return the loss of the source for logits (N, K) and labels (N,)."""
    return functional.cross_entropy(logits, labels, label_smoothing=smoothing)


class Round(NamedTuple):
    """One round of pseudo-labels.

    Attributes:
        classes: The expressions that have a centroid, int64 (C,).
        centroids: (C, D).
        distances: (N, C).
        labels: int64 (N,).
    """

    classes: Tensor
    centroids: Tensor
    distances: Tensor
    labels: Tensor


def compared(features: Tensor, distance: str = "cosine") -> Tensor:
    """Return g of features (N, D): for cosines (N, D + 1), with a 1 appended and divided by the norm."""
    if distance == "euclidean":
        return features
    return functional.normalize(torch.cat([features, torch.ones_like(features[:, :1])], 1), dim=1)


def pseudo_labels(features: Tensor, logits: Tensor, distance: str = "cosine", threshold: int = 0) -> list[Round]:
    """Return both rounds of pseudo-labels.

    Args:
        features: Features (N, D) in evaluation mode.
        logits: (N, K) of these.
        distance: `cosine` or `euclidean`.
        threshold: Expressions that are predicted for no more images than this have no centroid.
    """
    points, classes = compared(features, distance), logits.shape[1]
    affinity, labels, rounds = logits.softmax(1), logits.argmax(1), list[Round]()
    for _ in range(2):
        (present,) = torch.nonzero(torch.bincount(labels, minlength=classes) > threshold, as_tuple=True)
        centroids = (affinity.T @ points / (1e-8 + affinity.sum(0)[:, None]))[present]
        if distance == "euclidean":
            distances = (points[:, None] - centroids).norm(dim=2)
        else:
            distances = 1 - functional.normalize(points, dim=1) @ functional.normalize(centroids, dim=1).T
        labels = present[distances.argmin(1)]
        affinity = functional.one_hot(labels, classes).to(points)
        rounds.append(Round(present, centroids, distances, labels))
    return rounds


class Terms(NamedTuple):
    """The terms of L, without their weights, and L."""

    ce: Tensor
    entropy: Tensor
    diversity: Tensor
    total: Tensor


def target_loss(
    logits: Tensor, labels: Tensor, weight: float, of_information: float = 1.0, of_diversity: float = 1.0
) -> Terms:
    """Return the loss of a batch of target images.

    Args:
        logits: (N, K).
        labels: Pseudo-labels, int64 (N,).
        weight: Weight of the cross-entropy.
        of_information: Weight of the other two terms together.
        of_diversity: Weight of the diversity among these.
    """
    shares = logits.softmax(1)
    mean = shares.mean(0)
    ce = functional.cross_entropy(logits, labels)
    entropy = -(shares * (shares + EPSILON).log()).sum(1).mean()
    diversity = -(mean * (mean + EPSILON).log()).sum()
    return Terms(ce, entropy, diversity, weight * ce + of_information * (entropy - of_diversity * diversity))


def target_optimizer(
    trunk: Any, others: Any, rate: float, decays: Sequence[float] = (0.1, 1.0), momentum: float = 0.9
) -> torch.optim.SGD:
    """Return the optimiser of the target phase; `decays` are the factors on the rate of trunk and of others."""
    groups = [{"params": list(part), "decay": decay} for part, decay in zip((trunk, others), decays, strict=True)]
    return torch.optim.SGD(groups, rate, momentum=momentum, nesterov=True, weight_decay=1e-3)


def set_rates(optimizer: torch.optim.Optimizer, rate: float, step: int, steps: int) -> None:
    """Set the learning rates of a step, counted from 1."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["decay"] * (1 + 10 * step / steps) ** -0.75
