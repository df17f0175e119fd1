"""LoRA: keep the pretrained weights of an encoder, and learn a product of two thin matrices to add to some of them.

Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models" (ICLR 2022). A weight W (outputs, inputs) gets
the matrices B (outputs, r) and A (r, inputs). B is 0 at the start.

    W + alpha / r * B A;    L = ce(z, y).

B, A and a linear head are trained, nothing else. Batch norm and dropout of the encoder stay in evaluation mode.

By default the weights of the attention and the MLP of a vision transformer are adapted, in timm's and open_clip's
names; the paper adapts those of the attention in language models. `targets` selects others. A convolution is treated as
a matrix of one row per output channel. As many numbers are trained as r times the sum of outputs and inputs.

Departures: the encoder sees images. Optimiser, schedule, augmentation and selection are those of full_finetune.py, so
that the two differ in what is trained. The added part has no dropout (released: 0.1 for some tasks). The sum is
formed in every pass, and is not stored after the training, which changes no value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from fergen_bench import Backbone, Batch, BenchError, Context, Losses, NetworkMethod


@dataclass
class Lora(NetworkMethod):
    """A change of low rank is enough to learn expressions, and too small to lose what pre-training taught."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "fine-tuning"
    static_step: ClassVar[bool] = True
    # The packaged encoder is convolutional. The rate is the best of protocols/learning-rate.yaml on web and film.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 1e-3, "targets": ("stages", "project")}}

    backbone: Backbone = "suite"  # the network that is adapted
    rank: int = 8  # r
    alpha: float = 8.0  # the added product is scaled by alpha / rank
    targets: tuple[str, ...] = ("attn", "mlp")  # parts of the names of adapted modules

    def build(self, ctx: Context) -> nn.Module:
        if self.rank < 1:
            raise BenchError(f"lora: rank is {self.rank}; it must be 1 or more")
        model = self.classifier(ctx, self.backbone)
        self.network.requires_grad_(False)
        for name in adapted_weights(self.network.body, self.targets, self.backbone):
            place, _, weight = name.rpartition(".")
            adapt(self.network.body.get_submodule(place), weight, self.rank, self.alpha)
        return model

    def parameter_groups(self) -> list[nn.Parameter]:
        return [weight for weight in self.model.parameters() if weight.requires_grad]

    def loss(self, batch: Batch) -> Losses:
        self.network.eval()
        return super().loss(batch)


class LowRankSum(nn.Module):
    """Add a product of two matrices to a weight; its first axis is that of the outputs.

    Args:
        weight: W, of any shape.
        rank: r.
        alpha: The scale of the product times r.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.up = nn.Parameter(torch.zeros(len(weight), rank))
        self.down = nn.Parameter(torch.empty(rank, weight[0].numel()))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        """Return W + alpha / r * B A, of the shape of W."""
        return weight + (self.scale * self.up @ self.down).reshape(weight.shape)


def adapt(module: nn.Module, weight: str, rank: int, alpha: float) -> None:
    """Add a product of rank `rank` to a weight of a module, by the weight's name."""
    added = LowRankSum(getattr(module, weight), rank, alpha).to(getattr(module, weight).device)
    parametrize.register_parametrization(module, weight, added)


def adapted_weights(body: nn.Module, targets: tuple[str, ...], name: str) -> list[str]:
    """Return the names of the weights that are adapted: of linear layers, convolutions and attention.

    Args:
        body: The network.
        targets: Parts of the names of modules; a module below a matching one matches too.
        name: The network's name, for errors.

    Raises:
        BenchError: A target matches no such weight.
    """
    found = [
        f"{path}.{weight}" if path else weight
        for path, module in body.named_modules()
        for weight in ("weight", "in_proj_weight")
        if isinstance(module, nn.Linear | nn.Conv2d | nn.MultiheadAttention)
        and getattr(module, weight, None) is not None
    ]
    for target in targets or ("",):
        if not target or not any(target in weight.rpartition(".")[0] for weight in found):
            some = ", ".join(dict.fromkeys(weight.rpartition(".")[0] for weight in found[:12]))
            raise BenchError(
                f"lora: targets: no layer of {name} has {target!r} in its name; set targets to parts of the names of "
                f"linear layers or convolutions, such as {some}"
            )
    return [weight for weight in found if any(target in weight.rpartition(".")[0] for target in targets)]
