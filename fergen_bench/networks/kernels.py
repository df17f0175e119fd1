"""Faster forms of what networks compute, with the same results: compiled parts, half precision, resizing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

if TYPE_CHECKING:
    from torch import Tensor


_COMPILED: ContextVar[bool] = ContextVar("compiled", default=False)


@contextmanager
def compiled() -> Iterator[None]:
    """Networks run as torch compiles them here: operations are fused, so the last digits are others. To compile one
    takes half a minute, less where the compiler's own cache holds it.
    """
    before = _COMPILED.set(True)
    try:
        yield
    finally:
        _COMPILED.reset(before)


def _keep_half(body: nn.Module) -> None:
    """Keeps in fp16 the weights that autocast would make fp16 again at every call; what comes out is equal to the
    bit.
    """
    for module in body.modules():
        # No kinds derived from these: some compute with their weights before they are used.
        if type(module) in {nn.Linear, NonDynamicallyQuantizableLinear, nn.Conv1d, nn.Conv2d, PatchConvolution}:
            module.half()
        elif isinstance(module, nn.MultiheadAttention):
            for weight in (module.in_proj_weight, module.in_proj_bias):
                if weight is not None:
                    weight.data = weight.data.half()


def _half_precision(device: torch.device) -> torch.autocast:
    """Frozen networks run in fp16 on a GPU, as CLIP's reference code does."""
    return torch.autocast(device.type, torch.float16, enabled=device.type == "cuda")


def repeatable_attention(device: torch.device) -> AbstractContextManager[Any]:
    """Attention whose gradients are the same every time. The faster kernels of a GPU add them up in any order, unless
    torch is told to fail at all that is not deterministic.
    """
    if device.type != "cuda" or not torch.is_grad_enabled():
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


def scoring_batch(device: torch.device) -> int:
    """Faces at a time where nothing is learned: on a GPU so many that it, and not its host, sets the pace."""
    return 512 if device.type == "cuda" else 256


def resize(images: Tensor, size: int, interpolation: str = "bilinear") -> Tensor:
    """Float images to a square of `size`, antialiased: what PIL does, up to one grey level; to a few where bicubic
    overshoots, which PIL cuts off between its two passes.
    """
    if images.shape[-2:] == (size, size):
        return images
    if not images.is_cuda:
        return functional.interpolate(images, (size, size), mode=interpolation, antialias=True).clamp(0.0, 1.0)
    # The same sums as two products, which take a GPU half as long. They stay in float32 whatever the network runs in.
    rows, columns = (_resizing(side, size, interpolation, images.device) for side in images.shape[-2:])
    with torch.autocast("cuda", enabled=False):
        return (rows @ images.float() @ columns.T).clamp_(0.0, 1.0)


@lru_cache(64)
def _resizing(length: int, size: int, interpolation: str, device: torch.device) -> Tensor:
    """What resizing does to a line of pixels, as a matrix (size, length)."""
    lines = torch.eye(length)[None, None]
    # Made on the host: whichever stream asks for it next, the copy is there.
    return functional.interpolate(lines, (size, length), mode=interpolation, antialias=True)[0, 0].to(device)


class PatchConvolution(nn.Conv2d):
    """A convolution whose windows neither overlap nor leave a gap, as one product: the first layer of a vision
    transformer takes cuDNN as long as a third of the rest, channels last.
    """

    def forward(self, input: Tensor) -> Tensor:
        (tall, wide), (height, width) = self.kernel_size, input.shape[-2:]
        if height % tall or width % wide:
            return super().forward(input)
        windows = input.permute(0, 2, 3, 1).unflatten(2, (-1, wide)).unflatten(1, (-1, tall)).transpose(2, 3)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(windows.flatten(3), weight, self.bias).permute(0, 3, 1, 2)


def _as_products(body: nn.Module) -> None:
    """Turns the convolutions of a body that can be into products; names and weights stay."""
    for module in body.modules():
        if (
            type(module) is nn.Conv2d
            and module.kernel_size == module.stride != (1, 1)
            and (module.padding, module.dilation, module.groups) == ((0, 0), (1, 1), 1)
        ):
            module.__class__ = PatchConvolution
