"""Exp-CLIP (weights from a file): compare images and descriptions of expressions after a learned projection of both.

Source: Zhao et al., "Enhancing Zero-Shot Facial Expression Recognition by LLM Knowledge Transfer" (WACV 2025);
github.com/zengqunzhao/Exp-CLIP at 23ace53. A matrix P (D, C) was trained on unlabelled faces, so that P times the image
feature of a CLIP agrees with the features of a large language model for the same face. Prompt j of expression k has the
text feature t_kj, an image the feature x.

    logits_k = mean over j of  exp(logit_scale) * <unit(P x), unit(P t_kj)>.

P is read from `weights`: a file with one matrix that has as many columns as the CLIP of `backbone` has features, such
as the checkpoints of the repository for each of its CLIPs. Nothing is trained, and no image of the source is used. The
mean is over logits, not over text features; each prompt is normalised by itself.

Departures: images get the mean and deviation of CLIP (released: values in 0..1 without them, in training and test).
The released ensembles of 5 and 10 prompts are not included; `prompts=clip` has the several names and six sentences of
CLIP's prompts for FER2013 in their place. Training P needs a language model of 11 billion parameters and is not part
of this file; neither are videos.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench import (
    EXPRESSIONS,
    PROMPT_TEMPLATES,
    Backbone,
    BenchError,
    Context,
    File,
    Method,
    Source,
    prompt_names,
    read_weights,
)

TEMPLATES = {"name": "{}", "expression": "an expression of {}", "photo": "a photo of a face with an expression of {}"}


@dataclass
class ExpClip(Method):
    """The features of a language model separate facial actions that those of a CLIP confuse."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "zero-shot"
    needs: ClassVar[tuple[str, ...]] = ("features", "text", "file")
    learns_prior: ClassVar[bool] = False

    weights: File = ""  # file with P
    backbone: Backbone = "suite"  # the CLIP for which P was trained
    prompts: Literal["name", "expression", "photo", "clip"] = "photo"  # sentences that describe an expression

    def fit(self, source: Source, ctx: Context) -> None:
        if not self.weights:
            raise BenchError(
                "exp_clip: weights is empty; name the file of a trained projection with --set weights=FILE (the "
                "repository of Exp-CLIP has one for each of its CLIPs)"
            )
        self.encoder, tower = ctx.backbone(self.backbone), ctx.text_tower(self.backbone)
        self.projection = matrix_in(Path(self.weights), self.encoder.features, self.backbone).to(ctx.device)
        if self.prompts == "clip":
            described = [[t.format(name) for name in names for t in PROMPT_TEMPLATES] for names in prompt_names()]
        else:
            described = [[TEMPLATES[self.prompts].format(expression)] for expression in EXPRESSIONS]
        self.sizes = torch.tensor([len(several) for several in described])
        with torch.no_grad():
            sentences = tower(tower.tokens([sentence for several in described for sentence in several])).float()
        self.descriptions, self.scale = projected(sentences, self.projection), tower.scale.detach()

    def predict(self, images: Tensor) -> Tensor:
        features = projected(self.encoder(images), self.projection)
        return class_means(self.scale * features @ self.descriptions.T, self.sizes.tolist())


def projected(features: Tensor, projection: Tensor) -> Tensor:
    """Return unit(P f), (N, D), of features f (N, C) with the projection P (D, C)."""
    return functional.normalize(functional.linear(features, projection), dim=-1)


def class_means(logits: Tensor, sizes: list[int]) -> Tensor:
    """Return the mean of each class's logits, (N, K), from those of all prompts (N, prompts), class by class.

    Args:
        logits: (N, prompts).
        sizes: Prompts of each class.
    """
    return torch.stack([part.mean(1) for part in logits.split(sizes, 1)], 1)


def matrix_in(path: Path, columns: int, backbone: str) -> Tensor:
    """Return the matrix of a file that has a number of columns, float32 (rows, columns).

    Raises:
        BenchError: The file contains no such matrix, or several different ones.
    """
    found = [
        weight.float()
        for weights in read_weights(path).values()
        for weight in weights.values()
        if weight.dim() == 2 and weight.shape[1] == columns and weight.is_floating_point()
    ]
    different = [weight for place, weight in enumerate(found) if not any(_equal(weight, w) for w in found[:place])]
    if len(different) != 1:
        number = f"{len(different)} matrices" if different else "no matrix"
        raise BenchError(
            f"exp_clip: {path} has {number} of {columns} columns, the features of {backbone}; name the file of one "
            f"projection, and the CLIP for which it was trained with --backbone"
        )
    return different[0]


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
