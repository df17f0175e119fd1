"""Full fine-tuning: cross-entropy on every weight of a pretrained network (empirical risk minimisation).

Source: Vapnik, "Principles of Risk Minimization for Learning Theory" (NIPS 1991).

With the suite's backbone it asks what is lost when a general encoder is fitted to one source (Kumar et al., ICLR 2022,
on distorted features). With `backbone=trunk` it is the plain face-pretrained network that FER papers start from, with
`backbone=scratch` the same network without any pre-training.

By default the optimiser, the schedule and the augmentation are those of CAFE's released code, so that the two differ in
the method alone; so they do under the recipe small, apart from the learning rate, which each method has its own of.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, Batch, Context, GradientMethod, SampleDraws
from fergen_bench.training.augment import erase, random_boxes, random_flip, random_noise


@dataclass
class FullFinetune(GradientMethod):
    """Every weight moves: the baseline whose gain on its own domain may be paid for on the others."""

    version: ClassVar[int] = 1
    repeats: ClassVar[bool] = True
    # As CAFE's; the learning rate is the best of protocols/learning-rate.yaml for the suite's backbone. For the trunk,
    # and from scratch, see protocols/synth5-baselines.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2.5e-4}}

    backbone: Backbone = "suite"  # the network that is trained
    noise: float = 0.5  # share of faces that get Gaussian noise of variance 30
    erasing: float = 0.5  # share of faces that get a box of mean colour

    def build(self, ctx: Context) -> nn.Module:
        self.network = ctx.backbone(self.backbone, trainable=True)
        return nn.Sequential(self.network, nn.Linear(self.network.features, len(EXPRESSIONS)))

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        images = random_flip(random_noise(images, draws, self.noise), draws).float() / 255.0
        return erase(images, random_boxes(images.shape, draws, self.erasing), self.network.mean)

    def loss(self, batch: Batch) -> Tensor:
        return functional.cross_entropy(self.model(batch.images).float(), batch.labels)

    def logits(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits
