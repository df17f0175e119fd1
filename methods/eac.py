"""EAC: make an image and its mirror image agree on where each expression appears, while parts are erased.

Source: Zhang, Wang, Ling and Deng, "Learn From All: Erasing Attention Consistency for Noisy Label Facial Expression
Recognition" (ECCV 2022, arXiv 2207.10299); github.com/zyh-uaiaaaa/Erasing-Attention-Consistency at 61efdfd. The maps
before pooling are A for the images and A' for the second views, (N, C, height, width). The classifier has the weight W
and the bias b.

    cam[n, k] = sum over c of W[k, c] A[n, c]
    L = ce(mean over space of A times W' + b, y) + 5 * mean of (cam - mirrored(cam'))^2.

cam covers all K expressions, with neither bias nor rectifier, and W is detached in it.

As in the released code, only the first view is classified. The gradient of the consistency reaches the maps of both
views but not the classifier. The second view is the exact mirror image of the finished first one, noise and box
included. (`second_view=own` is what the code does with a list of noisy labels: the mirror image of the unchanged image,
with a box of its own.) Images are not mirrored at random. The two views pass the network one after the other, so batch
norm has statistics of each, and its running statistics include both.

Departures: maps are mirrored by index (released: by sampling on a float32 grid, which is the same up to 4e-7). The
trunk is the suite's, with the learning rate that the authors recommend for a ResNet-18. The paper's own network is a
Caffe-style ResNet-50 with VGGFace2 weights, at half that rate: `--set trunk=vggface2-resnet50//path/to/weights --set
learning_rate=1e-4`. Images get noise and boxes at their stored size, then are resized. On a GPU the trunk runs in
bfloat16. The last epoch or the best on held-out images of the source is scored (released: test images are evaluated in
every epoch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, Context, GradientMethod, SampleDraws, Trunk
from fergen_bench.training.augment import random_erase, random_noise


@dataclass
class Eac(GradientMethod):
    """A network learns a wrong label from an odd detail, and then attends to different places in the two views."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "FER"
    static_step: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    epochs: int = 60  # passes over the source
    batch_size: int = 32  # images per step
    learning_rate: float = 2e-4  # of all weights; 1e-4 for the paper's ResNet-50
    trunk: Trunk = "suite"  # the network that is trained
    consistency: float = 5.0  # weight of the consistency of the two views
    second_view: Literal["mirror", "own"] = "mirror"  # of the first view; own: of the unchanged image, with its own box
    noise: float = 0.5  # share of images that get Gaussian noise of variance 30
    erasing: float = 0.5  # share of images in which a box is filled with the mean colour

    def build(self, ctx: Context) -> nn.Module:
        trunk = ctx.backbone(self.trunk, trainable=True)
        self.mean = trunk.mean
        return nn.ModuleDict({"trunk": trunk, "fc": nn.Linear(trunk.map_shape()[0], len(EXPRESSIONS))})

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        return random_erase(random_noise(images, draws, self.noise), draws, self.erasing, self.mean)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        if self.second_view == "mirror":
            second = batch.images.flip(3)
        else:
            second = random_erase(batch.faces.flip(3), batch.draws, self.erasing, self.mean, name="erase second")
        trunk, fc = self.model["trunk"], self.model["fc"]
        maps = trunk.feature_map(batch.images).float()  # the first view updates the running statistics first
        return self.terms(maps, trunk.feature_map(second).float(), fc.weight, fc.bias, batch.labels)

    def terms(
        self, maps: Tensor, second_maps: Tensor, weight: Tensor, bias: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Return the weighted terms of L.

        Args:
            maps: A, (N, C, height, width).
            second_maps: A', (N, C, height, width).
            weight: W, (K, C).
            bias: b, (K,).
            labels: int64 (N,).

        Returns:
            The scalars `classification` and `consistency`.
        """
        with torch.autocast(maps.device.type, enabled=False):
            distance = consistency_loss(activation_maps(maps, weight), activation_maps(second_maps, weight))
            return {
                "classification": functional.cross_entropy(map_logits(maps, weight, bias), labels),
                "consistency": self.consistency * distance,
            }

    def logits(self, images: Tensor) -> Tensor:
        maps, fc = self.model["trunk"].feature_map(images), self.model["fc"]
        return map_logits(maps.float(), fc.weight, fc.bias)


def map_logits(maps: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Classify the mean of maps over space: (N, C, height, width) → (N, K)."""
    return functional.linear(maps.mean((2, 3)), weight, bias)


def activation_maps(maps: Tensor, weight: Tensor) -> Tensor:
    """Return cam, (N, K, height, width), for maps (N, C, height, width), without a gradient for the weight (K, C)."""
    return torch.einsum("kc,nchw->nkhw", weight.detach(), maps)


def consistency_loss(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean squared difference of the first cam and the mirrored second one, (N, K, height, width) each."""
    return functional.mse_loss(first, second.flip(3))
