"""Order the test images of a target as an online method receives them."""

from __future__ import annotations

import numpy as np

from fergen_bench.data.randomness import shuffled


def stream(labels: np.ndarray, order: str, size: int, *names: object) -> list[np.ndarray]:
    """Return the positions of the images in each batch of a stream.

    A last batch of a single image is added to the batch before it: statistics of one image are degenerate. With a size
    of 1 all batches have one image.

    Args:
        labels: Indices into EXPRESSIONS, int64 (N,). Only the order `sorted` reads them.
        order: `shuffled`; or `sorted`, where images of one expression come after each other, in random order.
        size: Images per batch.
        names: Names that the random order depends on.

    Returns:
        Positions int64 (size,) of each batch; all of them together are a permutation of 0 .. N - 1.
    """
    positions = shuffled(len(labels), "stream", *names)
    if order == "sorted":
        positions = positions[np.argsort(labels[positions], kind="stable")]
    ends = list(range(size, len(positions), size))
    if ends and size > 1 and len(positions) - ends[-1] == 1:
        ends.pop()
    return np.split(positions, ends)
