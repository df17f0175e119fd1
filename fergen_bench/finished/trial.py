"""Trials of conventions of a finished model: when one fits better than another, and the result of a search."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fergen_bench.datasets.numbering import ORDERS
from fergen_bench.finished.convention import Convention, Range
from fergen_bench.metric import fit_temperature
from fergen_bench.wording import many

SURE = 4.0
"""Standard errors by which one convention must explain the labels better than another."""
SURE_RIGHT = 2.0
"""Standard errors by which it must predict more images right, counting those that one of the two predicts right."""
SHIFT = 0.02
"""Accuracy that other pixels must gain. Less may be due to the difference between the domain and the images that the
model was trained on: a little more brightness or contrast than is right can make up for it."""
LEAST_GAIN = 5.0
"""Nats by which it must, beyond those of its order of classes."""

Normalisation = tuple[Range, tuple[float, ...], tuple[float, ...]]
NORMALISATIONS: Mapping[str, Normalisation] = {
    "0 to 1": ("0-1", (0.0,), (1.0,)),
    "-1 to 1": ("0-1", (0.5,), (0.5,)),
    "0 to 255": ("0-255", (0.0,), (1.0,)),
    "ImageNet": ("0-1", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CLIP": ("0-1", (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "per image": ("per-image", (0.0,), (1.0,)),
    "Caffe, VGGFace": ("0-255", (93.5940, 104.7624, 129.1863), (1.0,)),
    "Caffe, VGGFace2": ("0-255", (91.4953, 103.8827, 131.0912), (1.0,)),
    "Caffe, ImageNet": ("0-255", (103.939, 116.779, 123.68), (1.0,)),
    "face-api.js": ("0-1", (0.4815, 0.4588, 0.4090), (1.0,)),
    "-0.5 to 0.5": ("0-1", (0.5,), (1.0,)),
    "-128 to 127": ("0-255", (127.5,), (1.0,)),
}
"""Normalisations by name. Those of Caffe are for BGR."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "classes": ("classes",),
    "layout": ("layout",),
    "colour": ("colour",),
    "normalisation": ("range", "mean", "deviation"),
    "size": ("size",),
    "filter": ("filter",),
}
"""Parts of a convention, and the fields that belong to each."""


@dataclass(frozen=True)
class Trial:
    """A convention with what the outputs under it explain.

    Attributes:
        convention: The convention.
        likelihoods: Log-likelihood of the label of each image, float (N,), in nats.
        cost: Nats that its order of classes costs: the logarithm of the number of orders that it was chosen from.
        right: Images that are predicted right, bool (N,).
    """

    convention: Convention
    likelihoods: np.ndarray
    cost: float
    right: np.ndarray

    @property
    def score(self) -> float:
        """The log-likelihood of all labels minus the cost, in nats."""
        return float(self.likelihoods.sum()) - self.cost

    @property
    def accuracy(self) -> float:
        """The share of the images that are predicted right."""
        return float(self.right.mean())

    def beats(self, other: Trial) -> bool:
        """Return True where this convention fits significantly better than another.

        It must explain the labels better, and predict more of them right: by SHIFT, if the orders of classes are equal.
        Half the contrast may make a model less certain, and hence its errors more likely, without a better prediction.
        """
        apart = self.likelihoods - other.likelihoods
        error = apart.std(ddof=1) * math.sqrt(len(apart)) + 1e-12
        explains = self.score - other.score > LEAST_GAIN and apart.sum() / error > SURE
        only, other_only = int((self.right & ~other.right).sum()), int((other.right & ~self.right).sum())
        least = SHIFT * len(apart) if self.convention.classes == other.convention.classes else 0.0
        return bool(explains) and only - other_only > max(least, SURE_RIGHT * math.sqrt(only + other_only))


@dataclass(frozen=True)
class Fault:
    """A part of the stated convention that another value fits significantly better.

    Attributes:
        part: A key of GROUPS.
        stated: The stated value, in words.
        found: The value that fits better, in words.
    """

    part: str
    stated: str
    found: str

    def __str__(self) -> str:
        """Return the fault as part of a sentence."""
        return f"{self.part}: {self.stated} is stated, and {self.found} fits better"


@dataclass(frozen=True)
class Found:
    """The result of a search.

    Attributes:
        domain: The domain whose training images were used.
        images: Their number.
        best: The convention that fits best; parts that do not matter are as stated, or usual.
        stated: The stated convention, with what is not stated from `best`.
        faults: The parts in which the two differ.
        alike: Parts that are not stated, and other values of them that fit as well, each with its accuracy.
        baseline: The log-likelihood of the labels from their frequencies alone, in nats.
        trials: The trials on all images, best first.
        margin: A trial with another margin that fits significantly better; None if none does. It depends on how the
            faces of the domain are cropped, so it is reported and not chosen.
    """

    domain: str
    images: int
    best: Trial
    stated: Trial
    faults: tuple[Fault, ...]
    alike: tuple[tuple[str, str], ...]
    baseline: float
    trials: tuple[Trial, ...] = field(default=(), repr=False)
    margin: Trial | None = None

    @property
    def fits(self) -> bool:
        """False where the best convention explains the labels no better than their frequencies do."""
        return self.best.score > self.baseline + LEAST_GAIN

    @property
    def sentences(self) -> Iterator[str]:
        """The result in sentences; faults come first."""
        where = f"on {many(self.images, 'training image')} of {self.domain}"
        if not self.fits:
            yield (
                f"No usual convention fits {where}: the best predicts {100 * self.best.accuracy:.1f} %, and its scores "
                f"explain the labels no better than their frequencies do"
            )
            return
        for fault in self.faults:
            yield (
                f"{fault}: {100 * self.best.accuracy:.1f} % instead of {100 * self.stated.accuracy:.1f} % are right "
                f"{where}"
            )
        second = next((t for t in self.trials if t.convention != self.best.convention and self.best.beats(t)), None)
        behind = "" if second is None else f"; the next different one: {100 * second.accuracy:.1f} %"
        classes = described("classes", self.best.convention)
        yield (
            f"The convention that fits best {where}: {self.best.convention}; classes {classes}; "
            f"{100 * self.best.accuracy:.1f} %{behind}"
        )
        for part, values in self.alike:
            yield f"Ambiguous: {part}: {values} would fit about as well"
        if self.margin is not None:
            yield (
                f"With a margin of {self.margin.convention.margin:+g}, {100 * self.margin.accuracy:.1f} % are right: "
                f"the faces of {self.domain} seem to be cropped otherwise than those that the model was trained on"
            )


def differs(one: Convention, other: Convention, names: Sequence[str]) -> bool:
    """Return True where two conventions differ in one of some fields."""
    return any(getattr(one, name) != getattr(other, name) for name in names)


def described(part: str, convention: Convention) -> str:
    """Return a part of a convention in words."""
    if part == "classes":
        named = next((name for name, order in ORDERS.items() if order == convention.classes), "")
        order = ",".join(name or "-" for name in convention.classes)
        return f"{order} (as {named})" if named else order
    if part == "normalisation":
        own = (convention.range, convention.mean, convention.deviation)
        named = next((name for name, values in NORMALISATIONS.items() if values == own), "")
        mean, deviation = (" ".join(f"{v:g}" for v in values) for values in own[1:])
        return named or f"{own[0]}, mean {mean}, deviation {deviation}"
    if part == "size":
        return "any size" if convention.size is None else "{} x {}".format(*convention.size)
    return str(getattr(convention, part))


def explained(convention: Convention, cost: float, outputs: np.ndarray, labels: np.ndarray) -> Trial:
    """Return a trial: how well outputs explain labels under a convention, after temperature scaling."""
    logits = convention.logits(outputs).astype(np.float64)
    scale = max(1e-9, float(np.median(logits.max(1) - np.median(logits, 1))))
    logits = logits / scale * 4.0  # within the reach of `fit_temperature`, whatever the scale of the outputs
    logits = np.maximum(logits, logits.max(1, keepdims=True) - 60.0)
    logits /= fit_temperature(logits, labels)
    shifted = logits - logits.max(1, keepdims=True)
    likelihoods = shifted[np.arange(len(labels)), labels] - np.log(np.exp(shifted).sum(1))
    return Trial(convention, likelihoods, cost, logits.argmax(1) == labels)
