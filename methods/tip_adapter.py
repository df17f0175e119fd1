"""Tip-Adapter(-F): add a cache of a few labelled images to a text classifier; `finetune` trains the cache.

Source: Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification" (ECCV 2022);
github.com/gaopengcuhk/Tip-Adapter at d0e2d6f. x are unit features, w_k unit class vectors, and q_n unit keys with
labels y_n.

    logits_k = 100 <x, w_k> + alpha * sum over n with y_n = k of exp(-beta (1 - <x, q_n>))
    q_n = unit(mean over rounds of the raw features of the augmented image n).

(beta, alpha) are the first with the best accuracy on held-out images, beta in the outer loop, over i * (scale - 0.1) /
steps + 0.1 for i in 0..steps-1. Tip-Adapter-F trains the keys with alpha and beta at their first values, on the same
few images with new augmentations (AdamW, epsilon 1e-4, cosine to 0), and searches afterwards.

Departures: Tip-Adapter-F returns its last epoch, or with the selection `source-val` the best on the source's validation
part, of equally accurate ones that with the smallest loss (version 1: the first; released: the best on the test set,
and of that and the searched pair the better one). Images of the cache are drawn from the part of the source that is not
for validation, whatever the selection, because the search needs images that the cache does not contain. The range of
the search differs between the released configurations; here it is the widest. Images are cropped and mirrored at their
stored size, then resized. For a backbone without a text tower, `classifier=prototypes` replaces w by the direction of
each expression's mean feature (over all images that are not for validation, so more than the few shots). That is
another method in this respect, and is used only where it is named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench import EXPRESSIONS, Backbone, BenchError, Context, Method, Source, Split, prompt_names
from fergen_bench.training.augment import random_crop, random_flip
from fergen_bench.training.logistic import mean_directions

SCALE = 100.0
"""Factor on the cosines with the class vectors."""
BLOCK = 256
"""Images that are processed at once."""


@dataclass
class TipAdapter(Method):
    """A few images per expression correct the errors of the text classifier, which decides the rest."""

    version: ClassVar[int] = 2
    group: ClassVar[str] = "frozen features"
    needs: ClassVar[tuple[str, ...]] = ("features",)
    # The packaged encoder, which suites with this recipe name, lacks a text tower.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"classifier": "prototypes"}}

    backbone: Backbone = "suite"  # the frozen encoder
    classifier: Literal["text", "prototypes"] = "text"  # source of w; text needs a backbone with a text tower
    names: Literal["several", "one"] = "several"  # names per expression
    shots: int | None = 16  # images per expression in the cache; null: all of them
    rounds: int = 10  # augmentations of each image for its key; 0: the unchanged image
    finetune: bool = False  # train the keys (Tip-Adapter-F)
    search_scale: tuple[float, ...] = (12.0, 10.0)  # upper ends of the search, for beta and alpha
    search_steps: tuple[int, ...] = (200, 20)  # number of values of the search, for beta and alpha
    first_beta: float = 1.0  # beta while the keys are trained
    first_alpha: float = 1.17  # alpha while the keys are trained
    epochs: int = 20  # passes over the cached images, with finetune
    batch_size: int = 256  # images per step, with finetune
    learning_rate: float = 1e-3  # highest value of the schedule, with finetune
    weight_decay: float = 0.01  # decoupled, with finetune

    def fit(self, source: Source, ctx: Context) -> None:
        if (len(self.search_scale), len(self.search_steps)) != (2, 2) or min(self.search_steps) < 1:
            raise BenchError(
                f"tip_adapter: search_scale is {self.search_scale} and search_steps {self.search_steps}; set each to "
                f"two numbers, for beta and for alpha, with one step or more"
            )
        self.encoder = ctx.backbone(self.backbone)
        if self.classifier == "text":
            self.classes = ctx.text_tower(self.backbone).class_vectors(prompt_names(self.names))
        else:
            self.classes = mean_directions(*ctx.features(self.encoder, source.fit), len(EXPRESSIONS))
        faces = source.fit.subset(few_shots(source.fit, self.shots, ctx.generator("shots")).numpy())
        labels = torch.from_numpy(faces.labels).to(ctx.device)
        self.values = functional.one_hot(labels, len(EXPRESSIONS)).to(self.classes)
        if self.rounds:
            self.keys = cache_keys(torch.stack([self._augmented(faces, ctx, "key", n) for n in range(self.rounds)]))
        else:
            self.keys = cache_keys(ctx.features(self.encoder, faces)[0][None])
        held, held_labels = ctx.features(self.encoder, source.val)
        held = functional.normalize(held, dim=1)
        if self.finetune:
            self.keys = self._trained(faces, labels, held, held_labels, ctx)
        self.alpha, self.beta = search(
            held, held_labels, self.classes, self.keys, self.values, self.search_scale, self.search_steps
        )
        if not self.finetune:
            ctx.epoch_done(1, 1, alpha=self.alpha, beta=self.beta)

    def _augmented(self, faces: Split, ctx: Context, *names: object, rows: Tensor | None = None) -> Tensor:
        """Return raw features of augmented images, float32 (N, C)."""
        parts = []
        for index in (torch.arange(len(faces)) if rows is None else rows).split(BLOCK):
            images, draws = faces.faces(index.numpy()).to(ctx.device), ctx.draws(index.to(ctx.device), *names)
            parts.append(self.encoder(random_flip(random_crop(images, draws), draws)))
        return torch.cat(parts)

    def _trained(self, faces: Split, labels: Tensor, held: Tensor, held_labels: Tensor, ctx: Context) -> Tensor:
        """Return the keys after training, (M, C)."""
        selecting, best, selected = ctx.selection == "source-val", (-1.0, 0.0), self.keys
        keys = self.keys.clone().requires_grad_()
        optimizer = torch.optim.AdamW([keys], self.learning_rate, eps=1e-4, weight_decay=self.weight_decay)
        steps = self.epochs * math.ceil(len(faces) / self.batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for epoch in range(self.epochs):
            batches = torch.randperm(len(faces), generator=ctx.generator("order", epoch)).split(self.batch_size)
            total = 0.0
            for rows in batches:
                features = functional.normalize(self._augmented(faces, ctx, "train", epoch, rows=rows), dim=1)
                logits = tip_logits(features, self.classes, keys, self.values, self.first_alpha, self.first_beta)
                loss = functional.cross_entropy(logits, labels[rows.to(labels.device)])
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                schedule.step()
                total += loss.item() / len(batches)
            values = {"loss": total}
            if selecting:
                with torch.no_grad():
                    logits = tip_logits(held, self.classes, keys, self.values, self.first_alpha, self.first_beta)
                values["val_accuracy"] = (logits.argmax(1) == held_labels).double().mean().item()
                values["val_loss"] = functional.cross_entropy(logits.double(), held_labels).item()
                # Among equally accurate epochs the smallest loss decides, as in GradientMethod.
                if (rank := (values["val_accuracy"], -values["val_loss"])) > best:
                    best, ctx.selected_epoch, selected = rank, epoch + 1, keys.detach().clone()
            ctx.epoch_done(epoch + 1, self.epochs, **values)
        return selected if selecting else keys.detach()

    def predict(self, images: Tensor) -> Tensor:
        features = functional.normalize(self.encoder(images), dim=1)
        return tip_logits(features, self.classes, self.keys, self.values, self.alpha, self.beta)


def cache_keys(raw: Tensor) -> Tensor:
    """Return unit keys (N, C) from raw features of several rounds (rounds, N, C)."""
    return functional.normalize(raw.mean(0), dim=1)


def cache_logits(affinity: Tensor, values: Tensor, beta: float) -> Tensor:
    """Return the logits of the cache.

    Args:
        affinity: Cosines with the keys, (N, M).
        values: One-hot labels of the keys, (M, K).
        beta: The sharpness of the affinity.

    Returns:
        (N, K).
    """
    return torch.exp(-beta * (1.0 - affinity)) @ values


def text_logits(features: Tensor, classes: Tensor) -> Tensor:
    """Return the logits (N, K) of unit features (N, C) by class vectors (K, C)."""
    return SCALE * features @ classes.T


def tip_logits(features: Tensor, classes: Tensor, keys: Tensor, values: Tensor, alpha: float, beta: float) -> Tensor:
    """Return the logits of Tip-Adapter.

    Args:
        features: Unit features x, (N, C).
        classes: Class vectors w, (K, C).
        keys: q, (M, C).
        values: One-hot labels of the keys, (M, K).
        alpha: The weight of the cache.
        beta: The sharpness of the affinity.

    Returns:
        (N, K).
    """
    return text_logits(features, classes) + alpha * cache_logits(features @ keys.T, values, beta)


def search(
    features: Tensor,
    labels: Tensor,
    classes: Tensor,
    keys: Tensor,
    values: Tensor,
    scale: tuple[float, ...],
    steps: tuple[int, ...],
) -> tuple[float, float]:
    """Find the first pair of alpha and beta with the most correct predictions.

    Args:
        features: Unit features of held-out images, (N, C).
        labels: int64 (N,).
        classes: Class vectors w, (K, C).
        keys: q, (M, C).
        values: One-hot labels of the keys, (M, K).
        scale: Upper ends of the search, for beta and alpha.
        steps: Number of values, for beta and alpha.

    Returns:
        alpha and beta.
    """
    betas, alphas = (
        [i * (end - 0.1) / count + 0.1 for i in range(count)] for end, count in zip(scale, steps, strict=True)
    )
    right = torch.zeros(len(betas), len(alphas), dtype=torch.int64, device=features.device)
    weights = torch.tensor(alphas, dtype=features.dtype, device=features.device)[:, None, None]
    for block, wanted in zip(features.split(BLOCK), labels.split(BLOCK), strict=True):
        text, affinity = text_logits(block, classes), block @ keys.T
        for row, beta in enumerate(betas):
            predicted = (text + weights * cache_logits(affinity, values, beta)).argmax(2)
            right[row] += (predicted == wanted).sum(1)
    scores = right.flatten().tolist()
    row, column = divmod(scores.index(max(scores)), len(alphas))
    return alphas[column], betas[row]


def few_shots(split: Split, shots: int | None, generator: torch.Generator) -> Tensor:
    """Return the indices of `shots` random images of every expression (None: of all images), in ascending order."""
    order = torch.randperm(len(split), generator=generator)
    labels = torch.from_numpy(split.labels)[order]
    return torch.cat([order[labels == label][:shots] for label in range(len(EXPRESSIONS))]).sort().values
