"""Full fine-tuning: minimise the cross-entropy over every weight of a pretrained network (empirical risk minimisation).

Source: Vapnik, "Principles of Risk Minimization for Learning Theory" (NIPS 1991).

With the suite's backbone, the results show how much a general encoder loses when it is fitted to one source (Kumar et
al., ICLR 2022, on distorted features). With `backbone=trunk` it is the plain face-pretrained network that FER papers
start from; with `backbone=scratch` it is the same network without any pre-training.

By default the optimiser, the schedule and the augmentation are those of CAFE's released code, so that the two methods
differ in the method alone. The recipe `small` preserves this, except that each method has a learning rate of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import nn

from fergen_bench import Backbone, Context, NetworkMethod


@dataclass
class FullFinetune(NetworkMethod):
    """The baseline that trains every weight: what it gains on the source, it may lose on other domains."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "fine-tuning"
    static_step: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml for the suite's backbone. For the trunk, and from
    # scratch, see protocols/synth5-baselines.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 2.5e-4}}

    backbone: Backbone = "suite"  # the network that is trained

    def build(self, ctx: Context) -> nn.Module:
        return self.classifier(ctx, self.backbone)
