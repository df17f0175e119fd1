"""Logarithm, exponential, power, sine and cosine with the same bits on every processor.

numpy and the C library choose an implementation of these functions by the instructions of the processor, and the last
bits of their results differ. The functions here consist of sums, products, quotients and scaling by powers of two,
which IEEE 754 rounds in one way only. Their errors are a few units in the last place of float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Constants in two parts: multiples of the first by small integers are exact.
_LN2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)
_HALF_PI = (1.57079632673412561417, 6.07710050650619224932e-11)
_PER_LN2 = 1.44269504088896340736

_LOGARITHM = [2.0 / (2 * k + 1) for k in range(12)]
_EXPONENTIAL = [1.0 / math.factorial(k) for k in range(15)]
_SINE = [(-1.0) ** k / math.factorial(2 * k + 1) for k in range(9)]
_COSINE = [(-1.0) ** k / math.factorial(2 * k) for k in range(10)]


def log(x: np.ndarray) -> np.ndarray:
    """Return the natural logarithm of positive numbers, float64."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    small = mantissa < math.sqrt(0.5)
    mantissa = np.where(small, 2.0 * mantissa, mantissa)
    ratio = (mantissa - 1.0) / (mantissa + 1.0)
    whole = (exponent - small).astype(np.float64)
    return whole * _LN2[0] + (whole * _LN2[1] + ratio * _series(ratio * ratio, _LOGARITHM))


def exp(x: np.ndarray) -> np.ndarray:
    """Return e to the power of numbers between -700 and 700, float64."""
    x = np.asarray(x, np.float64)
    whole = np.rint(x * _PER_LN2)
    rest = (x - whole * _LN2[0]) - whole * _LN2[1]
    return np.ldexp(_series(rest, _EXPONENTIAL), whole.astype(np.int32))


def power(base: np.ndarray, exponent: np.ndarray | float) -> np.ndarray:
    """Return numbers that are not negative to the power of a positive exponent, float64."""
    base = np.asarray(base, np.float64)
    positive = base > 0.0
    return np.where(positive, exp(exponent * log(np.where(positive, base, 1.0))), 0.0)


def cos(x: np.ndarray) -> np.ndarray:
    """Return the cosine of angles between -1000 and 1000 radians, float64."""
    return _wave(x, 0)


def sin(x: np.ndarray) -> np.ndarray:
    """Return the sine of angles between -1000 and 1000 radians, float64."""
    return _wave(x, 3)


def _wave(x: np.ndarray, quarters: int) -> np.ndarray:
    """Return the cosine of angles plus a number of right angles."""
    x = np.asarray(x, np.float64)
    whole = np.rint(x * (2.0 / math.pi))
    rest = (x - whole * _HALF_PI[0]) - whole * _HALF_PI[1]
    square = rest * rest
    quarter = (whole.astype(np.int64) + quarters) & 3
    size = np.where(quarter & 1, rest * _series(square, _SINE), _series(square, _COSINE))
    return np.where((quarter == 1) | (quarter == 2), -size, size)


def _series(x: np.ndarray, coefficients: Sequence[float]) -> np.ndarray:
    """Return the polynomial with these coefficients, the constant first."""
    total = np.full_like(x, coefficients[-1])
    for coefficient in reversed(coefficients[:-1]):
        total *= x
        total += coefficient
    return total
