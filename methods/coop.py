"""CoOp: learn the words before the names of the expressions, as vectors, and keep both towers of a CLIP frozen.

Source: Zhou et al., "Learning to Prompt for Vision-Language Models" (IJCV 2022); github.com/KaiyangZhou/CoOp at
ff61507. M vectors v are read by the text tower in place of embedded words. x are unit image features.

    prompt of k:  [start] v_1 ... v_M [name of k] [.] [end]
    logits_k = exp(logit_scale) * <x, unit(text(prompt of k))>;    L = ce(logits, y).

The name may stand in the middle or in front (`position`); the full stop stays behind the vectors then. In the middle,
the first half has the smaller part of an odd M. With `shared=false` every expression has vectors of its own. With
`words` the vectors start from these words, M is their number, and they are shared in any case, as released; otherwise
they start from N(0, 0.02^2).

Departures: the vectors learn from features of un-augmented images, computed once (released: of random crops and mirror
images, live), and from all images of the source, not from a few per class. The warm-up takes a tenth of the steps
(released: one epoch at 1e-5). The released 200 epochs are for 16 images per class; the default of 50 is theirs for
ImageNet. The names are adjectives, the first of each expression in CLIP's prompts for FER2013.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from fergen_bench import (
    EXPRESSIONS,
    Backbone,
    Batch,
    BenchError,
    Context,
    GradientMethod,
    Inputs,
    Rows,
    Split,
    TextTower,
    prompt_names,
)


@dataclass
class CoOp(GradientMethod):
    """The best description of an expression need not consist of words."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "frozen features"
    needs: ClassVar[tuple[str, ...]] = ("features", "text")
    recipes: ClassVar[dict[str, dict[str, Any]]] = {"small": {"context": 4}}

    epochs: int = 50  # passes over the source
    batch_size: int = 32  # images per step
    learning_rate: float = 2e-3  # highest value of the schedule
    weight_decay: float = 5e-4  # coupled L2 with adam and sgd, decoupled with adamw
    optimizer: Literal["adam", "adamw", "sgd"] = "sgd"  # sgd has momentum 0.9
    schedule: Literal["exponential", "cosine", "constant"] = "cosine"  # cosine: warm-up over a tenth, then to 0
    backbone: Backbone = "suite"  # the network with a text tower
    context: int = 16  # M, the number of vectors
    words: str = ""  # words that the vectors start from, such as "a photo of a"; empty: random numbers
    position: Literal["end", "middle", "front"] = "end"  # of the name
    shared: bool = True  # whether the expressions have the same vectors

    def build(self, ctx: Context) -> nn.Module:
        self.encoder, self.tower = ctx.backbone(self.backbone), ctx.text_tower(self.backbone)
        embed = embedding_of(self.tower)
        names = [name for (name,) in prompt_names("one")]
        start = self.tower.tokens([self.words])[0]
        count = words_in(start) if self.words else self.context
        self._lengths = [words_in(tokens) for tokens in self.tower.tokens(names)]
        _check_length(count, max(self._lengths), len(start), self.backbone)
        tokens = self.tower.tokens(sentences(names, self.words or " ".join(["X"] * count)))
        with torch.no_grad():
            embedded = embed(tokens).float()
            initial = word_vectors(embed(start).float(), start)
        self._tokens, self._prefix, self._suffix = tokens, embedded[:, :1], embedded[:, 1 + count :]
        self._cached: tuple[int, Tensor] | None = None
        if not self.words:
            shape = (count, embedded.shape[2]) if self.shared else (len(EXPRESSIONS), count, embedded.shape[2])
            initial = 0.02 * torch.randn(shape)
        return nn.ParameterDict({"context": nn.Parameter(initial.clone())})

    def inputs(self, split: Split, ctx: Context) -> Inputs:
        return Rows(ctx.features(self.encoder, split)[0])

    def loss(self, batch: Batch) -> Tensor:
        return functional.cross_entropy(classified(batch.images, self._text_features(), self.tower.scale), batch.labels)

    def logits(self, images: Tensor) -> Tensor:
        context = self.model["context"]
        if self._cached is None or self._cached[0] != context._version:
            self._cached = context._version, self._text_features().detach()
        return classified(self.encoder(images), self._cached[1], self.tower.scale)

    def _text_features(self) -> Tensor:
        """Return the text feature of each expression, not normalised."""
        prompts = joined(self._prefix, self.model["context"], self._suffix, self._lengths, self.position)
        return encoded(self.tower, prompts, self._tokens)


