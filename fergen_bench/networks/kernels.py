"""Faster forms of what networks compute, with the same results: compiled parts, half precision, resizing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear
from torch.nn.utils.fusion import fuse_conv_bn_weights

if TYPE_CHECKING:
    from torch import Tensor


_COMPILED: ContextVar[bool] = ContextVar("compiled", default=False)


@contextmanager
def compiled() -> Iterator[None]:
    """Run networks compiled within this context.

    Operations are fused, so the last digits of results differ. Compiling a network takes half a minute, or less if the
    cache of the compiler contains it.
    """
    before = _COMPILED.set(True)
    try:
        yield
    finally:
        _COMPILED.reset(before)


def is_compiling() -> bool:
    """Return True within a context of `compiled`."""
    return _COMPILED.get()


_EXPORTING: ContextVar[bool] = ContextVar("exporting", default=False)


@contextmanager
def exporting() -> Iterator[None]:
    """Run networks within this context with operations that every runtime of ONNX has, on images of any size.

    The results differ from those outside by rounding errors.
    """
    before = _EXPORTING.set(True)
    try:
        yield
    finally:
        _EXPORTING.reset(before)


def is_exporting() -> bool:
    """Return True within a context of `exporting`."""
    return _EXPORTING.get()


def fold_batch_norm(body: nn.Module) -> int:
    """Multiply batch norms into the convolutions before them, in place; results are equal up to rounding.

    A pair is folded only where the traced graph shows that the output of the convolution goes to the batch norm alone.
    A network that cannot be traced is left as it is. The names of modules do not change; a folded batch norm becomes an
    identity.

    Args:
        body: A network in evaluation mode that will not be trained.

    Returns:
        The number of batch norms that were folded.
    """
    modules = dict(body.named_modules())
    if not any(type(module) is nn.BatchNorm2d for module in modules.values()):
        return 0
    import torch.fx

    try:
        calls = [node for node in torch.fx.Tracer().trace(body).nodes if node.op == "call_module"]
    except Exception:  # tracing executes the code of the network, which may branch on its input
        return 0
    times = Counter(id(modules[node.target]) for node in calls)
    folded = 0
    for node in calls:
        before = node.args[0] if node.args else None
        if not isinstance(before, torch.fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        convolution, norm = modules[before.target], modules[node.target]
        if type(norm) is not nn.BatchNorm2d or norm.running_mean is None or norm.running_var is None:
            continue
        if type(convolution) not in {nn.Conv2d, PatchConvolution} or {times[id(convolution)], times[id(norm)]} != {1}:
            continue
        convolution.weight, convolution.bias = fuse_conv_bn_weights(
            convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        body.set_submodule(node.target, nn.Identity())
        folded += 1
    return folded


def store_half(body: nn.Module, dtype: torch.dtype) -> None:
    """Convert to half precision the weights that autocast would convert at every call; results are equal to the bit."""
    for module in body.modules():
        # Subclasses are excluded, because some compute with their weights before using them.
        if type(module) in {nn.Linear, NonDynamicallyQuantizableLinear, nn.Conv1d, nn.Conv2d, PatchConvolution}:
            module.to(dtype)
        elif isinstance(module, nn.MultiheadAttention):
            for weight in (module.in_proj_weight, module.in_proj_bias):
                if weight is not None:
                    weight.data = weight.data.to(dtype)


def half_type(device: torch.device) -> torch.dtype:
    """Return the type of frozen networks with the precision bf16: on a GPU it is fp16, as in CLIP's released code."""
    return torch.float16 if device.type == "cuda" else torch.bfloat16


