"""Numeric vectors from the reference implementations, and the tolerances of comparisons with them.

The folder is tests/golden, or the one that FERGEN_GOLDEN names: another set of the same files, with other shapes, seeds
and operating points. So no test may know a shape or a constant of the first set.

Every entry of a file must be used by the test that reads the file, and every result compared in both precisions: what a
file lacks in one precision is compared with the other, at the limit of float32. After each test `account` fails where
nothing was compared or an entry was passed over, and prints what was compared with what (pytest -rP shows it).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import ClassVar

import torch
from safetensors.torch import load_file
from torch import Tensor

FOLDER = Path(os.environ.get("FERGEN_GOLDEN") or Path(__file__).parent / "golden")
LIMITS = {torch.float64: 1e-9, torch.float32: 2e-5}
PRECISIONS = [torch.float64, torch.float32]
SUFFIXES = {torch.float64: "_f64", torch.float32: "_f32"}
UNUSED: Mapping[str, Mapping[str, str]] = {
    "dann": {"class_embedding": "it belongs to cdann: this discriminator is not conditioned on the class"},
    "eac": {"flip_grid": "the method reverses the axis of a map instead of sampling it on a grid"},
    "exp_clip": {
        **dict.fromkeys(
            ("llm_tokens", "train_*", "loss*", "logits_per_image*", "grad_*"),
            "the method reads a trained projection: training one needs a language model",
        ),
        **dict.fromkeys(("video_*", "frames_*", "dynamic_*"), "runs score images, not videos"),
    },
    "poster_pp": {"unused_fusion_parameters": "the method leaves them out"},
    "sagnet": {"alpha_content*": "the reference draws them and does not use them"},
    "tip_adapter": {"test_labels": "no result depends on them"},
    "latent_ofer": dict.fromkeys(
        ("hybrid_*", "pixel_mask", "feature_mask_from_pixel_mask", "gan_*"),
        "the method is the classifier alone: reconstruction and its adversary need images that were never released",
    ),
}
"""File → patterns of entries that no method can use → why."""


class Golden:
    """One file, in one precision: inputs by name, results by name without their suffix."""

    opened: ClassVar[list[Golden]] = []

    def __init__(self, name: str, dtype: torch.dtype, but: Sequence[str] = (), compares: bool = True) -> None:
        """Read a file.

        Args:
            name: The name of the file.
            dtype: the precision under test.
            but: patterns of entries that another test of the same file answers for.
            compares: the test compares results and answers for the whole file, not for some inputs.
        """
        self.name, self.dtype, self.compares = name, dtype, compares
        self._tensors = load_file(FOLDER / f"{name}.safetensors")
        self._suffix = SUFFIXES[dtype]
        self._but = (*but, *UNUSED.get(name, ()))
        self.used: set[str] = set()
        self.compared: dict[str, str] = {}
        self.opened.append(self)

    def __call__(self, name: str, grad: bool = False) -> Tensor:
        """An input, floats in the precision under test."""
        tensor = self._tensors[name]
        self.used.add(name)
        if tensor.is_floating_point():
            tensor = tensor.to(self.dtype)
        return tensor.requires_grad_() if grad else tensor

    def holds(self, name: str) -> bool:
        """Return True if the file contains such an input."""
        return name in self._tensors

    def names(self, prefix: str) -> list[str]:
        """Return the rest of the names of inputs with a prefix."""
        return sorted(name.removeprefix(prefix) for name in self._tensors if name.startswith(prefix))

    def shape(self, name: str) -> torch.Size:
        """The shape of a result."""
        return self._tensors[name + "_f64"].shape

    def check(self, name: str, computed: Tensor, limit: float | None = None) -> None:
        """Fails where max|c - r| / max|r| is above the limit."""
        key, limit = name + self._suffix, limit or LIMITS[self.dtype]
        if key not in self._tensors:
            key = next((name + suffix for suffix in SUFFIXES.values() if name + suffix in self._tensors), key)
            limit = max(limit, LIMITS[torch.float32])
        assert key in self._tensors, f"there is no result {name!r}"
        stored = self._tensors[key].double()
        self._compare(name, key)
        computed = computed.detach().double()
        assert computed.shape == stored.shape, f"{name}: {tuple(computed.shape)} instead of {tuple(stored.shape)}"
        error = (computed - stored).abs().max() / stored.abs().max().clamp_min(1e-12)
        assert error <= limit, f"{name}: off by {error:.3g}"

    def exact(self, name: str, computed: Tensor) -> None:
        """Fails where a result that has no precision differs."""
        self._compare(name, name)
        assert torch.equal(computed, self._tensors[name]), name

    def same(self, name: str, computed: Tensor) -> None:
        """Fails where flags that are stored per precision differ."""
        self._compare(name, name + self._suffix)
        stored = self._tensors[name + self._suffix]
        assert torch.equal(computed.to(stored.dtype), stored), name

    def _compare(self, name: str, key: str) -> None:
        assert self._tensors[key].numel(), f"{name} is empty"
        self.used.add(key)
        self.compared[name] = key

    def passed_over(self, used: set[str]) -> list[str]:
        """Entries that a test should have used. Of results in two precisions one belongs to the other run."""
        other = next(suffix for dtype, suffix in SUFFIXES.items() if dtype != self.dtype)
        return [
            key
            for key in sorted(set(self._tensors) - used)
            if not (key.endswith(other) and key.removesuffix(other) + self._suffix in self._tensors)
            and not any(fnmatchcase(key, pattern) for pattern in self._but)
        ]


def account() -> None:
    """Fails where a test compared nothing with a file, or passed entries over; prints what it compared."""
    opened, Golden.opened[:] = list(Golden.opened), []
    for golden in (golden for golden in opened if golden.compares):
        used = {key for other in opened if other.name == golden.name for key in other.used}
        apart = [key for name, key in golden.compared.items() if key not in {name, name + SUFFIXES[golden.dtype]}]
        print(f"{golden.name}, {golden.dtype}: {len(golden.compared)} results compared")
        if apart:
            print(f"  with the other precision, which alone is stored: {', '.join(apart)}")
        for pattern, why in UNUSED.get(golden.name, {}).items():
            print(f"  unused: {pattern}, since {why}")
        assert golden.compared, f"{golden.name}: nothing was compared in {golden.dtype}"
        passed_over = golden.passed_over(used)
        assert not passed_over, f"{golden.name}: entries that nothing looks at in {golden.dtype}: {passed_over}"
