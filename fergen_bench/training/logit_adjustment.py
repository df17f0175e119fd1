"""Correct logits for the class frequencies of the training images, in the loss or after training.

Source: Menon et al., "Long-tail learning via logit adjustment" (ICLR 2021); google-research/google-research, folder
logit_adjustment, at 1d4d2f1. The classes have the frequencies p, and tau is 1 in the paper.

    o_k = log(p_k^tau + 1e-12)
    in the loss:     L = ce(z + o, y), and the plain z are scored
    after training:  z - o of a network that was trained without the first.

A network gets one of the two, never both: each makes the mean recall of the classes the objective.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fergen_bench.data.domain import Split


def class_counts(split: Split, sources_alike: bool = False) -> Tensor:
    """Return the training images of each class that a method sees, (7,).

    Args:
        split: The training images.
        sources_alike: The method sees as many images of each source, whatever their number. The counts are then those
            of as many images, as shares of which each class has the mean of its frequencies in the sources.
    """
    counts = torch.from_numpy(split.counts)
    if not sources_alike or len(split.pieces) == 1:
        return counts
    labels, source = torch.from_numpy(split.labels), torch.from_numpy(split.domain_index)
    each = [torch.bincount(labels[source == place], minlength=len(counts)) for place in range(len(split.pieces))]
    return torch.stack([part / part.sum() for part in each]).double().mean(0) * len(labels)


def prior_offset(counts: Tensor, tau: float) -> Tensor:
    """Return the offset o of each class.

    As released, the constant is added after the power, so a class without images has the same offset for every tau
    above 0.

    Args:
        counts: Training images of each class, (K,).
        tau: Share of the correction; 0 corrects nothing, 1 completely.

    Returns:
        float64 (K,).
    """
    frequencies = counts.double() / counts.sum()
    return torch.log(frequencies**tau + 1e-12)


def corrected_logits(logits: Tensor, counts: Tensor, tau: float) -> Tensor:
    """Return the logits of a trained network without the class frequencies of its training images: z - o.

    Args:
        logits: z, (N, K), of a network whose loss had no such correction.
        counts: Training images of each class, (K,).
        tau: Share of the correction.

    Returns:
        (N, K).
    """
    return logits - prior_offset(counts, tau).to(logits)
