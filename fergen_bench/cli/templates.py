"""The templates of `fergen-bench new-method`."""

from __future__ import annotations

_GRADIENT = '''"""{title}: one line about it.

Source: authors, title in double quotes, (venue year), which lists show. Then equations, repository, and every departure
from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, Context, GradientMethod, SampleDraws, Trunk
from fergen_bench.training.augment import random_flip


@dataclass
class {name}(GradientMethod):
    """One line on why it should generalise to unseen domains."""

    version: ClassVar[int] = 1  # raise it with every change of its numbers
    static_step: ClassVar[bool] = True  # a GPU may replay one step as a CUDA graph; False if `loss` uses batch.step
    # For small 64-pixel networks, as in synth5: the differences from the recipe `small` of GradientMethod.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {{"small": {{"learning_rate": 2e-3}}}}

    # The fields are the hyperparameters: `--set smoothing=0.2` changes one. Defaults are literals.
    network: Trunk = "suite"  # the network that is trained
    smoothing: float = 0.1  # of the labels

    def build(self, ctx: Context) -> nn.Module:
        network = ctx.backbone(self.network, trainable=True)
        return nn.Sequential(network, nn.Linear(network.features, len(EXPRESSIONS)))

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        return random_flip(images, draws)

    def loss(self, batch: Batch) -> Tensor:
        return functional.cross_entropy(self.model(batch.images).float(), batch.labels, label_smoothing=self.smoothing)

    def logits(self, images: Tensor) -> Tensor:
        return self.model(images)
'''

_FROZEN = '''"""{title}: one line about it.

Source: authors, title in double quotes, (venue year), which lists show. Then equations, repository, and every departure
from them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fergen_bench import EXPRESSIONS, Backbone, Context, Method, Source


@dataclass
class {name}(Method):
    """One line on why it should generalise. This template predicts the expression with the nearest mean feature."""

    version: ClassVar[int] = 1  # raise it with every change of its numbers

    # The fields are the hyperparameters: `--set temperature=5` changes one. Defaults are literals.
    backbone: Backbone = "suite"  # the frozen encoder
    temperature: float = 10.0  # of the similarities

    def fit(self, source: Source, ctx: Context) -> None:
        self.encoder = ctx.backbone(self.backbone)
        features, labels = ctx.features(self.encoder, source.train)
        self.centre = features.mean(0)
        centred = features - self.centre
        means = [centred[labels == expression].mean(0) for expression in range(len(EXPRESSIONS))]
        self.prototypes = torch.nn.functional.normalize(torch.stack(means).nan_to_num(), dim=1)

    def predict(self, images: Tensor) -> Tensor:
        features = torch.nn.functional.normalize(self.encoder(images) - self.centre, dim=1)
        return self.temperature * features @ self.prototypes.T
'''


def method_template(stem: str, kind: str) -> str:
    """Return the text of methods/<stem>.py.

    Args:
        stem: The name of the method.
        kind: "gradient" for a method that trains a network, "frozen" for one on frozen features.
    """
    words = stem.split("_")
    template = _GRADIENT if kind == "gradient" else _FROZEN
    return template.format(name="".join(word.capitalize() for word in words), title=" ".join(words).capitalize())
