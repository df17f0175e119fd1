"""Numeric vectors from the reference implementations, and how close we must come to them.

The folder is tests/golden, or the one that FERGEN_GOLDEN names: another set of the same files, with other shapes, seeds
and operating points. So no test may know a shape or a constant of the first set.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(os.environ.get("FERGEN_GOLDEN") or Path(__file__).parent / "golden")
LIMITS = {torch.float64: 1e-9, torch.float32: 2e-5}
PRECISIONS = [torch.float64, torch.float32]


class Golden:
    """One file, in one precision: inputs by name, results by name without their suffix."""

    def __init__(self, name: str, dtype: torch.dtype) -> None:
        self._tensors = load_file(FOLDER / f"{name}.safetensors")
        self._suffix = "_f64" if dtype == torch.float64 else "_f32"
        self.dtype = dtype

    def __call__(self, name: str, grad: bool = False) -> Tensor:
        """An input, floats in the precision under test."""
        tensor = self._tensors[name]
        if tensor.is_floating_point():
            tensor = tensor.to(self.dtype)
        return tensor.requires_grad_() if grad else tensor

    def holds(self, name: str) -> bool:
        """Whether there is such an input."""
        return name in self._tensors

    def has(self, name: str) -> bool:
        """Whether a result is stored in this precision."""
        return name + self._suffix in self._tensors

    def shape(self, name: str) -> torch.Size:
        """The shape of a result."""
        return self._tensors[name + "_f64"].shape

    def check(self, name: str, computed: Tensor, limit: float | None = None) -> None:
        """Fails where max|c - r| / max|r| is above the limit. What is not stored in this precision is passed over."""
        if not self.has(name):
            other = name + ("_f32" if self._suffix == "_f64" else "_f64")
            assert other in self._tensors, f"there is no result {name!r}"
            return
        stored = self._tensors[name + self._suffix].double()
        computed = computed.detach().double()
        assert computed.shape == stored.shape, f"{name}: {tuple(computed.shape)} instead of {tuple(stored.shape)}"
        error = (computed - stored).abs().max() / stored.abs().max().clamp_min(1e-12)
        assert error <= (limit or LIMITS[self.dtype]), f"{name}: off by {error:.3g}"

    def exact(self, name: str, computed: Tensor) -> None:
        assert torch.equal(computed, self._tensors[name]), name
