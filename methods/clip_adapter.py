"""CLIP-Adapter: a small bottleneck, blended into frozen image features that are classified by fixed class vectors.

Source: Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters" (arXiv 2110.04544), the adapter
of its image branch; github.com/gaopengcuhk/CLIP-Adapter at 9ac913a. For raw features f of C channels and unit class
vectors w_k:

    a = relu(relu(f D') U')                 D: (C / 4, C), U: (C, C / 4), without biases
    g = ratio * a + (1 - ratio) * f         ratio: 0.2
    logits_k = exp(logit_scale) * <unit(g), w_k>;    L = ce(logits, y)

Departures: the repository holds no configuration, so optimiser, schedule, epochs and batch are those of Tip-Adapter-F
by the same group. Features are of un-augmented faces, computed once (released: of augmented faces, live), and of all of
the source's faces, not of a few per class. Class vectors come from several prompts (released: one). Where a backbone
has no text tower, `classifier=prototypes` puts the direction of each expression's mean feature in the place of w, with
a scale of 100: another method in that respect, chosen by name only. (Version 1 took the last product in half precision
on a GPU.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Batch, Context, GradientMethod, Inputs, Rows, Split, prompt_names

PROTOTYPE_SCALE = 100.0


@dataclass
class ClipAdapter(GradientMethod):
    """The features may move a little, and only in directions that help against fixed words."""

    version: ClassVar[int] = 2
    repeats: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("features",)
    # The packaged encoder, which suites with this recipe name, has no text tower. The learning rate is the best of
    # protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3, "classifier": "prototypes"}}

    epochs: int = 20  # passes over the source
    batch_size: int = 256  # faces per step
    learning_rate: float = 1e-3  # at its highest
    weight_decay: float = 0.01  # decoupled with adamw
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"  # sgd has momentum 0.9
    schedule: Literal["exponential", "cosine", "constant"] = "cosine"  # cosine: warm-up over a tenth, then to 0
    backbone: Backbone = "suite"  # the frozen encoder
    classifier: Literal["text", "prototypes"] = "text"  # what w is; text needs a backbone with a text tower
    names: Literal["several", "one"] = "several"  # words per expression
    ratio: float = 0.2  # share of the adapted features in the blend
    reduction: int = 4  # the bottleneck has so many times fewer channels

    def build(self, ctx: Context) -> nn.Module:
        self.encoder = ctx.backbone(self.backbone)
        if self.classifier == "text":
            tower = ctx.text_tower(self.backbone)
            self.classes, self.scale = tower.class_vectors(prompt_names(self.names)), float(tower.scale)
        channels = self.encoder.features
        narrow = max(1, channels // self.reduction)
        return nn.ModuleDict(
            {"down": nn.Linear(channels, narrow, bias=False), "up": nn.Linear(narrow, channels, bias=False)}
        )

    def inputs(self, split: Split, ctx: Context) -> Inputs:
        features, labels = ctx.features(self.encoder, split)
        if self.classifier == "prototypes":
            self.classes, self.scale = mean_directions(features, labels, len(EXPRESSIONS)), PROTOTYPE_SCALE
        return Rows(features)

    def loss(self, batch: Batch) -> Tensor:
        return functional.cross_entropy(self._classified(batch.images), batch.labels)

    def logits(self, images: Tensor) -> Tensor:
        return self._classified(self.encoder(images))

    def _classified(self, features: Tensor) -> Tensor:
        blended = adapted(features, self.model["down"].weight, self.model["up"].weight, self.ratio)
        # Times the scale, what half precision rounds off a cosine is more than lies between some classes.
        with torch.autocast(features.device.type, enabled=False):
            return self.scale * functional.normalize(blended.float(), dim=1) @ self.classes.T


def adapted(features: Tensor, down: Tensor, up: Tensor, ratio: float) -> Tensor:
    """Features (N, C) blended with what the bottleneck makes of them. down: (narrow, C), up: (C, narrow)."""
    bottleneck = functional.relu(functional.linear(functional.relu(functional.linear(features, down)), up))
    return ratio * bottleneck + (1.0 - ratio) * features


def mean_directions(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The direction (classes, C) of each class's mean unit feature; zeros for a class without faces."""
    members = functional.one_hot(labels, classes).to(features)
    return functional.normalize(members.T @ functional.normalize(features, dim=1), dim=1)
