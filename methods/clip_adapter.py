"""CLIP-Adapter: blend frozen image features with those of a small bottleneck, and classify by fixed class vectors.

Source: Gao et al., "CLIP-Adapter: Better Vision-Language Models with Feature Adapters" (arXiv 2110.04544), the adapter
of its image branch; github.com/gaopengcuhk/CLIP-Adapter at 9ac913a. The raw features f have C channels. The layers
D (C/4, C) and U (C, C/4) are without biases, w_k are unit class vectors, and ratio is 0.2.

    a = relu(relu(f D') U')
    g = ratio * a + (1 - ratio) * f
    logits_k = exp(logit_scale) * <unit(g), w_k>;    L = ce(logits, y).

Departures: the repository contains no configuration, so optimiser, schedule, epochs and batch are those of
Tip-Adapter-F by the same group. Features are of un-augmented images, computed once (released: of augmented images,
live), and of all images of the source, not of a few per class. Class vectors come from several prompts (released: one).
For a backbone without a text tower, `classifier=prototypes` replaces w by the direction of each expression's mean
feature, with a scale of 100. That is another method in this respect, and is used only where it is named.

Version 1 computed the last product in half precision on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Batch, Context, GradientMethod, Inputs, Rows, Split, prompt_names
from fergen_bench.training.logistic import mean_directions

PROTOTYPE_SCALE = 100.0


@dataclass
class ClipAdapter(GradientMethod):
    """Frozen features change a little, and only in directions that help against fixed class vectors."""

    version: ClassVar[int] = 2
    group: ClassVar[str] = "frozen features"
    static_step: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("features",)
    # The packaged encoder, which suites with this recipe name, lacks a text tower. The learning rate is the best of
    # protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3, "classifier": "prototypes"}}

    epochs: int = 20  # passes over the source
    batch_size: int = 256  # images per step
    learning_rate: float = 1e-3  # highest value of the schedule
    weight_decay: float = 0.01  # decoupled with adamw
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"  # sgd has momentum 0.9
    schedule: Literal["exponential", "cosine", "constant"] = "cosine"  # cosine: warm-up over a tenth, then to 0
    backbone: Backbone = "suite"  # the frozen encoder
    classifier: Literal["text", "prototypes"] = "text"  # source of w; text needs a backbone with a text tower
    names: Literal["several", "one"] = "several"  # names per expression
    ratio: float = 0.2  # share of the adapted features in the blend
    reduction: int = 4  # ratio of the number of features to the width of the bottleneck

    def build(self, ctx: Context) -> nn.Module:
        self.encoder = ctx.backbone(self.backbone)
        if self.classifier == "text":
            tower = ctx.text_tower(self.backbone)
            self.classes, self.scale = tower.class_vectors(prompt_names(self.names)), float(tower.scale)
        channels = self.encoder.features
        width = max(1, channels // self.reduction)
        return nn.ModuleDict(
            {"down": nn.Linear(channels, width, bias=False), "up": nn.Linear(width, channels, bias=False)}
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
        # Times the scale, the rounding error of a cosine in half precision exceeds the distance of some classes.
        with torch.autocast(features.device.type, enabled=False):
            return self.scale * functional.normalize(blended.float(), dim=1) @ self.classes.T


def adapted(features: Tensor, down: Tensor, up: Tensor, ratio: float) -> Tensor:
    """Blend features with the output of the bottleneck.

    Args:
        features: f, (N, C).
        down: D, (width, C).
        up: U, (C, width).
        ratio: The share of the bottleneck's output.

    Returns:
        g, (N, C).
    """
    bottleneck = functional.relu(functional.linear(functional.relu(functional.linear(features, down)), up))
    return ratio * bottleneck + (1.0 - ratio) * features
