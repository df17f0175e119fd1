"""T3A: replace the linear head at test time by prototypes of the test images that it is most certain of.

Source: Iwasawa and Matsuo, "Test-Time Classifier Adjustment Module for Model-Agnostic Domain Generalization" (NeurIPS
2021), as released in github.com/matsuolab/T3A at ff8cde5. W and b are the head of the base, z(x) = W x + b for a
feature x, H the entropy of softmax(z) in nats, and unit(x) = x / |x|.

    supports at first: the rows w_k of W, labelled argmax z(w_k), with entropy H(z(w_k))
    for each batch: add every x, labelled argmax z(x), with entropy H(z(x));
                    keep, of each label, the M supports with the smallest entropy;
                    score x . c_k with c_k = unit(sum over the supports s of label k of unit(s)).

As released: a row of W may be labelled as another expression, so an expression may begin without a support, and its
score is 0 until it has one. The bias counts for labels and entropies, and not for the score. x is not normalised, so
that predictions are those of a cosine and confidences are not. A batch is added before it is predicted. A support that
was dropped does not return.

`supports` is M; `supports=null` keeps all. The released code takes M = -1 for that, but its slice `[:-1]` then drops
the most uncertain support of every label at every call. There, only a large M keeps all.

Departures: supports with equal entropies are kept in the order in which they came (released: undefined). Batches have
64 images, as those of every online method here (released: 32), and the last batch is scored too (released: left out).
Published numbers choose M on held-out images of the sources for each network; here M is one number for all. The base is
the linear probe; any base whose logits are those of one linear layer is possible. Nothing is trained, so no learning
rate is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from fergen_bench import BenchError, Context, Method, OnlineMethod
from fergen_bench.training.linear_head import linear_head


@dataclass
class T3a(OnlineMethod):
    """Confident test images show better than the source where the expressions of a target lie."""

    version: ClassVar[int] = 1
    learns_prior: ClassVar[bool] = False

    base: str = "linear_probe"  # the fitted method with a linear head, and its settings: NAME PARAMETER=VALUE
    supports: int | None = 100  # M: supports kept of each expression; null: all

    def start(self, base: Method, ctx: Context) -> None:
        if self.supports is not None and self.supports < 1:
            raise BenchError(f"t3a: supports is {self.supports}; it must be 1 or more, or null for all")
        head = linear_head(base, ctx.device)
        if head is None:
            raise BenchError(
                f"t3a: the logits of its base, {type(base).__name__}, are not those of one linear layer, whose weights "
                f"T3A starts from; choose another, such as --set base=linear_probe"
            )
        self._head = head
        self.reset()

    def reset(self) -> None:
        self._supports = first_supports(self._head.weight, self._head.bias)

    def predict(self, images: Tensor) -> Tensor:
        features = self._head.features(images)
        self._supports = filtered(
            added(self._supports, features, self._head.weight, self._head.bias), self.supports, len(self._head.bias)
        )
        return scores(features, self._supports, len(self._head.bias))


class Supports(NamedTuple):
    """Features with the labels that the head gives them.

    Attributes:
        features: (S, C).
        labels: int64 (S,).
        entropy: (S,), in nats.
    """

    features: Tensor
    labels: Tensor
    entropy: Tensor


def labelled(features: Tensor, weight: Tensor, bias: Tensor) -> Supports:
    """Return features (N, C) with their labels and entropies under a head of weight (K, C) and bias (K,)."""
    logits = functional.linear(features, weight, bias)
    entropy = -(logits.softmax(1) * logits.log_softmax(1)).sum(1)
    return Supports(features, logits.argmax(1), entropy)


def first_supports(weight: Tensor, bias: Tensor) -> Supports:
    """Return the supports before the first batch: the rows of the weight (K, C)."""
    return labelled(weight, weight, bias)


def added(supports: Supports, features: Tensor, weight: Tensor, bias: Tensor) -> Supports:
    """Return supports with the features (N, C) of a batch at their end."""
    new = labelled(features, weight, bias)
    return Supports(*(torch.cat(pair) for pair in zip(supports, new, strict=True)))


def filtered(supports: Supports, most: int | None, classes: int) -> Supports:
    """Return the supports with the smallest entropies of each label, by label and then by entropy.

    Args:
        supports: All supports.
        most: M, the end of the slice of each label's supports; None keeps all. A negative number counts from the end.
        classes: K.
    """
    kept = []
    for label in range(classes):
        (rows,) = torch.nonzero(supports.labels == label, as_tuple=True)
        kept.append(rows[supports.entropy[rows].argsort(stable=True)][:most])
    chosen = torch.cat(kept)
    return Supports(*(values[chosen] for values in supports))


def scores(features: Tensor, supports: Supports, classes: int) -> Tensor:
    """Return the scores (N, K) of features (N, C); those of a label without supports are 0."""
    members = functional.one_hot(supports.labels, classes).to(features)
    return features @ functional.normalize(members.T @ functional.normalize(supports.features, dim=1), dim=1).T
