"""Adapt the normalisation layers of a fitted network to test images: what TENT and SAR share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fergen_bench.error import BenchError
from fergen_bench.networks.network import Network
from fergen_bench.training.contract import Method

Normalisation = nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm


def trained_network(base: Method, name: str) -> nn.Module:
    """Return the network that a fitted method trained, in evaluation mode and without gradients.

    Args:
        base: The fitted method.
        name: Name of the method that adapts it, for the error.

    Raises:
        BenchError: It trained none, as a method on frozen features.
    """
    model = getattr(base, "model", None)
    if not isinstance(model, nn.Module):
        raise BenchError(
            f"{name}: its base, {type(base).__name__}, trains no network whose normalisation could adapt; leave base "
            f"out, or choose one that does, with every parameter that its runs changed, such as --set "
            f"'base=full_finetune backbone=trunk learning_rate=0.004'"
        )
    return model.eval().requires_grad_(False)


def normalisations(model: nn.Module) -> dict[str, Normalisation]:
    """Return the normalisation layers with scale and shift by name, without those of frozen networks."""
    frozen = [f"{name}." for name, part in model.named_modules() if isinstance(part, Network) and part.frozen]
    return {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, Normalisation) and layer.weight is not None and not name.startswith(tuple(frozen))
    }


def use_batch_statistics(layers: Sequence[nn.Module], images: int, name: str) -> None:
    """Let batch norms use the statistics of each batch, and delete those of the training.

    Args:
        layers: Layers; those other than batch norms stay as they are.
        images: Images per batch.
        name: Name of the method, for the error.

    Raises:
        BenchError: A batch has one image.
    """
    for layer in layers:
        if not isinstance(layer, nn.BatchNorm2d):
            continue
        if images < 2:
            raise BenchError(
                f"{name}: stream_batch is {images}, and the batch norms of its base take statistics from a batch; "
                f"give 2 images or more, such as --set stream_batch=16"
            )
        layer.track_running_stats, layer.running_mean, layer.running_var = False, None, None


def scale_and_shift(layers: Sequence[Normalisation]) -> list[nn.Parameter]:
    """Return scale and shift of layers, with gradients enabled."""
    found = [parameter for layer in layers for parameter in (layer.weight, layer.bias) if parameter is not None]
    for parameter in found:
        parameter.requires_grad_()
    return found


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of softmax(logits (N, K)), (N,), in nats."""
    return -(logits.softmax(1) * logits.log_softmax(1)).sum(1)


@torch.no_grad()
def restore(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Set parameters to values."""
    for parameter, value in zip(parameters, values, strict=True):
        parameter.copy_(value)
