"""Move weights to the worst point near them, where sharpness-aware methods (SAM) take the gradient of a step."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor


def ascent(
    weights: Sequence[Tensor], gradients: Sequence[Tensor], rho: float, adaptive: bool = False
) -> tuple[list[Tensor], Tensor]:
    """Return the offset e of each weight, and the norm || a * g || over all weights.

    Args:
        weights: The weights w.
        gradients: g, of the same shapes.
        rho: The length of e; in the adaptive form that of e / |w|.
        adaptive: a is |w| in place of 1.
    """
    scaled = [weight.abs() * g for weight, g in zip(weights, gradients, strict=True)] if adaptive else list(gradients)
    norm = torch.stack([g.norm() for g in scaled]).norm()
    scale = rho / (norm + 1e-12)
    if adaptive:
        return [weight.abs() * g * scale for weight, g in zip(weights, scaled, strict=True)], norm
    return [g * scale for g in scaled], norm


@contextlib.contextmanager
def worst_point(weights: Iterable[Tensor], rho: float, adaptive: bool = False) -> Iterator[None]:
    """Keep weights at their worst point, by their present gradients, and restore them from a copy at the end.

    Args:
        weights: The weights; those without a gradient stay where they are.
        rho: See `ascent`.
        adaptive: See `ascent`.
    """
    moved: list[Tensor] = [weight for weight in weights if weight.grad is not None]
    before = [weight.detach().clone() for weight in moved]
    offsets, _ = ascent(before, [weight.grad for weight in moved if weight.grad is not None], rho, adaptive)
    with torch.no_grad():
        torch._foreach_add_(moved, offsets)
    try:
        yield
    finally:
        with torch.no_grad():
            torch._foreach_copy_(moved, before)
