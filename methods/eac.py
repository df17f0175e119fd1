"""EAC: a face and its mirror image must look for an expression in the same places, while parts of the face are erased.

Source: Zhang, Wang, Ling and Deng, "Learn From All: Erasing Attention Consistency for Noisy Label Facial Expression
Recognition" (ECCV 2022, arXiv 2207.10299); github.com/zyh-uaiaaaa/Erasing-Attention-Consistency at 61efdfd. Equations,
for maps A of the faces and A' of the second views before pooling, (N, C, height, width):

    cam[n, k] = sum over c of W[k, c] A[n, c]              all K expressions; no bias, no rectifier, W detached
    L = ce(mean over space of A times W' + b, y) + 5 * mean of (cam - mirrored(cam'))^2

What the released code does and this file keeps: only the first view is classified; the gradient of the consistency
reaches the maps of both views but not the classifier; the second view is the exact mirror image of the finished first
one, noise and box included (`second_view=own` is what the code does with a list of noisy labels: the mirror image of
the face as it is, with a box of its own); no face is mirrored at random; both views pass the network one after the
other, so batch norm has statistics of each, and its running statistics take both in.

Departures: maps are mirrored by index (released: by sampling on a float32 grid, which is the same up to 4e-7). The
trunk is the suite's, with the learning rate that the authors advise for a ResNet-18. The paper's own network is a
Caffe-style ResNet-50 with VGGFace2 weights, at half that rate: `--set trunk=vggface2-resnet50//path/to/weights --set
learning_rate=1e-4`. Faces are made noisy and erased at the size they are kept in, then resized; on a GPU the trunk runs
in bfloat16. The last epoch or the best on held-out faces of the source is scored (released: test faces are looked at
in every epoch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Batch, Context, GradientMethod, SampleDraws, Trunk
from fergen_bench.training.augment import erase, random_boxes, random_noise


@dataclass
class Eac(GradientMethod):
    """A label that is wrong is learned from some odd detail, and where the network looks then is not the same twice."""

    version: ClassVar[int] = 1
    repeats: ClassVar[bool] = True
    # The learning rate is the best of protocols/learning-rate.yaml.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"learning_rate": 4e-3}}

    epochs: int = 60  # passes over the source
    batch_size: int = 32  # faces per step
    learning_rate: float = 2e-4  # of all weights; 1e-4 for the paper's ResNet-50
    trunk: Trunk = "suite"  # the network that is trained
    consistency: float = 5.0  # weight of the second term
    second_view: Literal["mirror", "own"] = "mirror"  # of the finished first view; own: of the face, with its own box
    noise: float = 0.5  # share of faces that get Gaussian noise of variance 30
    erasing: float = 0.5  # share of faces that get a box of mean colour

    def build(self, ctx: Context) -> nn.Module:
        trunk = ctx.backbone(self.trunk, trainable=True)
        self.mean = trunk.mean
        return nn.ModuleDict({"trunk": trunk, "fc": nn.Linear(trunk.map_shape()[0], len(EXPRESSIONS))})

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        images = random_noise(images, draws, self.noise).float() / 255.0
        return erase(images, random_boxes(images.shape, draws, self.erasing), self.mean)

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        if self.second_view == "mirror":
            second = batch.images.flip(3)
        else:
            boxes = random_boxes(batch.faces.shape, batch.draws, self.erasing, name="erase second")
            second = erase(batch.faces.flip(3).float() / 255.0, boxes, self.mean)
        trunk, fc = self.model["trunk"], self.model["fc"]
        maps = trunk.feature_map(batch.images).float()  # first, then the other: the order of the running statistics
        return self.terms(maps, trunk.feature_map(second).float(), fc.weight, fc.bias, batch.labels)

    def terms(
        self, maps: Tensor, second_maps: Tensor, weight: Tensor, bias: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """The weighted terms of L. Maps: (N, C, height, width), weight: (K, C), labels: (N,)."""
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
    """The classifier on the mean over space: (N, C, height, width) → (N, K)."""
    return functional.linear(maps.mean((2, 3)), weight, bias)


def activation_maps(maps: Tensor, weight: Tensor) -> Tensor:
    """Where each expression is seen, (N, K, height, width); the classifier's weight gets no gradient from it."""
    return torch.einsum("kc,nchw->nkhw", weight.detach(), maps)


def consistency_loss(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared difference of maps and the mirrored maps of the second views, (N, K, height, width) each."""
    return functional.mse_loss(first, second.flip(3))
