"""Mixup within the batch: train on blends of two images and of their labels.

Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (ICLR 2018); the formula and the constant are
DomainBed's (github.com/facebookresearch/DomainBed at b93c22a). Two batches a and b are cut to the shorter, and get one
number l ~ Beta(0.2, 0.2).

    x = l * a + (1 - l) * b
    L = l * ce(z(x), y_a) + (1 - l) * ce(z(x), y_b).

Departures: DomainBed pairs domains, which mixes nothing with a single domain; here b is a permutation of a, as in the
paper. The method trains the suite's trunk. Optimiser, schedule, augmentation and selection are those of
full_finetune.py instead of DomainBed's (Adam, 5e-5, 5001 steps, crops and colour jitter), so that the two differ in the
mixing alone. Images are mixed after augmentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench import Batch, TrunkMethod
from fergen_bench.training.augment import beta_draws


@dataclass
class Mixup(TrunkMethod):
    """A network that changes evenly between training images is less certain where it saw none."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "domain generalization"
    static_step: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2e-3}}

    alpha: float = 0.2  # the share of the first image comes from Beta(alpha, alpha)

    def loss(self, batch: Batch) -> Tensor:
        share = batch.drawn("share", lambda generator: beta_draws(self.alpha, 1, generator))
        count = len(batch.images)
        partner = batch.drawn("partner", lambda generator: torch.randperm(count, generator=generator))
        images, labels = batch.images, batch.labels

        def classify(images: Tensor) -> Tensor:
            return self.adjusted(self.model(images).float())

        return pair_loss(classify, images, labels, images[partner], labels[partner], share)


def pair_loss(
    classify: Callable[[Tensor], Tensor], a: Tensor, labels_a: Tensor, b: Tensor, labels_b: Tensor, share: Tensor
) -> Tensor:
    """Return L for two batches.

    Args:
        classify: Returns logits (N, K) for inputs (N, ...).
        a: Inputs of the first batch, (N, ...).
        labels_a: Their labels, int64 (N,).
        b: Inputs of the second batch, (M, ...).
        labels_b: Their labels, int64 (M,).
        share: l, the share of a; one number.

    Returns:
        A scalar.
    """
    count = min(len(a), len(b))
    share = share.reshape(())
    logits = classify(share * a[:count] + (1 - share) * b[:count])
    return share * functional.cross_entropy(logits, labels_a[:count]) + (1 - share) * functional.cross_entropy(
        logits, labels_b[:count]
    )
