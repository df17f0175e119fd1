"""The text tower of a vision-language model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional

from fergen_bench.networks.kernels import repeatable_attention
from fergen_bench.networks.prompts import PROMPT_TEMPLATES, prompt_names

if TYPE_CHECKING:
    from torch import Tensor


class TextTower(nn.Module):
    """The text side of a CLIP, in the space of its image features: tokens int64 (T, length) → vectors (T, features),
    which are not normalised. Always in float32, apart from a training under autocast.
    """

    body: Any

    def __init__(self, name: str, body: nn.Module, tokenize: Callable[[list[str]], Tensor]) -> None:
        super().__init__()
        self.name, self.body, self._tokenize = name, body, tokenize
        self.digest = ""
        self.notes: tuple[str, ...] = ()
        self._kept: tuple[Any, Tensor] | None = None

    @property
    def scale(self) -> Tensor:
        """What cosines are multiplied by, exp(logit_scale): a scalar."""
        return self.body.logit_scale.exp().reshape(())

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """int64 (len(texts), length), on the tower's device."""
        return self._tokenize(list(texts)).to(self.body.logit_scale.device)

    def forward(self, tokens: Tensor) -> Tensor:
        with repeatable_attention(tokens.device):
            return self.body.encode_text(tokens)

    def class_vectors(
        self, names: Sequence[Sequence[str]] = prompt_names(), templates: Sequence[str] = PROMPT_TEMPLATES
    ) -> Tensor:
        """Unit vectors (K, features), one per class: the mean over its names and all templates of the unit vectors of
        the sentences. Without gradients they are computed once for as long as no weight is written.
        """
        asked = (tuple(map(tuple, names)), tuple(templates), self._state())
        if not torch.is_grad_enabled() and self._kept is not None and self._kept[0] == asked:
            return self._kept[1]
        texts = [template.format(name) for several in names for name in several for template in templates]
        sentences = functional.normalize(self(self.tokens(texts)).float(), dim=1)
        sizes = [len(several) * len(templates) for several in names]
        vectors = functional.normalize(torch.stack([part.mean(0) for part in sentences.split(sizes)]), dim=1)
        if not torch.is_grad_enabled():
            self._kept = asked, vectors
        return vectors

    def freeze(self) -> TextTower:
        """No gradient, and evaluation mode."""
        self.requires_grad_(False)
        return self.eval()

    def _state(self) -> int:
        """Changes when a weight is written."""
        return sum(tensor._version for tensor in (*self.body.parameters(), *self.body.buffers()))
