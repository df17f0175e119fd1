"""Find the linear layer whose outputs are the logits of a fitted method."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench.networks.network import Network
from fergen_bench.training.contract import CLASSES, Method


class LinearHead(NamedTuple):
    """A linear layer on features.

    Attributes:
        weight: (7, C).
        bias: (7,).
        features: Returns the features (B, C) of images uint8 (B, 3, height, width).
    """

    weight: Tensor
    bias: Tensor
    features: Callable[[Tensor], Tensor]


def linear_head(method: Method, device: torch.device) -> LinearHead | None:
    """Return the linear head of a fitted method, or None where its logits are not those of one linear layer.

    The head is the only `torch.nn.Linear` with seven outputs in `model`, or `weight` and `bias` of a method on the
    features of `encoder`. It is compared with `predict` on a few images of noise.

    Args:
        method: The fitted method.
        device: The device of the method.
    """
    head = _of_attributes(method) or _of_model(method)
    if head is None:
        return None
    noise = torch.randint(0, 256, (4, 3, 64, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    with torch.no_grad():
        logits, features = method.predict(noise.to(device)), head.features(noise.to(device))
        same = len(features) and torch.allclose(
            functional.linear(features, head.weight, head.bias).to(logits), logits, rtol=1e-3, atol=1e-3
        )
    return head if same else None


def _of_attributes(method: Method) -> LinearHead | None:
    encoder, weight, bias = (getattr(method, name, None) for name in ("encoder", "weight", "bias"))
    if not isinstance(encoder, Network) or not isinstance(weight, Tensor) or not isinstance(bias, Tensor):
        return None
    if weight.shape != (CLASSES, encoder.features) or bias.shape != (CLASSES,):
        return None
    return LinearHead(weight, bias, lambda images: encoder(images).to(weight.dtype))


def _of_model(method: Method) -> LinearHead | None:
    model = getattr(method, "model", None)
    layers = [
        layer
        for layer in (model.modules() if isinstance(model, nn.Module) else ())
        if isinstance(layer, nn.Linear) and layer.out_features == CLASSES and layer.bias is not None
    ]
    if len(layers) != 1:
        return None
    (layer,) = layers

    def features(images: Tensor) -> Tensor:
        seen = [layer.weight.new_empty(0, layer.in_features)]
        hook = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            method.predict(images)
        finally:
            hook.remove()
        return seen[-1].to(layer.weight.dtype)

    return LinearHead(layer.weight.detach(), layer.bias.detach(), features)
