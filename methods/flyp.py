"""FLYP: fine-tune both towers of a CLIP as in pre-training, with its contrastive loss on captions of the labels.

Source: Goyal et al., "Finetune like you pretrain: Improved finetuning of zero-shot vision models" (CVPR 2023);
github.com/locuslab/FLYP at 215d5bb. N images have the unit features x_n, and captions of their labels the unit features
t_n. Both towers are trained.

    z = exp(logit_scale) * x t';    L = (ce(z, 1..N) + ce(z', 1..N)) / 2.

Another image of the same expression in the batch counts as a negative, as released. The zero-shot head of the tuned
towers is scored: unit(mean over names and templates of unit(text)), times exp(logit_scale).

Departures: captions are drawn per image and epoch among the names and templates of zero-shot FER2013 (released: from
those of each of its datasets). The warm-up takes a tenth of the steps (released: 500 steps). Images are cropped at
their stored size, then resized. Weight decay is 0.1 (released: 0.1 or 0.2, by dataset). Equal captions of a batch pass
the text tower once, which changes no value.

Version 1 computed the product in half precision on a GPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import PROMPT_TEMPLATES, Backbone, Batch, Context, GradientMethod, SampleDraws, prompt_names
from fergen_bench.training.augment import random_crop


@dataclass
class Flyp(GradientMethod):
    """A network that is fine-tuned with its pre-training loss preserves the robustness that pre-training gave it."""

    version: ClassVar[int] = 2
    group: ClassVar[str] = "fine-tuning"
    needs: ClassVar[tuple[str, ...]] = ("images", "text")
    epochs: int = 10  # passes over the source
    batch_size: int = 512  # images per step
    learning_rate: float = 1e-5  # highest value of the schedule
    weight_decay: float = 0.1  # decoupled with adamw
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"  # sgd has momentum 0.9
    schedule: Literal["exponential", "cosine", "constant"] = "cosine"  # cosine: warm-up over a tenth, then to 0
    backbone: Backbone = "suite"  # the network whose two towers are trained
    names: Literal["several", "one"] = "several"  # names per expression
    crop: float = 0.9  # smallest share of an image that a training crop contains

    def build(self, ctx: Context) -> nn.Module:
        text = ctx.text_tower(self.backbone, trainable=True)
        words = prompt_names(self.names)
        captions = [template.format(name) for several in words for name in several for template in PROMPT_TEMPLATES]
        self.tokens: Tensor = text.tokens(captions)
        sizes = torch.tensor([len(several) * len(PROMPT_TEMPLATES) for several in words], device=ctx.device)
        self.sizes, self.starts = sizes, sizes.cumsum(0) - sizes
        return nn.ModuleDict({"image": ctx.backbone(self.backbone, trainable=True), "text": text})

    def augment(self, images: Tensor, draws: SampleDraws) -> Tensor:
        return random_crop(images, draws, (self.crop, 1.0))

    def loss(self, batch: Batch) -> Tensor:
        caption = self.starts[batch.labels] + (batch.draws.uniform("caption") * self.sizes[batch.labels]).long()
        different, row = caption.unique(return_inverse=True)
        images = functional.normalize(self.model["image"](batch.images).float(), dim=1)
        texts = functional.normalize(self.model["text"](self.tokens[different]).float(), dim=1)
        return contrastive_loss(images, texts[row], self.model["text"].scale)

    def logits(self, images: Tensor) -> Tensor:
        features = functional.normalize(self.model["image"](images).float(), dim=1)
        text = self.model["text"]
        return text.scale * features @ text.class_vectors(prompt_names(self.names)).T


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """Return the symmetric loss of CLIP, in which row n of the images belongs to row n of the texts only.

    Args:
        images: Unit features of images, (N, C).
        texts: Unit features of captions, (N, C).
        scale: exp(logit_scale), a scalar.

    Returns:
        A scalar.
    """
    # Times the scale, the rounding error of a cosine in half precision exceeds the distance of some captions.
    with torch.autocast(images.device.type, enabled=False):
        logits = scale * images @ texts.T
    own = torch.arange(len(logits), device=logits.device)
    return (functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)) / 2