def repeatable_attention(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which the gradients of attention are deterministic.

    The faster kernels of a GPU sum gradients in any order, unless torch raises for every non-deterministic operation.
    """
    if device.type != "cuda" or not torch.is_grad_enabled():
        return nullcontext()
    from torch.nn.attention import SDPBackend, sdpa_kernel

    return sdpa_kernel(SDPBackend.MATH)


def scoring_batch(device: torch.device) -> int:
    """Return the batch size for scoring, in images; on a GPU it is large enough that the host is not the bottleneck."""
    return 512 if device.type == "cuda" else 256


def resize(images: Tensor, size: int, interpolation: str = "bilinear") -> Tensor:
    """Resize images to a square, with antialiasing.

    The result equals PIL's up to one grey level, or a few where bicubic interpolation overshoots, which PIL clips
    between its two passes.

    Args:
        images: float (B, C, height, width) in 0..1.
        size: Side of the result in pixels.
        interpolation: `bilinear` or `bicubic`.

    Returns:
        float (B, C, size, size) in 0..1.
    """
    if is_exporting():
        height, width = images.shape[-2:]
        rows, columns = (_traced_resizing(side, size, interpolation) for side in (height, width))
        return (rows @ images @ columns.T).clamp(0.0, 1.0)
    if images.shape[-2:] == (size, size):
        return images
    if not images.is_cuda:
        return functional.interpolate(images, (size, size), mode=interpolation, antialias=True).clamp(0.0, 1.0)
    # Two matrix products compute the same sums in half the time on a GPU. They use float32 in every context.
    rows, columns = (_resizing(side, size, interpolation, images.device) for side in images.shape[-2:])
    with torch.autocast("cuda", enabled=False):
        return (rows @ images.float() @ columns.T).clamp_(0.0, 1.0)


@lru_cache(64)
def _resizing(length: int, size: int, interpolation: str, device: torch.device) -> Tensor:
    """Return the matrix (size, length) that resizes a line of pixels."""
    lines = torch.eye(length)[None, None]
    # Computed on the host, so that the copy is complete for every stream that uses it next.
    return functional.interpolate(lines, (size, length), mode=interpolation, antialias=True)[0, 0].to(device)


def _traced_resizing(length: int, size: int, interpolation: str) -> Tensor:
    """Return the matrix (size, length) that resizes a line of pixels, for a length that an export does not fix.

    The weights are those of `functional.interpolate` with antialiasing, on the CPU.
    """
    step = length / size
    stretch: Any = torch.sym_max(step, 1.0)
    centres = (torch.arange(size, dtype=torch.float32) + 0.5) * step
    pixels = torch.arange(length, dtype=torch.float32) + 0.5
    distance = ((pixels[None] - centres[:, None]) / stretch).abs()
    if interpolation == "bilinear":
        weights = (1.0 - distance).clamp(min=0.0)
    else:  # the cubic of Keys with a = -0.5
        near = (1.5 * distance - 2.5) * distance * distance + 1.0
        far = ((-0.5 * distance + 2.5) * distance - 4.0) * distance + 2.0
        weights = torch.where(distance < 1.0, near, torch.where(distance < 2.0, far, torch.zeros_like(distance)))
    return weights / weights.sum(1, keepdim=True)


class PatchConvolution(nn.Conv2d):
    """A convolution whose windows neither overlap nor leave gaps, computed as one matrix product.

    With channels last, cuDNN spends a third as long on the first layer of a vision transformer as on all other layers.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of float (B, C, height, width)."""
        (tall, wide), (height, width) = self.kernel_size, input.shape[-2:]
        if height % tall or width % wide:
            return super().forward(input)
        windows = input.permute(0, 2, 3, 1).unflatten(2, (-1, wide)).unflatten(1, (-1, tall)).transpose(2, 3)
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)
        return functional.linear(windows.flatten(3), weight, self.bias).permute(0, 3, 1, 2)


def use_products(body: nn.Module) -> None:
    """Replace the class of suitable convolutions by `PatchConvolution`; names and weights do not change."""
    for module in body.modules():
        if (
            type(module) is nn.Conv2d
            and module.kernel_size == module.stride != (1, 1)
            and (module.padding, module.dilation, module.groups) == ((0, 0), (1, 1), 1)
        ):
            module.__class__ = PatchConvolution
