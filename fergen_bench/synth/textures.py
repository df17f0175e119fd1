"""Fixed banks of Gaussian noise, from which each image cuts its own piece. The banks are the same on every machine."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np

from fergen_bench.data.randomness import Draws

_SIDE = 256
_SPREAD = {"small": (2.0, 2.0), "middle": (6.0, 6.0), "large": (14.0, 14.0), "streaks": (9.0, 0.7)}
"""Standard deviations (down, across) of the Gaussian that smooths each bank, in pixels of a 64-pixel image."""
_GRID = 2.0**-17
"""Step to which smoothed noise is rounded. The last bits of an FFT differ between processors; no value is so close to
the middle between two steps that they matter."""


@cache
def _bank(kind: str) -> np.ndarray:
    """Return noise, float32 (256, 256), of zero mean and unit deviation that tiles without a seam."""
    noise = _white() if kind == "fine" else np.rint(smoothed(*_SPREAD[kind]) / _GRID) * _GRID
    return noise.astype(np.float32)


def _white() -> np.ndarray:
    return Draws(np.arange(_SIDE * _SIDE), "texture bank").normal("white").reshape(_SIDE, _SIDE)


def smoothed(down: float, across: float) -> np.ndarray:
    """Return smooth noise of unit deviation, float64 (256, 256), before it is rounded."""
    frequency = np.fft.fftfreq(_SIDE)
    passed = np.exp(-2 * np.pi**2 * ((down * frequency[:, None]) ** 2 + (across * frequency[None]) ** 2))
    smooth = np.fft.ifft2(np.fft.fft2(_white()) * passed).real
    return smooth / smooth.std()


@cache
def _enlarged(kind: str, size: int) -> np.ndarray:
    """Return the bank at the scale of an image of `size` pixels, with a margin of one image."""
    zoom = size / 64.0
    index = (np.arange(int(_SIDE * zoom) + size) / zoom).astype(int) % _SIDE
    return _bank(kind)[np.ix_(index, index)]


def cut(
    kind: str,
    draws: Draws,
    name: str,
    size: int,
    corners: Sequence[tuple[int, int]] = (),
    shape: tuple[int, int] = (0, 0),
) -> np.ndarray:
    """Return a piece of a bank per image, float32 (B, size, size), or a part of that piece.

    Args:
        kind: The name of the bank.
        draws: Random numbers, one per image.
        name: The name of the random offset. The same name cuts the same piece at every size.
        size: Side of the images in pixels.
        corners: Top and left of the wanted part of each image, in pixels. Empty for the whole image.
        shape: Height and width of the wanted part.
    """
    bank = _enlarged(kind, size)
    rows, columns = ((draws.integers(f"{name}.{axis}", _SIDE) * size // 64).tolist() for axis in ("row", "column"))
    height, width = shape if corners else (size, size)
    piece = np.empty((len(rows), height, width), np.float32)
    for image, (top, left) in enumerate(corners or [(0, 0)] * len(rows)):
        row, column = rows[image] + top, columns[image] + left
        piece[image] = bank[row : row + height, column : column + width]
    return piece
