"""Random numbers that depend on names and an index, never on the order of calls.

Each number is a hash of (stream, parameter name, index): SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) as a counter
generator. The same functions serve numpy (the renderer) and torch (augmentation on the device), because int64 wraps
silently in both. A sample meets the same noise whatever its batch, the number of workers, or the epoch at which a run
was resumed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from copy import copy
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from fergen_bench.data.elementary import cos, log, power

if TYPE_CHECKING:
    import torch

Integers = TypeVar("Integers", np.ndarray, "torch.Tensor")

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as int64
_MULTIPLY_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MULTIPLY_2 = -7723592293110705685  # 0x94D049BB133111EB


def seed_of(*names: object) -> int:
    """Return a seed in [0, 2**63) that depends on names only, on every machine and Python version.

    Example: `seed_of("augment", "web", 0)`.
    """
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def scramble(x: Integers) -> Integers:
    """Apply the SplitMix64 finaliser to each element of an int64 array.

    The shifts are masked because shifting an int64 to the right repeats its sign bit.
    """
    x = (x ^ ((x >> 30) & ((1 << 34) - 1))) * _MULTIPLY_1
    x = (x ^ ((x >> 27) & ((1 << 37) - 1))) * _MULTIPLY_2
    return x ^ ((x >> 31) & ((1 << 33) - 1))


def counters(index: Integers, seed: int) -> Integers:
    """Return one hashed counter for each index: int64 (N,) → int64 (N,)."""
    return scramble(index * _GOLDEN + _signed(seed))


def bits(counter: Integers, name: str) -> Integers:
    """Return 64 random bits per counter for the parameter `name`. A new parameter never changes another one's bits."""
    return scramble(scramble(counter + _signed(seed_of(name) * 0x9E3779B97F4A7C15)))


def uniform(counter: Integers, name: str) -> Integers:
    """Return one number in [0, 1) per counter, with 24 random bits, so that float32 (torch's result) is exact."""
    return ((bits(counter, name) >> 40) & ((1 << 24) - 1)) * 2.0**-24


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


class Draws:
    """The random numbers of the renderer: each method returns one value per index, as an array of shape (N,).

    The values have the same bits on every processor.

    Args:
        index: Integers (N,), one per image.
        stream: Names of the random stream.
    """

    def __init__(self, index: Sequence[int] | np.ndarray, *stream: object) -> None:
        self.index = np.asarray(index, np.int64)
        self.counter = counters(self.index, seed_of(*stream))

    def __len__(self) -> int:
        return len(self.index)

    def rows(self, selection: slice | np.ndarray) -> Draws:
        """Return the random numbers of some of the indices."""
        some = copy(self)
        some.index, some.counter = self.index[selection], self.counter[selection]
        return some

    def integers(self, name: str, below: int) -> np.ndarray:
        """Return integers in [0, below). The modulo bias is less than 2**-40 for below < 2**23."""
        return ((bits(self.counter, name) >> 1) & ((1 << 62) - 1)) % below

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Return uniform numbers in [low, high), float64 with 24 random bits."""
        return low + (high - low) * uniform(self.counter, name)

    def normal(self, name: str, mean: float = 0.0, deviation: float = 1.0) -> np.ndarray:
        """Return normal numbers, by the Box-Muller transform."""
        radius = np.sqrt(-2.0 * log(np.maximum(self.uniform(name + ".radius"), 1e-12)))
        return mean + deviation * radius * cos(2.0 * np.pi * self.uniform(name + ".angle"))

    def clipped_normal(self, name: str, mean: float, deviation: float) -> np.ndarray:
        """Return normal numbers clipped at 2.5 deviations, so that no face gets impossible proportions."""
        return self.normal(name, mean, deviation).clip(mean - 2.5 * deviation, mean + 2.5 * deviation)

    def kumaraswamy(self, name: str, a: float, b: float) -> np.ndarray:
        """Return numbers in [0, 1] of a beta-like distribution with a closed-form inverse (Kumaraswamy 1980)."""
        return power(1.0 - power(1.0 - self.uniform(name), 1.0 / b), 1.0 / a)

    def chance(self, name: str, probability: float) -> np.ndarray:
        """Return True with the given probability."""
        return self.uniform(name) < probability

    def choice(self, name: str, weights: np.ndarray | Sequence[float]) -> np.ndarray:
        """Return indices drawn by weight: one row of weights (K,) for all, or a row per index (N, K)."""
        cumulative = np.cumsum(np.asarray(weights, np.float64), axis=-1)
        cumulative = cumulative / cumulative[..., -1:]
        return (self.uniform(name)[:, None] >= cumulative).sum(-1).clip(0, cumulative.shape[-1] - 1)


def shuffled(count: int, *names: object) -> np.ndarray:
    """Return 0 .. count - 1 in an order that depends on the names only."""
    return np.argsort(counters(np.arange(count), seed_of(*names)), kind="stable")
