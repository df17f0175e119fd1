"""Tip-Adapter: a text classifier plus a cache of a few labelled faces; with `finetune`, Tip-Adapter-F trains the cache.

Source: Zhang et al., "Tip-Adapter: Training-free Adaption of CLIP for Few-shot Classification" (ECCV 2022);
github.com/gaopengcuhk/Tip-Adapter at d0e2d6f. For unit features x, unit class vectors w_k, unit keys q_n with labels
y_n:

    logits_k = 100 <x, w_k> + alpha * sum over n with y_n = k of exp(-beta (1 - <x, q_n>))
    q_n = unit(mean over rounds of the raw features of the augmented face n)

(beta, alpha) are the first with the best accuracy on held-out faces, beta outside, over i * (scale - 0.1) / steps + 0.1
for i in 0..steps-1. Tip-Adapter-F trains the keys with alpha and beta at their first values, on the same few faces,
newly augmented (AdamW, epsilon 1e-4, cosine to 0), and searches afterwards.

Departures: Tip-Adapter-F keeps its last epoch, or with the selection `source-val` the best on the source's validation
part (released: the best on the test set, and of that and the searched pair the better one). Faces of the cache are
drawn from the part of the source that is not for validation, whatever the selection, because the search needs faces the
cache has not seen. The range of the search differs between the released configurations; here it is the widest. Faces
are cropped and mirrored at the size they are kept in, then resized. Where a backbone has no text tower,
`classifier=prototypes` puts the direction of each expression's mean feature (over all faces that are not for
validation, so more than the few shots) in the place of w: another method in that respect, chosen by name only.
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

SCALE = 100.0
BLOCK = 256


@dataclass
class TipAdapter(Method):
    """A few faces per expression correct what the words get wrong, and the words keep the rest."""

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("features",)
    # The packaged encoder, which suites with this recipe name, has no text tower.
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"classifier": "prototypes"}}

    backbone: Backbone = "suite"  # the frozen encoder
    classifier: Literal["text", "prototypes"] = "text"  # what w is; text needs a backbone with a text tower
    names: Literal["several", "one"] = "several"  # words per expression
    shots: int | None = 16  # faces per expression in the cache; null: all of them
    rounds: int = 10  # how often each is augmented for its key; 0: the face as it is
    finetune: bool = False  # whether the keys are trained (Tip-Adapter-F)
    search_scale: tuple[float, ...] = (12.0, 10.0)  # the search ends before these beta and alpha
    search_steps: tuple[int, ...] = (200, 20)  # how many of each it tries
    first_beta: float = 1.0  # while the keys are trained
    first_alpha: float = 1.17  # while the keys are trained
    epochs: int = 20  # passes over the cached faces, with finetune
    batch_size: int = 256  # faces per step, with finetune
    learning_rate: float = 1e-3  # at its highest, with finetune
    weight_decay: float = 0.01  # decoupled, with finetune

    def fit(self, source: Source, ctx: Context) -> None:
        if (len(self.search_scale), len(self.search_steps)) != (2, 2) or min(self.search_steps) < 1:
            raise BenchError(
                f"search_scale {self.search_scale} and search_steps {self.search_steps} of tip_adapter each take two "
                f"numbers, for beta and for alpha, with one step or more"
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
        """Raw features (N, C) of augmented faces, float32."""
        parts = []
        for index in (torch.arange(len(faces)) if rows is None else rows).split(BLOCK):
            images, draws = faces.faces(index.numpy()).to(ctx.device), ctx.draws(index.to(ctx.device), *names)
            parts.append(self.encoder(random_flip(random_crop(images, draws), draws)))
        return torch.cat(parts)

    def _trained(self, faces: Split, labels: Tensor, held: Tensor, held_labels: Tensor, ctx: Context) -> Tensor:
        """The keys after training."""
        selecting, best, kept = ctx.selection == "source-val", -1.0, self.keys
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
                    said = tip_logits(held, self.classes, keys, self.values, self.first_alpha, self.first_beta)
                values["val_accuracy"] = score = (said.argmax(1) == held_labels).double().mean().item()
                if score > best:
                    best, ctx.selected_epoch, kept = score, epoch + 1, keys.detach().clone()
            ctx.epoch_done(epoch + 1, self.epochs, **values)
        return kept if selecting else keys.detach()

    def predict(self, images: Tensor) -> Tensor:
        features = functional.normalize(self.encoder(images), dim=1)
        return tip_logits(features, self.classes, self.keys, self.values, self.alpha, self.beta)


def cache_keys(raw: Tensor) -> Tensor:
    """Unit keys (N, C) from raw features of several rounds (rounds, N, C)."""
    return functional.normalize(raw.mean(0), dim=1)


def cache_logits(affinity: Tensor, values: Tensor, beta: float) -> Tensor:
    """What the cache says (N, K). affinity: cosines with the keys (N, M), values: one-hot labels of the keys (M, K)."""
    return torch.exp(-beta * (1.0 - affinity)) @ values


def text_logits(features: Tensor, classes: Tensor) -> Tensor:
    """What the class vectors (K, C) say of unit features (N, C)."""
    return SCALE * features @ classes.T


def tip_logits(features: Tensor, classes: Tensor, keys: Tensor, values: Tensor, alpha: float, beta: float) -> Tensor:
    """(N, K) from unit features (N, C), class vectors (K, C), keys (M, C) and their one-hot labels (M, K)."""
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
    """(alpha, beta): the first pair with the most right answers on unit features (N, C). scale, steps: of beta and
    alpha.
    """
    betas, alphas = (
        [i * (end - 0.1) / count + 0.1 for i in range(count)] for end, count in zip(scale, steps, strict=True)
    )
    right = torch.zeros(len(betas), len(alphas), dtype=torch.int64, device=features.device)
    weights = torch.tensor(alphas, dtype=features.dtype, device=features.device)[:, None, None]
    for block, wanted in zip(features.split(BLOCK), labels.split(BLOCK), strict=True):
        words, affinity = text_logits(block, classes), block @ keys.T
        for place, beta in enumerate(betas):
            said = (words + weights * cache_logits(affinity, values, beta)).argmax(2)
            right[place] += (said == wanted).sum(1)
    scores = right.flatten().tolist()
    beta_place, alpha_place = divmod(scores.index(max(scores)), len(alphas))
    return alphas[alpha_place], betas[beta_place]


def few_shots(split: Split, shots: int | None, generator: torch.Generator) -> Tensor:
    """Positions of `shots` faces of every expression, or of all there are, ascending."""
    order = torch.randperm(len(split), generator=generator)
    labels = torch.from_numpy(split.labels)[order]
    return torch.cat([order[labels == label][:shots] for label in range(len(EXPRESSIONS))]).sort().values


def mean_directions(features: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The direction (classes, C) of each class's mean unit feature; zeros for a class without faces."""
    members = functional.one_hot(labels, classes).to(features)
    return functional.normalize(members.T @ functional.normalize(features, dim=1), dim=1)
