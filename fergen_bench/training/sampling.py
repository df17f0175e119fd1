"""The images that a training epoch contains, in their order.

With `natural` sampling, an epoch contains each image once, in a random order. With `balanced` sampling, it contains as
many images, drawn with replacement, and each class that occurs is equally likely. The weights of balanced sampling are
those of ImbalancedDatasetSampler (github.com/ufoym/imbalanced-dataset-sampler at 01cb129).
"""

from __future__ import annotations

import torch
from torch import Tensor

from fergen_bench.error import BenchError

SAMPLINGS = ("natural", "balanced")


def is_balanced(sampling: str) -> bool:
    """Return True for `balanced` and False for `natural`.

    Raises:
        BenchError: The sampling is neither.
    """
    if sampling not in SAMPLINGS:
        raise BenchError(f"sampling is {sampling!r}; use {' or '.join(SAMPLINGS)}")
    return sampling == "balanced"


def balanced_weights(labels: Tensor) -> Tensor:
    """Return the weight of each image: 1 / the number of images of its class.

    Args:
        labels: int64 (N,).

    Returns:
        float64 (N,). A class without images has the weight 0, so that it is never drawn.
    """
    return labels.bincount()[labels].double().reciprocal()


def balanced_draw(labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Draw images with replacement, in proportion to `balanced_weights`.

    Args:
        labels: Labels of the images, int64 (N,) on the CPU.
        count: Number of draws.
        generator: A CPU generator.

    Returns:
        Indices of the drawn images, int64 (count,).
    """
    return torch.multinomial(balanced_weights(labels), count, replacement=True, generator=generator)
