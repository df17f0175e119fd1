"""CLIP zero-shot: predict the expression whose description is nearest to the image, without training.

Source: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (ICML 2021);
github.com/openai/CLIP at d05afc4, with its templates and names for FER2013. x are unit image features, and k the
classes.

    w_k = unit(mean over names and templates of unit(text(template(name))))
    logits_k = exp(logit_scale) * <x, w_k>.

OpenAI's networks have an exp(logit_scale) of 100.

Departures: the release gives some expressions several names and does not describe how they are merged. Here all
sentences of an expression are averaged (`names=one` takes one name each, as CLIP_benchmark does). Images are squeezed
to the network's square; the release resizes the short side and crops the centre, which is the same for square images.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional

from fergen_bench import Backbone, Context, Method, Source, prompt_names


@dataclass
class ZeroShot(Method):
    """The accuracy of the pretrained encoder without any labelled image."""

    version: ClassVar[int] = 1
    group: ClassVar[str] = "zero-shot"
    needs: ClassVar[tuple[str, ...]] = ("features", "text")
    learns_prior: ClassVar[bool] = False

    backbone: Backbone = "suite"  # the frozen encoder; it needs a text tower
    names: Literal["several", "one"] = "several"  # names per expression

    def fit(self, source: Source, ctx: Context) -> None:
        self.encoder = ctx.backbone(self.backbone)
        tower = ctx.text_tower(self.backbone)
        self.classes, self.scale = tower.class_vectors(prompt_names(self.names)), tower.scale

    def predict(self, images: Tensor) -> Tensor:
        return self.scale * functional.normalize(self.encoder(images), dim=1) @ self.classes.T