def sentences(names: Sequence[str], start: str) -> list[str]:
    """Return the sentence that is tokenised for each name: the words before it, the name and a full stop."""
    return [f"{start} {name.replace('_', ' ')}." for name in names]


def words_in(tokens: Tensor) -> int:
    """Return the number of tokens, int64 (length,), between the start and the end of the text."""
    return int(tokens.argmax()) - 1  # the end has the largest number of all tokens


def word_vectors(embedded: Tensor, tokens: Tensor) -> Tensor:
    """Return the vectors of the words of a text, (M, D), from its embedded tokens (length, D) and its tokens."""
    return embedded[1 : 1 + words_in(tokens)]


def joined(prefix: Tensor, context: Tensor, suffix: Tensor, lengths: Sequence[int], position: str) -> Tensor:
    """Return the prompt of each class as the text tower reads it.

    Args:
        prefix: The embedded start of the text, (K, 1, D).
        context: v, (M, D); or (K, M, D), one for each class.
        suffix: The embedded tokens behind the vectors: name, full stop, end and padding, (K, length - 1 - M, D).
        lengths: Tokens of each name.
        position: Place of the name: end, middle or front.

    Returns:
        (K, length, D).
    """
    if context.dim() == 2:
        context = context.expand(len(prefix), -1, -1)
    before = {"end": context.shape[1], "middle": context.shape[1] // 2, "front": 0}[position]
    return torch.stack(
        [
            torch.cat([start, own[:before], rest[:length], own[before:], rest[length:]])
            for start, own, rest, length in zip(prefix, context, suffix, lengths, strict=True)
        ]
    )


def embedding_of(tower: TextTower) -> nn.Module:
    """Return the module of a text tower that embeds tokens.

    Raises:
        BenchError: The tower does not read tokens as CLIP's does.
    """
    body = getattr(tower.body, "text", tower.body)
    embed = getattr(body, "token_embedding", None)
    pool = getattr(body, "pool_type", getattr(body, "text_pool_type", None))
    if embed is None or pool != "argmax":
        raise BenchError(
            f"coop: the text tower of {tower.name} is not built like CLIP's, whose text ends with the largest token; "
            f"choose another backbone, such as open_clip:ViT-B-32/openai"
        )
    module: nn.Module = embed
    return module


def encoded(tower: TextTower, prompts: Tensor, tokens: Tensor) -> Tensor:
    """Return the text features of prompts.

    Args:
        tower: The text tower.
        prompts: Embedded prompts, (K, length, D).
        tokens: int64 (K, length); the largest number of a row marks the end of its prompt.

    Returns:
        (K, features), not normalised.
    """
    hook = embedding_of(tower).register_forward_hook(lambda module, inputs, output: prompts)
    try:
        return tower(tokens)
    finally:
        hook.remove()


def classified(features: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """Return logits (N, K) from image features (N, C), text features (K, C) and exp(logit_scale), a scalar."""
    # Times the scale, the rounding error of a cosine in half precision exceeds the distance of some classes.
    with torch.autocast(features.device.type, enabled=False):
        text = functional.normalize(text.to(features), dim=1)
        return scale * functional.normalize(features, dim=1) @ text.T


def _check_length(count: int, name: int, length: int, backbone: str) -> None:
    fits = length - name - 3  # the start, the full stop and the end
    if not 1 <= count <= fits:
        raise BenchError(
            f"coop: the context has {count} vectors, and the text tower of {backbone} reads {length} tokens; set "
            f"context to 1 to {fits}, or choose other words"
        )
