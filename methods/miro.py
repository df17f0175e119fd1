"""MIRO: keep the intermediate features of a network close to those of its pretrained copy while it is fine-tuned.

Source: Cha et al., "Domain Generalization by Mutual-Information Regularization with Pre-trained Models" (ECCV 2022);
github.com/kakaobrain/miro at 5238455. A frozen copy of the pretrained network sees the same augmented images. Layer l
has the features f_l, the copy the features f0_l, and every channel of the layer a learned bias b_l.

    v_l = softplus(b_l) + 1e-5,  and v_l = 0.1 at the start
    R = sum over l of  mean over all elements of ((f_l - f0_l)^2 / v_l + log v_l) / 2
    L = ce(z, y) + 0.1 R.

The mean encoder of the paper is the identity, as released. The layers are the stem and the stages. Batch norm stays in
evaluation mode in both networks. The biases have ten times the learning rate. R is log(0.1) / 2 per layer before the
first step, so losses below zero are usual. Domains are not compared: the images of all sources are one batch, and one
source is enough.

Departures: the trunk is the suite's. Optimiser, schedule, augmentation and selection are those of full_finetune.py
instead of DomainBed's (Adam, 3e-5, 5001 steps, crops and colour jitter), so that the two differ in R alone. In a vision
transformer the layers are the ends of the four quarters of its blocks (released: its own list per network). Dropout
before the head, which was searched between 0 and 0.5, is not used. On a GPU both networks compute in half precision,
and R in float32.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, BenchError, Context, TrunkMethod


@dataclass
class Miro(TrunkMethod):
    """A network that stays close to its pretrained features loses less of what they share with other domains."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "domain generalization"
    # The learning rate is the best of protocols/learning-rate.yaml on web and film.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    regularisation: float = 0.1  # lambda, the weight of R
    variance: float = 0.1  # v before the first step
    bias_rate: float = 10.0  # learning rate of the biases, as a multiple of that of the network
    layers: tuple[str, ...] = ()  # modules of the trunk whose features are compared; empty: its stem and its stages

    def build(self, ctx: Context) -> nn.Module:
        if not self.variance > EPSILON:
            raise BenchError(f"miro: variance is {self.variance:g}; it must be more than {EPSILON:g}")
        self.network = ctx.backbone(self.trunk, trainable=True)
        self.pretrained = ctx.backbone(self.trunk)
        self._names = chosen_layers(self.network.body, self.layers, self.trunk)
        blank = torch.zeros(1, 3, self.network.size, self.network.size, device=ctx.device)
        with torch.no_grad(), recorded(self.pretrained.body, self._names) as features:
            self.pretrained(blank)
        encoders = [VarianceEncoder(layer.dim(), channels(layer), self.variance) for layer in features]
        head = nn.Linear(self.network.features, len(EXPRESSIONS))
        return nn.ModuleDict({"network": self.network, "head": head, "variances": nn.ModuleList(encoders)})

    def parameter_groups(self) -> list[dict[str, Any]]:
        trained = [*self.model["network"].parameters(), *self.model["head"].parameters()]
        rate = self.learning_rate * self.bias_rate
        return [{"params": trained}, {"params": list(self.model["variances"].parameters()), "lr": rate}]

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        for layer in self.network.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.eval()
        with ExitStack() as stack:
            before, after = (
                stack.enter_context(recorded(network.body, self._names)) for network in (self.pretrained, self.network)
            )
            self.pretrained(batch.images)
            logits = self.model["head"](self.network(batch.images)).float()
        terms = regularisers(after, before, [encoder() for encoder in self.model["variances"]])
        return {
            "classification": functional.cross_entropy(self.adjusted(logits), batch.labels),
            "regularisation": self.regularisation * terms.sum(),
        }

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model["head"](self.network(images))
        return logits


EPSILON = 1e-5


class VarianceEncoder(nn.Module):
    """The variance of each channel of a layer, which does not depend on the image.

    Args:
        dimensions: Of the layer's features: 4 for maps (N, C, H, W), else the channels come last.
        channels: C.
        variance: The variance at the start.
        epsilon: The smallest variance.
    """

    def __init__(self, dimensions: int, channels: int, variance: float, epsilon: float = EPSILON) -> None:
        super().__init__()
        shape = [1] * dimensions
        shape[1 if dimensions == 4 else -1] = channels
        self.epsilon = epsilon
        self.bias = nn.Parameter(torch.full(shape, math.log(math.expm1(variance - epsilon)), dtype=torch.float64))
        self.float()

    def forward(self) -> Tensor:
        """Return v, of a shape that broadcasts to the features."""
        return functional.softplus(self.bias) + self.epsilon


def channels(features: Tensor) -> int:
    """Return the number of channels of features: maps (N, C, H, W), or tokens and vectors (..., C)."""
    return features.shape[1 if features.dim() == 4 else -1]


def regularisers(after: Sequence[Tensor], before: Sequence[Tensor], variances: Sequence[Tensor]) -> Tensor:
    """Return the term of each layer in R, (layers,).

    Args:
        after: f, the features of the trained network, by layer.
        before: f0, those of the pretrained network.
        variances: v.
    """
    terms = [
        0.5 * ((new.to(v) - old.to(v)).square() / v + v.log()).mean()
        for new, old, v in zip(after, before, variances, strict=True)
    ]
    return torch.stack(terms)


@contextmanager
def recorded(body: nn.Module, names: Sequence[str]) -> Iterator[list[Tensor]]:
    """Collect the outputs of modules in the order in which they are computed.

    Args:
        body: A network.
        names: Names of its modules.

    Yields:
        A list, filled by passes of the network inside the context.
    """
    outputs: list[Tensor] = []
    hooks = [
        body.get_submodule(name).register_forward_hook(lambda module, inputs, output: outputs.append(output))
        for name in names
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def chosen_layers(body: nn.Module, layers: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Return the names of the modules whose features are compared.

    Args:
        body: The network.
        layers: Names from the user; empty: the stem and the stages, or the ends of the quarters of a vision
            transformer's blocks.
        name: The network's name, for errors.

    Raises:
        BenchError: The network lacks a named module, or its stages cannot be found.
    """
    modules = dict(body.named_modules())
    for layer in layers:
        if layer not in modules:
            known = ", ".join([module for module in modules if module and module.count(".") < 2][:20])
            raise BenchError(f"miro: layers: {name} does not have a module {layer!r}; its modules include {known}")
    if layers:
        return layers
    if "layer1" in modules:  # ResNet
        stem = next((stem for stem in ("maxpool", "avgpool", "act1", "bn1") if stem in modules), None)
        stages = [f"layer{stage}" for stage in range(1, 5) if f"layer{stage}" in modules]
        return (*([stem] if stem else []), *stages)
    for blocks in ("blocks", "trunk.blocks", "transformer.resblocks"):
        if blocks in modules and (count := len(list(modules[blocks].children()))) >= 4:
            return tuple(f"{blocks}.{(quarter * count) // 4 - 1}" for quarter in range(1, 5))
    if "stages" in modules:
        children = [f"stages.{child}" for child, _ in modules["stages"].named_children()]
        return (*(["stem"] if "stem" in modules else []), *children, *(["expand"] if "expand" in modules else []))
    raise BenchError(
        f"miro: {name} does not have stages named layer1, stages or blocks; name the modules whose features are "
        f"compared with --set layers=…"
    )
