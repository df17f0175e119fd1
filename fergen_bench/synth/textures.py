"""Fixed banks of Gaussian noise, from which each image cuts its own piece.

The banks are the same on every machine, up to the last bits of an FFT.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from fergen_bench.data.randomness import Draws

_SIDE = 256
_SPREAD = {"fine": (0.0, 0.0), "small": (2.0, 2.0), "middle": (6.0, 6.0), "large": (14.0, 14.0), "streaks": (9.0, 0.7)}
"""Standard deviations (down, across) of the Gaussian that smooths each bank, in pixels of a 64-pixel image."""


@cache
def _bank(kind: str) -> np.ndarray:
    """Return noise (256, 256) of zero mean and unit deviation that tiles without a seam."""
    white = Draws(np.arange(_SIDE * _SIDE), "texture bank").normal("white").reshape(_SIDE, _SIDE)
    down, across = _SPREAD[kind]
    if not down:
        return white.astype(np.float32)
    frequency = np.fft.fftfreq(_SIDE)
    passed = np.exp(-2 * np.pi**2 * ((down * frequency[:, None]) ** 2 + (across * frequency[None]) ** 2))
    smooth = np.fft.ifft2(np.fft.fft2(white) * passed).real
    return (smooth / smooth.std()).astype(np.float32)


@cache
def _enlarged(kind: str, size: int) -> Tensor:
    """Return the bank at the scale of an image of `size` pixels, with a margin of one image."""
    zoom = size / 64.0
    index = (np.arange(int(_SIDE * zoom) + size) / zoom).astype(int) % _SIDE
    return torch.from_numpy(_bank(kind)[np.ix_(index, index)])


def cut(kind: str, draws: Draws, name: str, size: int) -> Tensor:
    """Return a piece of a bank per image, (B, size, size).

    Args:
        kind: The name of the bank.
        draws: Random numbers, one per image.
        name: The name of the random offset. The same name cuts the same piece at every size.
        size: Side of the images in pixels.
    """
    bank = _enlarged(kind, size)
    rows, columns = ((draws.integers(f"{name}.{axis}", _SIDE) * size // 64).tolist() for axis in ("row", "column"))
    return torch.stack(
        [bank[row : row + size, column : column + size] for row, column in zip(rows, columns, strict=True)]
    )
