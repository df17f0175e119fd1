"""CLIP zero-shot: the expression whose description is nearest to the face; nothing is learned from the source.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021);
github.com/openai/CLIP at d05afc4, with its templates and names for FER2013. For unit image features x and classes k:

    w_k = unit(mean over names and templates of unit(text(template(name))))
    logits_k = exp(logit_scale) * <x, w_k>                                    exp(logit_scale) is 100 for OpenAI's

Departures: the release gives some expressions several names and does not say how they are merged; here all sentences of
an expression are averaged (`names=one` takes one name each, as CLIP_benchmark does). Faces are squashed to the
network's square; the release resizes the short side and cuts the centre, which is the same for square faces.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from fergen_bench import Backbone, Context, Method, Source, prompt_names


@dataclass
class ZeroShot(Method):
    """What the encoder knows of expressions before it has seen a labelled face."""

    version: ClassVar[int] = 1
    needs: ClassVar[tuple[str, ...]] = ("features", "text")

    backbone: Backbone = "suite"  # the frozen encoder, with a text tower
    names: Literal["several", "one"] = "several"  # words per expression

    def fit(self, source: Source, ctx: Context) -> None:
        self.encoder = ctx.backbone(self.backbone)
        tower = ctx.text_tower(self.backbone)
        self.classes, self.scale = tower.class_vectors(prompt_names(self.names)), tower.scale

    def predict(self, images: Tensor) -> Tensor:
        return self.scale * functional.normalize(self.encoder(images), dim=1) @ self.classes.T
