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
    """The text tower of a CLIP, which maps texts to the space of its image features.

    It computes in float32, except under autocast in a training.
    """

    body: Any

    def __init__(self, name: str, body: nn.Module, tokenize: Callable[[list[str]], Tensor]) -> None:
        super().__init__()
        self.name, self.body, self._tokenize = name, body, tokenize
        self.digest = ""
        self.notes: tuple[str, ...] = ()
        self._cached: tuple[Any, Tensor] | None = None

    @property
    def scale(self) -> Tensor:
        """The factor exp(logit_scale) of cosine similarities, a scalar tensor."""
        return self.body.logit_scale.exp().reshape(())

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Return tokens int64 (len(texts), length) on the device of the tower."""
        return self._tokenize(list(texts)).to(self.body.logit_scale.device)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return vectors (T, features), not normalised, of tokens int64 (T, length)."""
        with repeatable_attention(tokens.device):
            return self.body.encode_text(tokens)

    def class_vectors(
        self, names: Sequence[Sequence[str]] = prompt_names(), templates: Sequence[str] = PROMPT_TEMPLATES
    ) -> Tensor:
        """Return one unit vector per class.

        It is the normalised mean over the names of the class and all templates of the unit vectors of the sentences.
        Without gradients, the result is reused until a weight is written.

        Args:
            names: The names of each of K classes.
            templates: Sentences with the placeholder `{}` for a name.

        Returns:
            float32 (K, features).
        """
        request = (tuple(map(tuple, names)), tuple(templates), self._state())
        if not torch.is_grad_enabled() and self._cached is not None and self._cached[0] == request:
            return self._cached[1]
        texts = [template.format(name) for several in names for name in several for template in templates]
        sentences = functional.normalize(self(self.tokens(texts)).float(), dim=1)
        sizes = [len(several) * len(templates) for several in names]
        vectors = functional.normalize(torch.stack([part.mean(0) for part in sentences.split(sizes)]), dim=1)
        if not torch.is_grad_enabled():
            self._cached = request, vectors
        return vectors

    def freeze(self) -> TextTower:
        """Disable gradients, switch to evaluation mode, and return the tower."""
        self.requires_grad_(False)
        return self.eval()

    def _state(self) -> int:
        """Return a value that changes when a weight is written."""
        return sum(tensor._version for tensor in (*self.body.parameters(), *self.body.buffers()))
