"""Load a network of timm or open_clip together with the classifier that its weights include."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from fergen_bench.error import BenchError
from fergen_bench.networks.loading import load_network
from fergen_bench.networks.name import NetworkName, parse_network
from fergen_bench.networks.network import Network, Preprocessing
from fergen_bench.networks.weights_file import WeightSets, fill, find_fit, read_weights

HEADS = ("head", "fc", "classifier", "probe", "linear")
"""Names of a linear classifier on a tower of open_clip."""
MOST_CLASSES = 64


class TowerWithHead(nn.Module):
    """An image tower of open_clip and a linear classifier on its features."""

    def __init__(self, tower: nn.Module, head: str, features: int, classes: int) -> None:
        super().__init__()
        self.visual, self._head, self.num_classes = tower, head, classes  # num_classes as networks of timm have it
        setattr(self, head, nn.Linear(features, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (B, classes) of images (B, 3, height, width)."""
        return getattr(self, self._head)(self.visual(images))


def load_classifier(name: str, device: torch.device) -> tuple[nn.Module, Preprocessing, tuple[str, ...]]:
    """Return a network with its classifier, in evaluation mode.

    Args:
        name: The network and the file of its weights, such as timm:resnet18//data/fer.pth.
        device: The device.

    Returns:
        The network, which maps normalised images to scores; the preprocessing that it expects; and notes on its
        weights.

    Raises:
        BenchError: The file has no classifier, or does not fit the network.
    """
    parsed = parse_network(name, "model")
    if parsed.path is None:
        raise BenchError(f"{name}: name the file of the weights: {parsed.family}:{parsed.model}//path/to/weights")
    sets = read_weights(parsed.path)
    tower = load_network(str(NetworkName(parsed.family, parsed.model, scratch=True)), torch.device("cpu"))
    builders = _timm(parsed.model, sets) if parsed.family == "timm" else _open_clip(tower, sets)
    body, notes = _fitting(parsed.path, name, sets, builders)
    return body.eval().requires_grad_(False).to(device), tower.preprocessing, notes


def _timm(model: str, sets: WeightSets) -> Iterator[Callable[[], nn.Module]]:
    """Yield functions that build the network with as many classes as a classifier in the file has."""
    import timm

    for classes in dict.fromkeys(len(weight) for _, weight in _classifiers(sets)):
        yield partial(timm.create_model, model, pretrained=False, num_classes=classes)


def _open_clip(tower: Network, sets: WeightSets) -> Iterator[Callable[[], nn.Module]]:
    for head, weight in _classifiers(sets):
        if head in HEADS and weight.shape[1] == tower.features:
            yield partial(TowerWithHead, tower.body, head, tower.features, len(weight))


def _classifiers(sets: WeightSets) -> list[tuple[str, Tensor]]:
    """Return the layers of a file that may be a classifier, with their weights: one per name and number of classes."""
    found: dict[tuple[str, int], tuple[str, Tensor]] = {}
    for weights in sets.values():
        for name, weight in weights.items():
            *_, layer, kind = ("", *name.split("."))
            if kind == "weight" and weight.ndim == 2 and 2 <= len(weight) <= MOST_CLASSES:
                found.setdefault((layer, len(weight)), (layer, weight))
    return list(found.values())


def _fitting(
    path: Path, name: str, sets: WeightSets, builders: Iterator[Callable[[], nn.Module]]
) -> tuple[nn.Module, tuple[str, ...]]:
    """Return the first network that the weights of a file fit, and notes."""
    fault: BenchError | None = None
    for build in builders:
        body = build()
        try:
            return body, fill(body, find_fit(sets, body), path, name)
        except BenchError as error:
            fault = fault or error
    raise fault or BenchError(
        f"{path}: these weights have no classifier of 2 to {MOST_CLASSES} classes for {name.partition('/')[0]}; save "
        f"the whole model, with its last layer"
    )
