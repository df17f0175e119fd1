"""Compare images by the frozen features of a network, to refine the search for near-duplicates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from fergen_bench.data.domain import Domain
from fergen_bench.datasets.near_duplicates import Refinement
from fergen_bench.execution.fleet import resolve_precision
from fergen_bench.networks.loading import load_network
from fergen_bench.progress import Progress


def feature_similarity(name: str, limit: float, cache: Path, progress: Progress, device: str = "cpu") -> Refinement:
    """Return a refinement that counts images as near-duplicates where the cosine of their features reaches a limit.

    Features stay on the disk; only those of the candidate pairs are read.

    Args:
        name: Name of the network.
        limit: The least cosine of a near-duplicate.
        cache: Folder of stored features.
        progress: Receives the progress of computing features.
        device: Device that computes them.
    """
    # In the precision that runs on this device usually have, so that they share the stored features.
    network = load_network(name, torch.device(device)).freeze(cache, progress, resolve_precision(None, device))

    def features(domains: Sequence[Domain], rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), network.features), np.float32)
        for number in np.unique(rows[:, 0]):
            here = rows[:, 0] == number
            found[here] = network.of_rows(domains[number], rows[here, 1])
        return found

    def similarity(domains: Sequence[Domain], pairs: np.ndarray) -> np.ndarray:
        sides = [features(domains, pairs[:, side]) for side in (0, 1)]
        norms = [np.linalg.norm(side, axis=1) for side in sides]
        return np.einsum("nc,nc->n", *sides) / (norms[0] * norms[1])

    return Refinement(f"cosine of the features of {name.partition('//')[0]} {network.digest[:6]}", limit, similarity)
